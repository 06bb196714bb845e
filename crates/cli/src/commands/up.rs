//! `kubetask up`: the embedded server, in the foreground or the background, on a laptop or in a Pod.

mod lease;
mod options;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::lease::{Held, LeaseArgs};
use self::options::{EndArgs, OnShutdown, TlsArgs};
use super::controller::LogFormat;
use crate::args::GlobalArgs;
use crate::connect::find_running;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;
use crate::paths::DataDir;
use crate::server::{self, LocalServer, ServerOptions, StartError};
use crate::settings::Backend;

/// Arguments of `kubetask up`.
#[derive(Debug, Args)]
#[command(after_help = "\
SIGTERM ends it: nothing new is begun, writes finish, agents go on or are stopped (--on-shutdown). Exit codes: 0 all of that
was done; 124 not within --grace-period; 75 the lease was lost; 1 it could not start.")]
pub struct UpArgs {
    /// Go to the background once the server answers
    #[arg(short, long)]
    pub detach: bool,
    /// Address to listen on; port 0 takes the port of last time, or a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", env = "KUBETASK_LISTEN")]
    pub listen: SocketAddr,
    /// How to log: json (on stdout), text (on stderr), or auto (json where stdout is no terminal)
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "KUBETASK_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// POST to this URL when a Task ends, in namespaces whose KubeTaskConfig names no webhook
    #[arg(long, value_name = "URL", env = "KUBETASK_NOTIFY_WEBHOOK", hide_env_values = true, value_parser = webhook)]
    pub notify_webhook: Option<String>,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The Lease.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// The end.
    #[command(flatten)]
    pub end: EndArgs,
    /// The engine of agents that ask for none [default: as configured; in a cluster kubernetes, else local]
    #[arg(long, value_name = "ENGINE", value_enum)]
    pub engine: Option<Backend>,
    /// Leave Tasks to an operator of its own (`kubetask controller`)
    #[arg(long, hide = true)]
    pub without_operator: bool,
    /// Leave the session of the terminal (what --detach starts the server with)
    #[arg(long, hide = true)]
    pub own_session: bool,
}

fn webhook(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("write a URL of http or https"),
    }
}

/// Runs the command.
///
/// # Errors
/// When a server runs already, the store is damaged, the address is taken, or the lease cannot be had.
pub async fn run(args: UpArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    if let Some(info) = find_running(&data_dir).filter(|info| !info.temporary) {
        if args.detach && !args.own_session {
            output.say(format!("running already (pid {}) at {}", info.pid, info.server));
            return Ok(exit_codes::OK);
        }
        return Err(CommandError::failure(format!("a server runs already (pid {}) at {}", info.pid, info.server))
            .hint("`kubetask down` ends it"));
    }
    if args.detach && !args.own_session {
        return detach(std::env::args_os().skip(1).collect(), &data_dir, output);
    }
    let options = ServerOptions {
        listen: Some(args.listen),
        without_operator: args.without_operator,
        tls: args.tls.config()?,
        hide: args.tls.secrets(),
        webhook: args.notify_webhook.clone(),
        engine: args.engine,
        ..ServerOptions::default()
    };
    if args.own_session {
        // Closing the terminal must not end the server. Fails only for a leader of a group, which a child is not.
        let _ = rustix::process::setsid();
        // Nor must the server keep a file system from being unmounted.
        let _ = std::env::set_current_dir("/");
    }
    // Installed before the server starts: a signal during the start must not be lost.
    let mut signals = Signals::new()?;
    let held = tokio::select! {
        held = args.lease.acquire() => held?,
        signal = signals.next() => {
            tracing::info!(signal, "ended before it had the lease");
            return Ok(exit_codes::OK);
        }
    };
    let result = serve(&args, &data_dir, options, held, signals, output).await;
    if let Err(error) = &result {
        tracing::error!(error = error.lines.join("; "), "ends");
    }
    result
}

async fn serve(
    args: &UpArgs,
    data_dir: &DataDir,
    options: ServerOptions,
    held: Option<Held>,
    mut signals: Signals,
    output: Output,
) -> CommandResult {
    let server = match start(data_dir, options, held.as_ref()).await {
        Ok(server) => server,
        Err(error) => {
            if let Some(held) = held {
                held.release().await;
            }
            return Err(error);
        }
    };
    output.say(format!("KubeTask {} at {}", crate::version::short(), server.url()));
    output.say(format!("  export KUBECONFIG={}", data_dir.kubeconfig().display()));
    tracing::info!(version = crate::version::short(), url = server.url(), "serves");
    let mut held = held;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        why = lost(&mut held) => lease_lost(why),
    };
    tracing::info!(signal, grace = ?args.end.grace_period, agents = ?args.end.on_shutdown, "shutting down");
    let drained = tokio::select! {
        drained = tokio::time::timeout(args.end.grace_period, server.drain(args.end.agents())) => drained.ok(),
        why = lost(&mut held) => lease_lost(why),
        signal = signals.next() => {
            tracing::warn!(signal, "told a second time: ends at once");
            None
        }
    };
    if let Some(held) = held {
        held.release().await;
    }
    Ok(match (drained, args.end.on_shutdown) {
        (Some(0), _) => {
            tracing::info!("ended; no agent runs");
            exit_codes::OK
        }
        (Some(agents), OnShutdown::Leave) => {
            tracing::info!(agents, "ended; agents go on running");
            exit_codes::OK
        }
        (Some(agents), OnShutdown::Stop) => {
            tracing::error!(agents, "agents that were to be stopped still run");
            exit_codes::TIMEOUT
        }
        (None, _) => {
            tracing::error!("ended before everything was finished; what was acknowledged is on disk");
            exit_codes::TIMEOUT
        }
    })
}

/// Starts the server. Who has the lease waits for the one before to let go of the store.
async fn start(data_dir: &DataDir, options: ServerOptions, held: Option<&Held>) -> CommandResult<LocalServer> {
    let options = ServerOptions { permit: held.map(Held::permit), ..options };
    let until = held.map(|held| Instant::now() + held.patience());
    loop {
        match server::start(data_dir, options.clone()).await {
            Err(StartError::InUse { pid }) if until.is_some_and(|until| Instant::now() < until) => {
                tracing::info!(?pid, "the store is locked; waits for its end");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            started => return started.map_err(CommandError::from),
        }
    }
}

/// Returns when a lease was held and is lost.
async fn lost(held: &mut Option<Held>) -> &'static str {
    match held {
        Some(held) => held.lost().await,
        None => std::future::pending().await,
    }
}

/// Somebody else may have the store by now: it is not closed in order, which would write to it, but left as it is.
fn lease_lost(why: &str) -> ! {
    tracing::error!("{why}; another server may have the data directory now: ends at once");
    std::process::exit(i32::from(exit_codes::LEASE_LOST))
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Makes sure that a server runs in the background.
///
/// # Errors
/// When none runs and none can be started.
pub(super) fn background(global: &GlobalArgs, output: Output) -> CommandResult<()> {
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    if find_running(&data_dir).is_some_and(|info| !info.temporary) {
        return Ok(());
    }
    let mut line: Vec<OsString> = vec!["up".into(), "--data-dir".into(), data_dir.root().into()];
    line.extend((0..global.verbose).map(|_| "--verbose".into()));
    detach(line, &data_dir, output).map(drop)
}

/// Starts the server as a process of its own and waits until it answers.
fn detach(line: Vec<OsString>, data_dir: &DataDir, output: Output) -> CommandResult {
    let log = server::open_log(data_dir)
        .map_err(|e| CommandError::failure(format!("{}: {e}", data_dir.server_log().display())))?;
    let start = log.metadata().map(|m| m.len()).unwrap_or(0);
    let program =
        std::env::current_exe().map_err(|e| CommandError::failure(format!("cannot find this program: {e}")))?;
    let mut command = Command::new(program);
    // The same command line once more, told that it is the background.
    command.args(line).arg("--own-session");
    let errors = log.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
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
            // Between what it logged, the words for people.
            let text = String::from_utf8_lossy(text);
            let words: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
            let last = words.join("\n").trim().to_owned();
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
