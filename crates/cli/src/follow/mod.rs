//! Following a Task: progress while it waits, its log while it runs, its status when it ended.
//!
//! One loop ([`follow`]) owns the state of one Task. It hears of the Task by a watch and of the log by a stream; both
//! may break (a server that restarts, a cluster that is away), both are taken up again where they were.

mod log;
mod progress;
mod pull;
pub mod summary;

use std::time::Duration;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::watcher;
use kubetask_api::{Task, TaskPhase, reasons};

pub use log::LogSink;
pub use progress::Progress;

use crate::error::{CommandError, CommandResult, chain};
use crate::output::Output;

/// How to follow.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// Put in front of each log line when several Tasks are followed.
    pub prefix: Option<String>,
    /// Whether the log goes to stderr, because stdout is for other data.
    pub log_to_stderr: bool,
    /// Whether to show the log at all.
    pub log: bool,
    /// Whom to tell when the agent has ended and its container stays for a person.
    pub human: Option<fn(&Task)>,
}

/// Why following ended early.
#[derive(Debug)]
pub enum FollowError {
    /// The Task was deleted.
    Deleted,
    /// The server is gone; another may have taken its place.
    Lost(String),
    /// The server says no.
    Denied(CommandError),
}

/// Longest time without any answer before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows a Task until it ended and its log is complete.
///
/// `sink` keeps how much of the log was shown, so that following can be taken up again with another client.
///
/// # Errors
/// See [`FollowError`].
pub async fn follow(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    sink: &mut LogSink,
    output: Output,
    options: &FollowOptions,
) -> Result<Task, FollowError> {
    let tasks: Api<Task> = Api::namespaced(client.clone(), namespace);
    let mut changes = std::pin::pin!(watcher::watch_object(tasks, name));
    let mut progress = Progress::new(output, name);
    let mut logs = log::LogStream::new(client.clone(), namespace);
    let mut pulls = pull::Pulls::new(client.clone(), namespace);
    let mut seen = false;
    let mut waited = false;
    let mut failing_since: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Some(task))) => {
                    seen = true;
                    failing_since = None;
                    progress.update(&task);
                    let waits = waits_for_human(&task);
                    if waits && !waited {
                        progress.clear();
                        output.say(format!("{name}: {}", message_of(&task)));
                        if let Some(tell) = options.human {
                            let task = task.clone();
                            // What tells the desktop may take its time.
                            drop(tokio::task::spawn_blocking(move || tell(&task)));
                        }
                    }
                    waited |= waits;
                    let phase = task.phase();
                    if let Some(job) = task.status.as_ref().and_then(|status| status.job_name.as_deref()) {
                        pulls.open(job);
                    }
                    if options.log && phase != TaskPhase::Pending && let Some(pod) = pod_of(&task) {
                        logs.open(&pod);
                    }
                    if phase.is_finished() {
                        progress.clear();
                        if options.log {
                            logs.drain(sink).await;
                        }
                        sink.finish();
                        return Ok(task);
                    }
                }
                Some(Ok(None)) if seen => {
                    progress.clear();
                    return Err(FollowError::Deleted);
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    if let watcher::Error::WatchStartFailed(kube::Error::Api(status))
                        | watcher::Error::InitialListFailed(kube::Error::Api(status)) = &error
                        && matches!(status.code, 401 | 403)
                    {
                        return Err(FollowError::Denied(kube::Error::Api(status.clone()).into()));
                    }
                    let since = *failing_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() > PATIENCE {
                        progress.clear();
                        return Err(FollowError::Lost(chain(&error)));
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                None => return Err(FollowError::Lost("the watch ended".to_owned())),
            },
            message = pulls.next(), if pulls.is_open() => {
                if let Some(message) = message {
                    progress.note(&message);
                }
            }
            chunk = logs.next(), if logs.is_open() => {
                if let Some(bytes) = chunk {
                    pulls.close();
                    progress.clear();
                    sink.write(&bytes);
                }
            }
        }
    }
}

/// Whether the agent has ended, and its container stays for a person.
fn waits_for_human(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status| status.reason.as_deref() == Some(reasons::WAITING_FOR_HUMAN))
}

fn message_of(task: &Task) -> String {
    let message = task.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    crate::output::plain_text(message).replace('\n', " ")
}

fn pod_of(task: &Task) -> Option<String> {
    task.status.as_ref().and_then(|status| status.pod_name.clone())
}

/// The Task as it is now.
///
/// # Errors
/// When it is not there or the server says no.
pub async fn current(client: &kube::Client, namespace: &str, name: &str) -> CommandResult<Task> {
    Ok(Api::<Task>::namespaced(client.clone(), namespace).get(name).await?)
}
