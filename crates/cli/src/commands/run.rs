//! `kubetask run`: submit tasks, show what happens, end with the agent's exit code.
//!
//! Three forms: manifests (`-f`), a prompt for an Agent that exists (`--agent NAME "prompt"`), or a command that becomes
//! an agent of its own (`-- command…`).

mod adhoc;
mod desktop;
pub mod repository;
mod submit;

pub(crate) use adhoc::variable;
pub(crate) use submit::random_suffix;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::api::Api;
use kubetask_api::{Task, TaskPhase};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::GlobalArgs;
use crate::commands::get::{self, Format};
use crate::commands::{changes, stop};
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::follow::{self, FollowError, FollowOptions, LogSink, summary};
use crate::output::Output;

/// For how long Tasks are submitted anew while one server takes the place of another.
const TAKEOVER: Duration = Duration::from_secs(60);

/// Arguments of `kubetask run`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["filename", "prompt", "command"]))]
#[command(after_help = "\
Examples:
  kubetask run -f task.yaml
  kubetask run --agent claude --repo \"fix the failing test\"
  kubetask run --agent claude --repo --carry --apply \"fix the failing test\"
  kubetask run --workspace . -- make test")]
pub struct RunArgs {
    /// Manifest: a file, a directory, a URL, or - for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with_all = ["prompt", "command", "agent", "workspace", "env"])]
    pub filename: Vec<String>,
    /// What to do, for the agent
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// A command to run as an agent of its own
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["prompt", "agent"])]
    pub command: Vec<String>,
    /// The Agent that does it [default: the one named "default"]
    #[arg(short, long, value_name = "NAME", requires = "prompt")]
    pub agent: Option<String>,
    /// Let the agent work on this git checkout [default: the one around the working directory]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".", requires = "prompt")]
    pub repo: Option<PathBuf>,
    /// Take uncommitted (and, for a cluster, unpushed) work along: as a bundle beside the task, or as a branch that is pushed
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "bundle", requires = "repo")]
    pub carry: Option<repository::Carry>,
    /// When the agent has done it, apply what it changed to the checkout
    #[arg(long, requires = "repo", conflicts_with = "detach")]
    pub apply: bool,
    /// Name of the task [default: generated]
    #[arg(long, value_name = "NAME", conflicts_with = "filename")]
    pub name: Option<String>,
    /// Let the command work in this directory: it is its /workspace, writable
    #[arg(short, long, value_name = "DIR", requires = "command")]
    pub workspace: Option<PathBuf>,
    /// Environment variable for the command, NAME=VALUE, or NAME to pass on this one's; may be given several times
    #[arg(short, long, value_name = "NAME[=VALUE]", requires = "command")]
    pub env: Vec<String>,
    /// End the task when it has run this long; exit code 124
    #[arg(long, value_name = "DURATION", value_parser = crate::duration::parse)]
    pub timeout: Option<Duration>,
    /// Submit and return; the embedded server goes on in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Tell the desktop when a task waits for you, and when the tasks have ended (with notify-send)
    #[arg(long)]
    pub notify: bool,
    /// Print the finished tasks in this format on stdout; the log then goes to stderr
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Runs the command.
///
/// # Errors
/// When the input is wrong, or nothing can be run here.
pub async fn run(args: RunArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    // Everything that can be wrong with the input is found before a server is started.
    let request = submit::Request::from_args(&args)?;
    if args.detach && global.context.is_none() && global.kubeconfig.is_none() && !global.current_context {
        super::up::background(global, Output { quiet: true, ..output })?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut connection = connect::connect(global, Need::Everything).await?;
    let mut earlier = submit::Earlier::default();
    let until = Instant::now() + TAKEOVER;
    let tasks = loop {
        let submitted = tokio::select! {
            submitted = submit::submit(&request, &args, &connection, global, &mut earlier, output) => submitted,
            _ = interrupt.recv() => Err(CommandError::interrupted()),
            _ = terminate.recv() => Err(CommandError::interrupted()),
        };
        match submitted {
            Ok(tasks) => break tasks,
            // Another server may take the place of the one that was about to do it.
            Err(error) if error.lost && connection.is_server_of_machine() && Instant::now() < until => {
                tracing::debug!(why = error.lines.join("; "), "lost the server; looking for another");
                connection.close().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                connection = connect::connect(global, Need::Everything).await?;
            }
            Err(error) => {
                connection.close().await;
                return Err(error);
            }
        }
    };
    if args.detach {
        for task in &tasks {
            output.data(&format!("task.kubetask.io/{}", task.name));
        }
        connection.close().await;
        return Ok(exit_codes::OK);
    }
    let mut followed: Vec<Followed> = tasks.into_iter().map(|task| Followed::new(task, &args, output)).collect();
    let many = followed.len() > 1;
    for task in &mut followed {
        task.options.prefix = many.then(|| format!("[{}] ", task.task.name));
        task.sink = LogSink::new(output, task.options.log_to_stderr, task.options.prefix.clone());
    }
    let mut stopping = false;
    let result = loop {
        let round = {
            let all = follow_all(&connection, &mut followed, output);
            tokio::select! {
                ended = all => Round::Ended(ended),
                _ = interrupt.recv() => Round::Interrupted,
                _ = terminate.recv() => Round::Interrupted,
            }
        };
        match round {
            Round::Ended(Ok(())) => break Ok(()),
            Round::Ended(Err(FollowError::Lost(why))) => {
                // The server that was used ended, perhaps with the command that had started it: take its place.
                tracing::debug!(%why, "lost the server; looking for another");
                connection.close().await;
                connection = connect::connect(global, Need::Everything).await?;
            }
            Round::Ended(Err(FollowError::Denied(error))) => break Err(error),
            Round::Ended(Err(FollowError::Deleted)) => break Err(CommandError::failure("the task was deleted")),
            Round::Interrupted if stopping => break Err(CommandError::interrupted()),
            Round::Interrupted => {
                stopping = true;
                output.say("stopping… (again to leave at once)");
                let stop_all = stop_all(&connection, &followed);
                tokio::select! {
                    result = stop_all => if let Err(error) = result { break Err(error) },
                    _ = interrupt.recv() => break Err(CommandError::interrupted()),
                }
            }
        }
    };
    let applied = match (&result, &args.repo) {
        (Ok(()), Some(checkout)) if args.apply => apply(&connection, &followed, checkout, output).await,
        _ => Ok(()),
    };
    connection.close().await;
    result.and(applied)?;
    finish(&args, followed, stopping, output)
}

enum Round {
    Ended(Result<(), FollowError>),
    Interrupted,
}

/// A Task that is followed, and what is known of its end.
struct Followed {
    task: submit::Submitted,
    options: FollowOptions,
    sink: LogSink,
    ended: Option<Task>,
}

impl Followed {
    fn new(task: submit::Submitted, args: &RunArgs, output: Output) -> Self {
        let log_to_stderr = args.output.is_some();
        let human = args.notify.then_some(desktop::waits as fn(&Task));
        let options = FollowOptions { prefix: None, log_to_stderr, log: true, human };
        Self { task, options, sink: LogSink::new(output, log_to_stderr, None), ended: None }
    }
}

/// Follows every Task that has not ended yet.
async fn follow_all(connection: &Connection, followed: &mut [Followed], output: Output) -> Result<(), FollowError> {
    let many = followed.len() > 1;
    // Several progress lines would fight for the terminal.
    let output = Output { progress: output.progress && !many, ..output };
    let mut running: FuturesUnordered<_> = followed
        .iter_mut()
        .filter(|f| f.ended.is_none())
        .map(|f| async move {
            let Followed { task, options, sink, ended } = f;
            let end = follow::follow(&connection.client, &task.namespace, &task.name, sink, output, options).await?;
            summary::print(output, &end);
            *ended = Some(end);
            Ok(())
        })
        .collect();
    while let Some(result) = running.next().await {
        result?;
    }
    Ok(())
}

/// Applies what the agents that did their work have changed.
async fn apply(connection: &Connection, followed: &[Followed], checkout: &Path, output: Output) -> CommandResult<()> {
    for f in followed {
        let Some(task) = f.ended.as_ref().filter(|task| task.phase() == TaskPhase::Completed) else { continue };
        let all = changes::fetch(connection, task).await?;
        changes::apply(&f.task.name, &all, checkout, output)?;
    }
    Ok(())
}

async fn stop_all(connection: &Connection, followed: &[Followed]) -> CommandResult<()> {
    for f in followed.iter().filter(|f| f.ended.is_none()) {
        let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &f.task.namespace);
        stop::request(&tasks, &f.task.name).await?;
    }
    Ok(())
}

fn finish(args: &RunArgs, followed: Vec<Followed>, stopped: bool, output: Output) -> CommandResult {
    let ended: Vec<Task> = followed.into_iter().filter_map(|f| f.ended).collect();
    if args.notify {
        desktop::tell(&ended, output);
    }
    let code = ended.iter().map(summary::exit_code).find(|code| *code != exit_codes::OK).unwrap_or(exit_codes::OK);
    match args.output {
        None | Some(Format::Wide) => {}
        Some(Format::Name) => {
            for task in &ended {
                output.data(&format!("task.kubetask.io/{}", task.metadata.name.as_deref().unwrap_or_default()));
            }
        }
        Some(format) => {
            for task in &ended {
                let mut value = serde_json::to_value(task)?;
                if let Some(metadata) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
                get::print_value(&value, format, output)?;
            }
        }
    }
    Ok(if stopped { exit_codes::INTERRUPTED } else { code })
}
