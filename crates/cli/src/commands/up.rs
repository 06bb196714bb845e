//! `kubetask up`: the embedded server, in the foreground or the background.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::GlobalArgs;
use crate::connect::find_running;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;
use crate::paths::DataDir;
use crate::server::{self, ServerOptions};

/// Arguments of `kubetask up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Go to the background once the server answers
    #[arg(short, long)]
    pub detach: bool,
    /// Address to listen on; port 0 takes the port of last time, or a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Leave Tasks to an operator of its own (`kubetask controller`)
    #[arg(long, hide = true)]
    pub without_operator: bool,
    /// Leave the session of the terminal (what --detach starts the server with)
    #[arg(long, hide = true)]
    pub own_session: bool,
}

/// Runs the command.
///
/// # Errors
/// When a server runs already, the store is damaged, or the address is taken.
pub async fn run(args: UpArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    if !args.listen.ip().is_loopback() {
        return Err(CommandError::usage(format!(
            "{}: the embedded server listens on loopback addresses only",
            args.listen
        )));
    }
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    if let Some(info) = find_running(&data_dir).filter(|info| !info.temporary) {
        if args.detach {
            output.say(format!("running already (pid {}) at {}", info.pid, info.server));
            return Ok(exit_codes::OK);
        }
        return Err(CommandError::failure(format!("a server runs already (pid {}) at {}", info.pid, info.server))
            .hint("`kubetask down` ends it"));
    }
    if args.detach {
        return detach(&args, global, &data_dir, output);
    }
    if args.own_session {
        // Closing the terminal must not end the server. Fails only for a leader of a group, which a child is not.
        let _ = rustix::process::setsid();
    }
    // Installed before the server starts: a signal during the start must not be lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = server::start(
        &data_dir,
        ServerOptions {
            listen: Some(args.listen),
            without_operator: args.without_operator,
            ..ServerOptions::default()
        },
    )
    .await?;
    output.say(format!("KubeTask {} at {}", crate::version::short(), server.url()));
    output.say(format!("  export KUBECONFIG={}", data_dir.kubeconfig().display()));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("interrupt: shutting down"),
    }
    server.shutdown().await;
    Ok(exit_codes::OK)
}

/// Starts the server as a process of its own and waits until it answers.
fn detach(args: &UpArgs, global: &GlobalArgs, data_dir: &DataDir, output: Output) -> CommandResult {
    let log = server::open_log(data_dir)
        .map_err(|e| CommandError::failure(format!("{}: {e}", data_dir.server_log().display())))?;
    let start = log.metadata().map(|m| m.len()).unwrap_or(0);
    let program =
        std::env::current_exe().map_err(|e| CommandError::failure(format!("cannot find this program: {e}")))?;
    let mut command = Command::new(program);
    command
        .arg("up")
        .arg("--own-session")
        .arg("--listen")
        .arg(args.listen.to_string())
        .arg("--data-dir")
        .arg(data_dir.root());
    if args.without_operator {
        command.arg("--without-operator");
    }
    for _ in 0..global.verbose {
        command.arg("--verbose");
    }
    let errors = log.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .map_err(|e| CommandError::failure(format!("cannot start the server: {e}")))?;
    let started = Instant::now();
    loop {
        if let Some(info) = find_running(data_dir).filter(|info| u32::try_from(info.pid) == Ok(child.id())) {
            output.say(format!("KubeTask {} at {} (pid {})", info.version, info.server, info.pid));
            output.say(format!("  export KUBECONFIG={}", data_dir.kubeconfig().display()));
            return Ok(exit_codes::OK);
        }
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read(data_dir.server_log()).unwrap_or_default();
            let text = text.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default();
            let last = String::from_utf8_lossy(text).trim().to_owned();
            let why = if last.is_empty() { status.to_string() } else { last.trim_start_matches("error: ").to_owned() };
            return Err(CommandError::failure(why));
        }
        if started.elapsed() > Duration::from_secs(30) {
            return Err(CommandError::failure("the server does not answer")
                .hint(format!("see {}", data_dir.server_log().display())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A loopback address with a port of the server's choice.
#[must_use]
pub fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
