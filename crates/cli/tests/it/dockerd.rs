//! A Docker daemon of a test's own, which may be killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{eventually, on_path, processes_mentioning, require};

/// Starting takes a daemon some seconds, on a busy machine more.
const PATIENCE: Duration = Duration::from_secs(120);

/// The daemon, and everything that it keeps.
pub(crate) struct Dockerd {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Dockerd {
    /// Starts one; `None`, said aloud, where that cannot be done.
    pub(crate) fn start() -> Option<Self> {
        let possible = rustix::process::geteuid().is_root() && on_path("dockerd") && on_path("docker");
        let excused = std::env::var_os("KUBETASK_CI_WITHOUT_DOCKER").is_some();
        if !possible && (excused || !require("the right and a program to start a Docker daemon", possible)) {
            eprintln!("SKIPPED: no Docker daemon can be started");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ktd").tempdir().unwrap();
        let mut this = Self { dir, daemon: None };
        if let Err(log) = this.spawn(false) {
            assert!(excused || std::env::var_os("CI").is_none(), "dockerd does not start: {log}");
            eprintln!("SKIPPED: dockerd does not start here: {log}");
            return None;
        }
        Some(this)
    }

    /// Where it listens.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Of whose control groups are the containers'.
    fn group(&self) -> String {
        self.dir.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Starts the daemon; `again`: after another one, which may still be in its way for a moment.
    fn spawn(&mut self, again: bool) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
            let mut daemon = Command::new("dockerd")
                .args(["--iptables=false", "--bridge=none"])
                .arg(format!("--data-root={}", self.path("data").display()))
                .arg(format!("--exec-root={}", self.path("exec").display()))
                .arg(format!("--pidfile={}", self.path("pid").display()))
                .arg(format!("--cgroup-parent=/{}", self.group()))
                .arg(format!("--host={}", self.host()))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            while began.elapsed() < PATIENCE && daemon.try_wait().unwrap().is_none() {
                let info = Command::new("docker").arg("info").env("DOCKER_HOST", self.host()).output();
                if info.is_ok_and(|info| info.status.success()) {
                    self.daemon = Some(daemon);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
            if !again || began.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
                return Err(log.lines().last().unwrap_or_default().to_owned());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `kill -9`, and another one.
    pub(crate) fn restart(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        self.spawn(true).unwrap();
    }

    /// The processes that it keeps beside its containers.
    fn helpers(&self, what: &str) -> Vec<i32> {
        let exec = self.path("exec").display().to_string();
        let mut found = processes_mentioning(&exec);
        found.retain(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).split('\0').next().is_some_and(|program| program.ends_with(what))
        });
        found
    }

    fn all_mounts(&self) -> BTreeSet<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.path().display().to_string();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&own)).map(str::to_owned).collect()
    }

    /// The containers that are left. A daemon that is killed while it makes or starts one forgets that it did: a shim, a
    /// mount and control groups of that container stay until somebody ends them by hand. Nobody can be asked to, and they
    /// are not counted.
    pub(crate) fn containers(&self) -> Vec<String> {
        let listed = Command::new("docker").args(["ps", "-aq"]).env("DOCKER_HOST", self.host()).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    }

    /// The control groups above those of its containers, one a hierarchy.
    fn groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let mut found = vec![root.join(self.group())];
        found.extend(directories(root).into_iter().map(|hierarchy| hierarchy.join(self.group())));
        found.retain(|group| group.is_dir());
        found
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
        let began = Instant::now();
        while daemon.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
        for pid in self.helpers("containerd-shim-runc-v2").into_iter().chain(self.helpers("containerd")) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        let mounts: Vec<String> = self.all_mounts().into_iter().rev().collect();
        for mount in mounts {
            let _ = Command::new("umount").arg(&mount).stderr(Stdio::null()).status();
        }
        for group in self.groups() {
            let _ = directories(&group).iter().try_for_each(std::fs::remove_dir);
            let _ = std::fs::remove_dir(group);
        }
        if !std::thread::panicking() {
            eventually("nothing of it is mounted", PATIENCE, || self.all_mounts().is_empty());
        }
    }
}
