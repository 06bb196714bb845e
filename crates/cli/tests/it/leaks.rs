//! Short Tasks, and random kills of agents, of their keepers, of the servers and of a Docker daemon: afterwards nothing of
//! them is left, neither processes, mounts, control groups, network namespaces, files, containers, nor stored objects, here
//! or on another cluster.
//!
//! `KUBETASK_LEAKS=10000 cargo test -p kubetask --test it leaks` for a long look.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::docker;
use crate::dockerd::Dockerd;
use crate::engines::with_cluster;
use crate::machine::{Machine, eventually, processes_mentioning};

/// How many Tasks are submitted together: at least, and at most where there are many.
const ROUND: (usize, usize) = (12, 300);
/// The machines that run tests are busy; a round that takes this long has failed.
const SOON: Duration = Duration::from_secs(180);
/// So many times something may be killed between two looks at the Tasks.
const LOOK: usize = 4;
/// Kinds of which nothing may be left.
const KINDS: [&str; 8] =
    ["tasks", "jobs", "pods", "configmaps", "secrets", "agents", "persistentvolumeclaims", "leases"];

fn tasks(usual: usize) -> usize {
    std::env::var("KUBETASK_LEAKS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

/// A server, and what its Tasks can be told by.
struct World {
    machine: Machine,
    /// Another cluster, on which the agents run.
    away: Option<Machine>,
    /// Stands in the environment of every agent.
    token: String,
    temporary: PathBuf,
    /// Objects that were there before the first Task, in each machine.
    before: Vec<BTreeSet<String>>,
    pods: BTreeSet<String>,
    dice: Dice,
    /// A daemon that may be killed.
    dockerd: Option<Dockerd>,
    killed: [usize; 4],
}

impl World {
    fn new(mut machine: Machine, away: Option<Machine>, agent: &str) -> Self {
        let token = format!("leaks-{}-{}", std::process::id(), machine.data_dir().parent().unwrap().display());
        let temporary = machine.temporary_files();
        machine.restart();
        let before = [&machine].into_iter().chain(&away).map(objects).collect();
        let agent = agent.replace("TOKEN", &token);
        machine.kubetask_with_input(&["apply", "-f", "-"], &agent).ok();
        Self {
            machine,
            away,
            token,
            temporary,
            before,
            pods: BTreeSet::new(),
            dice: Dice(7),
            dockerd: None,
            killed: [0; 4],
        }
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.machine].into_iter().chain(&self.away)
    }

    /// Submits some Tasks, kills what it meets, and waits until all have ended.
    fn round(&mut self, first: usize, count: usize) {
        let manifests: Vec<String> = (first..first + count).map(|i| self.task(i)).collect();
        self.machine.kubetask_with_input(&["apply", "-f", "-"], &manifests.join("---\n")).ok();
        let started = Instant::now();
        while !self.all_ended() {
            assert!(started.elapsed() < SOON, "{}", self.machine.kubetask(&["get", "tasks"]).stdout);
            // Looking is not cheap: many kills, then one look. Kills get rarer, so that a round comes to its end.
            for _ in 0..LOOK {
                if started.elapsed() < Duration::from_secs(2) || self.dice.below(20) == 0 {
                    self.kill_something();
                }
                std::thread::sleep(Duration::from_millis(20 + self.dice.below(120) as u64));
            }
        }
        let mut uids = Vec::new();
        for machine in self.machines() {
            let out = machine.kubetask(&["get", "pods", "-o", "json"]).ok().stdout;
            let list: Value = serde_json::from_str(&out).unwrap();
            let pods = list["items"].as_array().unwrap().iter();
            uids.extend(pods.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()));
        }
        self.pods.extend(uids);
        self.machine.kubetask(&["delete", "tasks", "--all"]).ok();
    }

    fn task(&mut self, number: usize) -> String {
        let (retries, sleep) = (self.dice.below(2), self.dice.below(9));
        format!(
            "apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {{name: t{number}}}\nspec:\n  retries: {retries}\n  \
             prompt: \"0.{sleep} {}\"\n",
            self.dice.below(3)
        )
    }

    fn all_ended(&self) -> bool {
        let out = self.machine.kubetask(&["get", "tasks", "--no-headers"]);
        out.code == 0 && out.stdout.lines().all(|line| line.contains("Completed") || line.contains("Failed"))
    }

    fn kill_something(&mut self) {
        let which = self.dice.below(8);
        // It takes long to come back, and its containers end with it.
        if which == 7
            && let Some(dockerd) = self.dockerd.as_mut().filter(|_| self.dice.below(4) == 0)
        {
            dockerd.restart();
            self.killed[3] += 1;
            return;
        }
        if which == 0 {
            let other = self.away.is_some() && self.dice.below(2) == 0;
            self.away.as_mut().filter(|_| other).unwrap_or(&mut self.machine).restart();
            self.killed[0] += 1;
            return;
        }
        let victims = if which < 3 { self.keepers() } else { marked(&self.token) };
        let victim = self.dice.below(victims.len());
        let Some(pid) = victims.get(victim).and_then(|pid| Pid::from_raw(*pid)) else { return };
        // It may have ended meanwhile.
        if kill_process(pid, Signal::KILL).is_ok() {
            self.killed[if which < 3 { 1 } else { 2 }] += 1;
        }
    }

    /// The processes that keep containers.
    fn keepers(&self) -> Vec<i32> {
        let mut all = Vec::new();
        for machine in self.machines() {
            let server = i32::try_from(machine.server_pid()).unwrap();
            let keepers = processes_mentioning(&machine.data_dir().join("containers").display().to_string());
            all.extend(keepers.into_iter().filter(|pid| *pid != server));
        }
        all
    }

    /// What is left of the Tasks, by kind of thing.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |what: &str, found: Vec<String>| {
            if !found.is_empty() {
                left.push(format!("{} {what}: {:?}", found.len(), &found[..found.len().min(5)]));
            }
        };
        let pids = |pids: Vec<i32>| pids.into_iter().map(|pid| format!("{pid} {}", command(pid))).collect::<Vec<_>>();
        note("processes of agents", pids(marked(&self.token)));
        note("keepers", pids(self.keepers()));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (machine, before) in self.machines().zip(&self.before) {
            let data = machine.data_dir();
            let text = data.parent().unwrap().display().to_string();
            // A namespace outlives its processes only where it is mounted or held open.
            note("mounts", mounts.lines().filter(|line| line.contains(&text)).map(str::to_owned).collect());
            note("open namespaces of the server", namespaces(machine.server_pid()));
            for directory in ["node/pods", "node/logs", "node/private", "containers/containers", "docker/containers"] {
                note(directory, files(&data.join(directory)));
            }
            note("containers of Docker", docker::containers(machine));
            note("stored objects", objects(machine).difference(before).cloned().collect());
        }
        let mut groups = Vec::new();
        control_groups(Path::new("/sys/fs/cgroup"), &self.pods, &mut groups);
        note("control groups", groups);
        note("temporary files", files(&self.temporary));
        note(
            "containers of the daemon that is killed",
            self.dockerd.as_ref().map(Dockerd::containers).unwrap_or_default(),
        );
        left
    }

    fn check(&self) {
        self.machine.kubetask(&["delete", "agents", "--all"]).ok();
        let started = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(started.elapsed() < SOON, "left: {left:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let [servers, keepers, agents, daemons] = self.killed;
        eprintln!("killed: {servers} servers, {keepers} keepers, {agents} agents, {daemons} Docker daemons");
    }
}

/// Processes with this in their environment.
fn marked(token: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(token)
    })
    .collect()
}

fn command(pid: i32) -> String {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).replace('\0', " ")
}

/// Namespaces that a process holds open by a file.
fn namespaces(pid: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let kinds = ["net:[", "mnt:[", "user:[", "pid:[", "ipc:["];
    targets
        .map(|path| path.display().to_string())
        .filter(|path| kinds.iter().any(|kind| path.starts_with(kind)))
        .collect()
}

fn control_groups(directory: &Path, pods: &BTreeSet<String>, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("kubetask-") && pods.iter().any(|uid| name.contains(uid.as_str())) {
            found.push(entry.path().display().to_string());
        }
        control_groups(&entry.path(), pods, found);
    }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// What is stored, the events apart, which go by themselves after an hour.
fn objects(machine: &Machine) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        let out = machine.kubetask(&["get", kind, "-A", "-o", "json"]).ok().stdout;
        let list: Value = serde_json::from_str(&out).unwrap();
        for object in list["items"].as_array().unwrap() {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            all.insert(format!("{kind} {}/{}", text("namespace"), text("name")));
        }
    }
    all
}

/// The agent sleeps as long as it is told and fails now and then; it has children, a Secret, files and limits.
const AGENT: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {key: secret}
---
apiVersion: kubetask.io/v1alpha1
kind: Agent
metadata: {name: default}
spec:
  serviceAccountName: default
  SPECIAL
  env: [{name: LEAK_TOKEN, value: "TOKEN"}]
  credentials: [{name: key, secretRef: {name: key, key: key}, mountPath: /keys/key}]
  resources: {requests: {memory: 32Mi, cpu: 50m}, limits: {memory: 256Mi, cpu: 200m}}
  command: [sh, -c, "read seconds fails < /workspace/task.md; sleep $seconds & echo hello; wait; test $fails != 0"]
"#;

/// Which agents are looked at, and what of theirs may be killed besides them.
fn look(machine: Machine, away: Option<Machine>, dockerd: Option<Dockerd>, special: &str, count: usize) {
    let mut world = World::new(machine, away, &AGENT.replace("SPECIAL", special));
    world.dockerd = dockerd;
    let mut done = 0;
    while done < count {
        let some = (count / 30).clamp(ROUND.0, ROUND.1).min(count - done);
        world.round(done, some);
        done += some;
        if count > 100 {
            eprintln!("{done} of {count} Tasks; killed {:?}", world.killed);
        }
    }
    world.machine.kubetask(&["delete", "secret", "key"]).ok();
    world.check();
}

#[test]
fn nothing_is_left_of_local_agents() {
    look(Machine::up(), None, None, "runtime: Local", tasks(36));
}

#[test]
fn nothing_is_left_of_agents_in_docker() {
    let Some(machine) = docker::machine() else { return };
    look(machine, None, None, &format!("runtime: Docker\n  agentImage: {}", docker::IMAGE), tasks(12));
}

#[test]
fn nothing_is_left_of_agents_whose_docker_daemon_is_killed() {
    let Some(mut dockerd) = Dockerd::start() else { return };
    let mut machine = Machine::new();
    machine.use_docker(dockerd.host());
    machine.start();
    if !docker::image(&machine) {
        return;
    }
    // Once at least, whatever the dice say: while nothing runs, and it is found again.
    dockerd.restart();
    look(machine, None, Some(dockerd), &format!("runtime: Docker\n  agentImage: {}", docker::IMAGE), tasks(12));
}

#[test]
fn nothing_is_left_of_agents_on_another_cluster() {
    let away = Machine::up();
    let mut home = with_cluster(&away);
    home.start();
    look(home, Some(away), None, "runtime: Kubernetes\n  agentImage: local/agent:1", tasks(12));
}

#[test]
fn a_leak_would_be_seen() {
    let machine = Machine::up();
    let token = format!("seen-{}", std::process::id());
    let mut child = std::process::Command::new("sleep").arg("600").env("LEAK_TOKEN", &token).spawn().unwrap();
    eventually("it is seen", Duration::from_secs(10), || marked(&token) == [i32::try_from(child.id()).unwrap()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(marked(&token).is_empty());
    let before = objects(&machine);
    machine.kubetask_with_input(&["apply", "-f", "-"], "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}").ok();
    let now = objects(&machine);
    assert_eq!(now.difference(&before).collect::<Vec<_>>(), ["configmaps default/x"]);
}
