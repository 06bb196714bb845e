//! Measures how long starting a container takes, and what idle ones cost: `cargo run --release -p kubetask-engine
//! --example start_latency -- [COUNT]`. If `bwrap` is installed, the same command is run with it for comparison.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kubetask_engine::spec::{ContainerId, ContainerSpec, LogSpec, Network, Resources, Security};
use kubetask_engine::{ContainerEngine as _, LocalEngine, LocalOptions};

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(kubetask_engine::SHIM_ARGUMENT) {
        return Ok(kubetask_engine::shim_main(std::env::args_os()));
    }
    let count = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(count))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(count: usize) -> anyhow::Result<()> {
    let root = std::env::temp_dir().join(format!("start-latency-{}", std::process::id()));
    let engine = LocalEngine::new(&root, LocalOptions::default())?;
    let spec = |id: String, command: &str| ContainerSpec {
        labels: Default::default(),
        image: String::new(),
        command: command.split(' ').map(str::to_owned).collect(),
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
    };
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for n in 0..count {
        let spec = spec(format!("t{n}"), "true");
        let begun = Instant::now();
        engine.start(&spec).await?;
        started.push(begun.elapsed());
        engine.wait(&spec.id).await?;
        ended.push(begun.elapsed());
    }
    print("start() of `true`", &mut started);
    print("start() and wait()", &mut ended);
    let mut bare = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let arguments = [
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--unshare-pid",
            "--unshare-ipc",
            "true",
        ];
        match Command::new("bwrap").args(arguments).stdin(Stdio::null()).status() {
            Ok(_) => bare.push(begun.elapsed()),
            Err(_) => break,
        }
    }
    if !bare.is_empty() {
        print("bwrap true", &mut bare);
    }
    let before = resident();
    let idle: Vec<_> = (0..200).map(|n| spec(format!("i{n}"), "sleep 1000")).collect();
    let mut waits = Vec::new();
    let engine = std::sync::Arc::new(engine);
    for spec in &idle {
        engine.start(spec).await?;
        let (engine, id) = (engine.clone(), spec.id.clone());
        waits.push(tokio::spawn(async move { engine.wait(&id).await.map(|_| ()) }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("200 idle containers, all waited for: {} KiB each in this process", (resident() - before) / 200);
    println!("their shims and inits: {} KiB each (proportional set size)", proportional() / 200);
    for spec in &idle {
        engine.stop(&spec.id, Duration::ZERO).await?;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what}: p50 {:?}, p95 {:?}, best {:?}", at(50), at(95), at(0));
}

fn resident() -> u64 {
    field("/proc/self/status", "VmRSS:")
}

/// Memory of all shims and inits, what they share divided among them.
fn proportional() -> u64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_shim = |path: &std::path::Path| {
        std::fs::read(path.join("cmdline")).is_ok_and(|command| command.starts_with(b"kubetask-shim"))
    };
    processes
        .filter(|entry| is_shim(&entry.path()))
        .map(|entry| field(&entry.path().join("smaps_rollup").to_string_lossy(), "Pss:"))
        .sum()
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
