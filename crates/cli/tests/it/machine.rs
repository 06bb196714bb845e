//! A machine of its own for a test: a data directory, the binary, and nothing left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub(crate) const KUBETASK: &str = env!("CARGO_BIN_EXE_kubetask");

/// A data directory and the servers that run for it.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    server: Option<Child>,
    temporary: Option<PathBuf>,
    docker_host: Option<String>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Machine {
    /// A machine on which nothing has run yet.
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("kt").tempdir().unwrap(),
            server: None,
            temporary: None,
            docker_host: None,
        }
    }

    /// A machine whose server runs.
    pub(crate) fn up() -> Self {
        let mut machine = Self::new();
        machine.start();
        machine
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory of their own for temporary files of all that is started from here on.
    pub(crate) fn temporary_files(&mut self) -> PathBuf {
        let path = self.path("tmp");
        std::fs::create_dir_all(&path).unwrap();
        self.temporary = Some(path.clone());
        path
    }

    /// The Docker daemon of all that is started from here on; else it is that of whoever runs the tests.
    pub(crate) fn use_docker(&mut self, host: String) {
        self.docker_host = Some(host);
    }

    pub(crate) fn docker_host(&self) -> Option<&str> {
        self.docker_host.as_deref()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    /// A directory for the test's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the test's own.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KUBETASK);
        command.args(args).env("KUBETASK_DATA_DIR", self.data_dir()).env_remove("KUBECONFIG").env("NO_COLOR", "1");
        if let Some(path) = &self.temporary {
            command.env("TMPDIR", path);
        }
        if let Some(host) = &self.docker_host {
            command.env("DOCKER_HOST", host);
        }
        // What whoever runs the tests has configured is not meant.
        let own = self.path("config.yaml");
        command.env("KUBETASK_CONFIG", if own.exists() { own } else { PathBuf::from("/dev/null") });
        command
    }

    pub(crate) fn kubetask(&self, args: &[&str]) -> Outcome {
        self.command(args).stdin(Stdio::null()).output().unwrap().into()
    }

    pub(crate) fn kubetask_with_input(&self, args: &[&str], input: &str) -> Outcome {
        with_input(self.command(args), input)
    }

    /// Starts the server in the foreground of a child process and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with further arguments of `kubetask up`.
    pub(crate) fn start_with(&mut self, args: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("up.log")).unwrap();
        let child = self
            .command(&["up"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.server = Some(child);
        let started = Instant::now();
        loop {
            let info = std::fs::read_to_string(self.data_dir().join("server.json")).unwrap_or_default();
            if info.contains(&format!("\"pid\": {pid},")) {
                return;
            }
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                panic!("up ended with {status}: {}", std::fs::read_to_string(self.path("up.log")).unwrap());
            }
            assert!(started.elapsed() < Duration::from_secs(120), "up does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` of the server.
    pub(crate) fn kill_server(&mut self) {
        let mut child = self.server.take().expect("a server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `kill -9` of the server, and another one.
    pub(crate) fn restart(&mut self) {
        self.kill_server();
        self.start();
    }

    /// SIGTERM to the server; returns its exit code.
    pub(crate) fn terminate_server(&mut self) -> i32 {
        let mut child = self.server.take().expect("a server runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code().unwrap_or(-1)
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("a server runs").id()
    }

    /// A kubectl command; `None` where there is no kubectl.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Option<Outcome> {
        Some(self.kubectl_command(args)?.stdin(Stdio::null()).output().unwrap().into())
    }

    pub(crate) fn kubectl_with_input(&self, args: &[&str], input: &str) -> Option<Outcome> {
        Some(with_input(self.kubectl_command(args)?, input))
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Option<Command> {
        if !require("kubectl", Path::new("/usr/bin/kubectl").exists() || on_path("kubectl")) {
            return None;
        }
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.path());
        Some(command)
    }

    /// A value of a Task by JSON pointer; empty where it is not there.
    pub(crate) fn task_value(&self, name: &str, pointer: &str) -> String {
        let out = self.kubetask(&["get", "task", name, "-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&out.stdout).unwrap_or_default();
        match value.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_containers(&self.data_dir());
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("up.log")).unwrap_or_default();
            eprintln!("server log (end):\n{}", log.lines().rev().take(40).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Ends the shims of a data directory; their containers end with them.
fn kill_containers(data_dir: &Path) {
    for pid in processes_mentioning(&data_dir.display().to_string()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Processes with a text in their command line, this one excepted.
pub(crate) fn processes_mentioning(text: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own && String::from_utf8_lossy(&command).contains(text) {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn with_input(mut command: Command, input: &str) -> Outcome {
    use std::io::Write;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// Whether something a test needs is there. Missing is a visible skip, and a failure in CI.
pub(crate) fn require(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI must not skip");
        eprintln!("SKIPPED: {what} is missing");
    }
    there
}

/// Whether a program is on the PATH.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Polls until something holds; for what a test can only see from outside.
#[track_caller]
pub(crate) fn eventually(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < timeout, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
