//! Runs a command in a sandbox and prints its log: `cargo run -p kubetask-engine --example run_container -- ls -l /`.
//!
//! A program that uses the local engine must be able to be its shim, or name another that is: see the first lines of `main`.

use std::process::ExitCode;
use std::time::Duration;

use kubetask_engine::spec::{ContainerId, ContainerSpec, LogSpec, Network, Resources, Security};
use kubetask_engine::{ContainerEngine as _, LocalEngine, LocalOptions};

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(kubetask_engine::SHIM_ARGUMENT) {
        return Ok(kubetask_engine::shim_main(std::env::args_os()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(std::env::args().skip(1).collect()))
}

async fn run(command: Vec<String>) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!command.is_empty(), "give a command to run");
    let root = std::env::temp_dir().join(format!("run-container-{}", std::process::id()));
    let engine = LocalEngine::new(&root, LocalOptions::default())?;
    eprintln!("{}", engine.probe().await?.description);
    let id = ContainerId("example".to_owned());
    let log = root.join("example.log");
    let spec = ContainerSpec {
        id: id.clone(),
        labels: [("made-by".to_owned(), "run_container".to_owned())].into(),
        image: String::new(),
        command,
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        hostname: Some("example".to_owned()),
        mounts: Vec::new(),
        resources: Resources::default(),
        network: Network::None,
        security: Security::default(),
        tty: false,
        stdin: false,
        log: LogSpec { path: log.clone(), max_bytes: 10 << 20, max_files: 2 },
    };
    engine.start(&spec).await?;
    let exit = match tokio::time::timeout(Duration::from_secs(600), engine.wait(&id)).await {
        Ok(exit) => exit?,
        Err(_elapsed) => engine.stop(&id, Duration::from_secs(10)).await?,
    };
    print!("{}", std::fs::read_to_string(&log)?);
    engine.remove(&id).await?;
    std::fs::remove_dir_all(&root)?;
    Ok(ExitCode::from(u8::try_from(exit.code).unwrap_or(1)))
}
