//! `kubetask batch`: run batches, pause and resume them, run again what failed, show how they fare.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kubetask_api::batchrun::BatchPhase;
use kubetask_api::{Batch, BatchRun, BatchRunSpec, labels};
use serde_json::{Value, json};

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask batch`.
#[derive(Debug, Args)]
pub struct BatchArgs {
    /// What to do
    #[command(subcommand)]
    pub command: BatchCommand,
}

/// The commands of `kubetask batch`.
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Run a batch: one task for each of its targets
    Run(RunArgs),
    /// Create no further tasks; those that run go on
    Pause(NameArgs),
    /// Go on with a paused batchrun
    Resume(NameArgs),
    /// Run again what failed
    Retry(FollowedArgs),
    /// Show how a batchrun fares
    Status(FollowedArgs),
}

/// The name of a batchrun.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of a batchrun
    #[arg(value_name = "BATCHRUN")]
    pub name: String,
}

/// The name of a batchrun, and whether to wait.
#[derive(Debug, Args)]
pub struct FollowedArgs {
    /// Name of a batchrun
    #[arg(value_name = "BATCHRUN")]
    pub name: String,
    /// Show progress until it ends; fail when a task fails
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `kubetask batch run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of a batch
    #[arg(value_name = "BATCH")]
    pub batch: String,
    /// Name of the batchrun [default: the batch's with a suffix]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How many tasks run at a time [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub max_parallelism: Option<i32>,
    /// Show progress until it ends; fail when a task fails
    #[arg(short, long)]
    pub wait: bool,
}

/// Runs the command.
///
/// # Errors
/// When the batch or batchrun is not there.
pub async fn run(args: BatchArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let need = match &args.command {
        BatchCommand::Status(FollowedArgs { wait: false, .. }) => Need::Store,
        _ => Need::Everything,
    };
    let connection = connect::connect(global, need).await?;
    let result = match &args.command {
        BatchCommand::Run(args) => start(args, &connection, output).await,
        BatchCommand::Pause(args) => {
            annotate(&args.name, labels::PAUSE, &json!("true"), "paused", &connection, output).await
        }
        BatchCommand::Resume(args) => {
            annotate(&args.name, labels::PAUSE, &Value::Null, "resumed", &connection, output).await
        }
        BatchCommand::Retry(args) => retry(args, &connection, output).await,
        BatchCommand::Status(args) => status(args, &connection, output).await,
    };
    connection.close().await;
    result
}

fn runs(connection: &Connection) -> Api<BatchRun> {
    Api::namespaced(connection.client.clone(), &connection.namespace)
}

/// Without a running server, this process is the one that carries it out.
fn must_wait(wait: bool, connection: &Connection, output: Output) -> bool {
    if connection.local.is_some() && !wait {
        output.say("no server runs on this machine: running the tasks until they end");
    }
    wait || connection.local.is_some()
}

async fn start(args: &RunArgs, connection: &Connection, output: Output) -> CommandResult {
    let batches: Api<Batch> = Api::namespaced(connection.client.clone(), &connection.namespace);
    batches.get(&args.batch).await?;
    let spec = BatchRunSpec {
        batch_ref: Some(args.batch.clone()),
        max_parallelism: args.max_parallelism,
        ..BatchRunSpec::default()
    };
    let mut run = BatchRun::new(args.name.as_deref().unwrap_or_default(), spec);
    if args.name.is_none() {
        run.metadata.name = None;
        run.metadata.generate_name = Some(format!("{}-", args.batch));
    }
    let params = PostParams { field_manager: Some(super::apply::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let name = runs(connection).create(&params, &run).await?.name_any();
    output.data(&format!("batchrun.kubetask.io/{name} created"));
    if must_wait(args.wait, connection, output) {
        return follow(&name, None, connection, output).await;
    }
    Ok(exit_codes::OK)
}

async fn patch(name: &str, key: &str, value: &Value, connection: &Connection) -> CommandResult<()> {
    let params = PatchParams { field_manager: Some(super::apply::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let annotation = json!({"metadata": {"annotations": {key: value}}});
    runs(connection).patch(name, &params, &Patch::Merge(annotation)).await?;
    Ok(())
}

async fn annotate(
    name: &str,
    key: &str,
    value: &Value,
    done: &str,
    connection: &Connection,
    output: Output,
) -> CommandResult {
    patch(name, key, value, connection).await?;
    output.data(&format!("batchrun.kubetask.io/{name} {done}"));
    Ok(exit_codes::OK)
}

async fn retry(args: &FollowedArgs, connection: &Connection, output: Output) -> CommandResult {
    let run = runs(connection).get(&args.name).await?;
    let failed = run.status.as_ref().and_then(|s| s.progress).map_or(0, |p| p.failed);
    if failed == 0 {
        output.say(format!("nothing of {} has failed", args.name));
        return Ok(exit_codes::OK);
    }
    // A value that was never used before.
    let value = Timestamp::now().to_string();
    patch(&args.name, labels::RETRY, &json!(value), connection).await?;
    output.data(&format!("batchrun.kubetask.io/{} retried: {failed} tasks", args.name));
    if must_wait(args.wait, connection, output) {
        return follow(&args.name, Some(&value), connection, output).await;
    }
    Ok(exit_codes::OK)
}

async fn status(args: &FollowedArgs, connection: &Connection, output: Output) -> CommandResult {
    if args.wait {
        return follow(&args.name, None, connection, output).await;
    }
    let run = runs(connection).get(&args.name).await?;
    output.data(&line(&run));
    let status = run.status.unwrap_or_default();
    for name in &status.failed_tasks {
        output.data(&format!("failed: task.kubetask.io/{name}"));
    }
    if let Some(trouble) = status.conditions.iter().find(|c| c.type_ == "Accepted" && c.status == "False") {
        output.say(&trouble.message);
    }
    Ok(exit_codes::OK)
}

/// One line for a BatchRun.
fn line(run: &BatchRun) -> String {
    let status = run.status.clone().unwrap_or_default();
    let (phase, p) = (status.phase.unwrap_or_default(), status.progress.unwrap_or_default());
    format!(
        "{}: {phase:?}, {} of {} completed, {} failed, {} running, {} pending",
        run.name_any(),
        p.completed,
        p.total,
        p.failed,
        p.running,
        p.pending
    )
}

/// Shows progress until the run has ended. `retry` is the retry that must have begun before its end counts.
async fn follow(name: &str, retry: Option<&str>, connection: &Connection, output: Output) -> CommandResult {
    let mut changes = std::pin::pin!(watcher::watch_object(runs(connection), name));
    let mut shown = String::new();
    let mut there = false;
    while let Some(change) = changes.next().await {
        let run = match change {
            Ok(Some(run)) => run,
            Ok(None) if there => return Err(CommandError::failure(format!("batchrun {name:?} was deleted"))),
            Ok(None) => return Err(CommandError::failure(format!("there is no batchrun {name:?}"))),
            Err(error) => {
                tracing::debug!(%error, "the watch was interrupted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        there = true;
        let line = line(&run);
        if line != shown {
            output.say(&line);
            shown = line;
        }
        let status = run.status.unwrap_or_default();
        if retry.is_some() && status.last_retry.as_deref() != retry {
            continue;
        }
        match status.phase {
            Some(BatchPhase::Completed) => return Ok(exit_codes::OK),
            Some(BatchPhase::Failed) => {
                let failed = status.failed_tasks.join(", ");
                return Err(CommandError::failure(format!("{name}: failed: {failed}"))
                    .hint(format!("run them again with: kubetask batch retry {name}")));
            }
            _ => {}
        }
    }
    Err(CommandError::failure(format!("the server does not tell of {name:?} any more")))
}
