//! What starting a container costs, and what agents cost that do nothing: `cargo bench -p kubetask --bench engines`.
//!
//! `KUBETASK_BENCH=local,docker,idle` picks some. Each figure of an engine is measured in turn with what it is held
//! against (`bwrap`, `docker run`), so that both meet the same machine. Method and figures: `docs/benchmarks.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on must stop")]

#[allow(dead_code, reason = "shared with benchmarks that send requests of their own")]
mod harness;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube::api::{Api, ListParams, PostParams};
use kubetask_api::Task;
use kubetask_engine::spec::{ContainerId, ContainerSpec, LogSpec, Network, Resources, Security};
use kubetask_engine::{ContainerEngine, DockerEngine, LocalEngine, LocalOptions};
use serde_json::json;

use harness::{Server, program, report};

/// How often each thing is done.
const ROUNDS: usize = 200;
const DOCKER_ROUNDS: usize = 40;
/// How many agents are idle at once.
const IDLE: usize = 200;
/// By then a server in which nothing goes on has given back what it does not need, before as well as after.
const UNTIL_QUIET: Duration = Duration::from_secs(15);
/// An image with nothing but busybox.
const IMAGE: &str = "kubetask-bench/busybox:1";

fn main() {
    let wanted = std::env::var("KUBETASK_BENCH").unwrap_or_else(|_| "local,docker,idle".to_owned());
    let wants = |name: &str| wanted.split(',').any(|w| w == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if wants("local") {
        runtime.block_on(local());
    }
    if wants("docker") {
        runtime.block_on(docker());
    }
    if wants("idle") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d")).unwrap();
        let (server, _) = Server::start(&dir);
        runtime.block_on(idle(&dir, server));
    }
}

fn spec(root: &Path, id: String, image: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        labels: Default::default(),
        image: image.to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        hostname: None,
        mounts: Vec::new(),
        resources: Resources::default(),
        network: Network::Host,
        security: Security::default(),
        tty: false,
        stdin: false,
        log: LogSpec { path: root.join(format!("{id}.log")), max_bytes: 1 << 20, max_files: 2 },
        id: ContainerId(id),
    }
}

fn middle(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2] * 1000.0
}

fn line(what: &str, value: f64, unit: &str, budget: &str) {
    println!("{what:<45} {value:>8.2} {unit}    ({budget})");
}

async fn local() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { shim: program(), own_binary: program(), ..LocalOptions::default() };
    let engine = LocalEngine::new(dir.path().join("engine"), options).unwrap();
    let (mut started, mut ended, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let words = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"];
    for round in 0..ROUNDS {
        let spec = spec(dir.path(), format!("t{round}"), "", &["true"]);
        let begun = Instant::now();
        engine.start(&spec).await.unwrap();
        started.push(begun.elapsed().as_secs_f64());
        engine.wait(&spec.id).await.unwrap();
        ended.push(begun.elapsed().as_secs_f64());
        engine.remove(&spec.id).await.unwrap();
        let begun = Instant::now();
        let mut command = Command::new("bwrap");
        command.args(words).args(["--unshare-pid", "--unshare-ipc", "true"]).stdin(Stdio::null());
        if command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            bare.push(begun.elapsed().as_secs_f64());
        }
    }
    report("local: start of `true`", &mut started, "no budget");
    report("local: start and end of `true`", &mut ended, "no budget");
    if bare.is_empty() {
        println!("bwrap is missing, or does not work here: nothing to hold it against");
        return;
    }
    report("bwrap: start and end of `true`", &mut bare, "no budget");
    line("local: over bwrap, p50", middle(&ended) - middle(&bare), "ms", "≤ 5 ms");
}

/// An image of this machine's static busybox; whether there is a daemon to build it.
fn image(dir: &Path) -> bool {
    let root = dir.join("root/bin");
    std::fs::create_dir_all(&root).unwrap();
    if std::fs::copy("/bin/busybox", root.join("busybox")).is_err() {
        return false;
    }
    for program in ["sh", "true", "sleep"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join(program));
    }
    std::fs::write(dir.join("Dockerfile"), "FROM scratch\nADD root /\nENV PATH=/bin\n").unwrap();
    let mut build = Command::new("docker");
    build.args(["build", "-q", "-t", IMAGE]).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
    build.status().is_ok_and(|status| status.success())
}

async fn docker() {
    let dir = tempfile::tempdir().unwrap();
    if !image(dir.path()) {
        println!("no Docker daemon, or no static busybox: Docker is left out");
        return;
    }
    let engine = DockerEngine::new(dir.path().join("docker"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..DOCKER_ROUNDS {
        let spec = spec(dir.path(), format!("t{round}"), IMAGE, &["sleep", "100"]);
        let begun = Instant::now();
        engine.start(&spec).await.unwrap();
        ours.push(begun.elapsed().as_secs_f64());
        engine.stop(&spec.id, Duration::ZERO).await.unwrap();
        engine.remove(&spec.id).await.unwrap();
        let begun = Instant::now();
        let out = Command::new("docker")
            .args(["run", "-d", "--network=host", "--log-driver=local", "--security-opt=no-new-privileges"])
            .args([IMAGE, "sleep", "100"])
            .output()
            .unwrap();
        theirs.push(begun.elapsed().as_secs_f64());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let id = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        assert!(Command::new("docker").args(["rm", "-f", &id]).stdout(Stdio::null()).status().unwrap().success());
    }
    report("docker: start, until it runs", &mut ours, "no budget");
    report("docker run -d", &mut theirs, "no budget");
    line("docker: over docker run, p50", middle(&ours) - middle(&theirs), "ms", "≤ 0 ms");
}

async fn idle(dir: &tempfile::TempDir, server: Server) {
    let kubeconfig = kube::config::Kubeconfig::read_from(&server.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let agents: Api<kubetask_api::Agent> = Api::default_namespaced(client.clone());
    let agent = json!({"metadata": {"name": "idle"}, "spec": {"serviceAccountName": "default",
        "command": ["sleep", "100000"]}});
    agents.create(&PostParams::default(), &serde_json::from_value(agent).unwrap()).await.unwrap();
    let tasks: Api<Task> = Api::default_namespaced(client);
    let create = async |from: usize, to: usize| {
        for number in from..to {
            let task = json!({"metadata": {"name": format!("idle-{number}")},
                "spec": {"agentRef": "idle", "prompt": "do nothing"}});
            tasks.create(&PostParams::default(), &serde_json::from_value(task).unwrap()).await.unwrap();
        }
        let began = Instant::now();
        loop {
            let all = tasks.list(&ListParams::default()).await.unwrap();
            let running = all.iter().filter(|task| task.phase() == kubetask_api::TaskPhase::Running).count();
            if running == to {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{running} of {to} run");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // The first ones bring in code and caches that the others share.
    create(0, 10).await;
    tokio::time::sleep(UNTIL_QUIET).await;
    let before = server.rss_mib();
    create(10, 10 + IDLE).await;
    tokio::time::sleep(UNTIL_QUIET).await;
    let growth = (server.rss_mib() - before) * 1024.0 / IDLE as f64;
    let (cpu, began) = (server.cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let share = (server.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    line("idle: processor time of the server, 210 agents", share, "%", "≤ 5 %");
    line("idle: resident memory of the server, an agent", growth, "KiB", "≤ 100 KiB");
    let keepers = keepers(dir.path());
    let (count, memory) = (keepers.len().max(1), keepers.iter().map(|pid| proportional(*pid)).sum::<u64>());
    line("idle: an agent's own processes, proportional", memory as f64 / (IDLE + 10) as f64, "KiB", "no budget");
    drop(server);
    for pid in keepers {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    println!("{count} processes kept them");
}

/// The processes that keep a data directory's containers.
fn keepers(dir: &Path) -> Vec<i32> {
    let text = dir.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with(b"kubetask-shim") && String::from_utf8_lossy(&command).contains(&text)
    })
    .collect()
}

/// Memory of a process in KiB, what it shares divided among those that share it.
fn proportional(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
