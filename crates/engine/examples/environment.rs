//! Runs a command in an environment of any engine, and prints what it says:
//! `cargo run -p kubetask-engine --example environment -- local any ls -l /`, or `docker`, or `kubernetes` with an image.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kubetask_engine::spec::{ContainerId, ContainerSpec, LogSpec, Network, PullPolicy, Resources, Security};
use kubetask_engine::traits::ExecSpec;
use kubetask_engine::{
    ContainerEngine, DockerEngine, EngineRouter, KubernetesEngine, KubernetesOptions, LocalEngine, LocalOptions,
};
use tokio::io::AsyncReadExt as _;

fn main() -> anyhow::Result<ExitCode> {
    // A program that uses the local engine must be able to be its shim, or name another that is.
    if std::env::args().nth(1).as_deref() == Some(kubetask_engine::SHIM_ARGUMENT) {
        return Ok(kubetask_engine::shim_main(std::env::args_os()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(std::env::args().skip(1).collect()))
}

async fn run(words: Vec<String>) -> anyhow::Result<ExitCode> {
    let [engine, image, command @ ..] = words.as_slice() else { anyhow::bail!("give ENGINE IMAGE COMMAND…") };
    anyhow::ensure!(!command.is_empty(), "give a command to run");
    let root = std::env::temp_dir().join(format!("environment-{}", std::process::id()));
    let engines: Vec<Arc<dyn ContainerEngine>> = vec![
        Arc::new(LocalEngine::new(root.join("local"), LocalOptions::default())?),
        Arc::new(DockerEngine::new(root.join("docker"))),
        Arc::new(KubernetesEngine::new(root.join("kubernetes"), KubernetesOptions::default())),
    ];
    let engine = EngineRouter::new(engines).engine(Some(engine))?;
    eprintln!("{}", engine.probe().await?.description);
    engine.ensure_image(image, PullPolicy::IfNotPresent).await?;
    let id = ContainerId("example".to_owned());
    let keep_alive = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"];
    let spec = ContainerSpec {
        id: id.clone(),
        labels: [("made-by".to_owned(), "environment".to_owned())].into(),
        image: image.clone(),
        command: keep_alive.map(str::to_owned).to_vec(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        hostname: Some("example".to_owned()),
        mounts: Vec::new(),
        resources: Resources::default(),
        network: Network::Host,
        security: Security::default(),
        tty: false,
        stdin: false,
        log: LogSpec { path: root.join("example.log"), max_bytes: 10 << 20, max_files: 2 },
    };
    // The engine's name and the identity are what another process needs to find it again.
    let started = engine.start(&spec).await;
    let code = match started {
        Ok(_) => {
            let mut session = engine.exec(&id, &ExecSpec { command: command.to_vec(), ..ExecSpec::default() }).await?;
            let (mut said, mut complained) = (String::new(), String::new());
            let stderr = session.stderr.take();
            let complain = async {
                match stderr {
                    Some(mut stderr) => stderr.read_to_string(&mut complained).await,
                    None => Ok(0),
                }
            };
            tokio::try_join!(session.stdout.read_to_string(&mut said), complain)?;
            print!("{said}");
            eprint!("{complained}");
            Ok(session.exit.await??)
        }
        Err(error) => Err(error),
    };
    let _ = engine.stop(&id, Duration::from_secs(5)).await;
    engine.remove(&id).await?;
    std::fs::remove_dir_all(&root)?;
    Ok(ExitCode::from(u8::try_from(code?).unwrap_or(1)))
}
