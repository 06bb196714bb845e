//! `kubetask logs`: what a task's agent wrote.

use clap::Args;
use futures::{AsyncBufRead, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kubetask_api::Task;

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::follow::{self, FollowOptions, LogSink};
use crate::interact::target;
use crate::output::{Output, TerminalFilter};

/// Arguments of `kubetask logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the task
    #[arg(value_name = "TASK")]
    pub name: String,
    /// Go on until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Only lines newer than this, e.g. 10m
    #[arg(long, value_name = "DURATION", value_parser = crate::duration::parse)]
    pub since: Option<std::time::Duration>,
    /// Put the time in front of each line
    #[arg(long)]
    pub timestamps: bool,
    /// The container [default: the agent's]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
}

/// Longest time a node needs to find its pods.
const NODE_STARTS: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// When the task is not there or has no log yet.
pub async fn run(args: LogsArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let result = logs(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn logs(args: &LogsArgs, connection: &Connection, output: Output) -> CommandResult {
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let task = tasks.get(&args.name).await?;
    let plain = args.tail.is_none() && args.since.is_none() && !args.timestamps && args.container.is_none();
    if args.follow && plain {
        let mut sink = LogSink::new(output, false, None);
        let options = FollowOptions { prefix: None, log_to_stderr: false, log: true, human: None };
        return match follow::follow(&connection.client, &connection.namespace, &args.name, &mut sink, output, &options)
            .await
        {
            Ok(_) => Ok(exit_codes::OK),
            Err(follow::FollowError::Deleted) => {
                Err(CommandError::failure(format!("task {:?} was deleted", args.name)))
            }
            Err(follow::FollowError::Lost(why)) => Err(CommandError::failure(format!("the server is gone: {why}"))),
            Err(follow::FollowError::Denied(error)) => Err(error),
        };
    }
    let Some(pod) = latest_pod(connection, &task).await? else {
        let why = task.status.and_then(|s| s.message).unwrap_or_else(|| "nobody has looked at it yet".to_owned());
        return Err(CommandError::failure(format!("task {:?} has no log yet: {why}", args.name)));
    };
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = LogParams {
        container: Some(args.container.clone().unwrap_or_else(|| kubetask_core::task::AGENT_CONTAINER.to_owned())),
        follow: args.follow,
        tail_lines: args.tail,
        since_seconds: args.since.map(|d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
        timestamps: args.timestamps,
        ..LogParams::default()
    };
    let stream = open(&pods, &pod, &params).await?;
    let mut stream = std::pin::pin!(stream);
    let mut filter = output.stdout_is_terminal.then(TerminalFilter::default);
    let mut buffer = vec![0; 32 << 10];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(exit_codes::OK);
        }
        let bytes = buffer.get(..n).unwrap_or_default();
        match &mut filter {
            Some(filter) => output.raw(&filter.filter(bytes)),
            None => output.raw(bytes),
        }
    }
}

/// Opens a log.
///
/// # Errors
/// When there is none.
pub(super) async fn open(pods: &Api<Pod>, pod: &str, params: &LogParams) -> CommandResult<impl AsyncBufRead> {
    let started = std::time::Instant::now();
    loop {
        match pods.log_stream(pod, params).await {
            Ok(stream) => return Ok(stream),
            // A node that has just been started, perhaps by this very command, may not have found its pods again yet.
            Err(kube::Error::Api(status)) if status.code == 404 && started.elapsed() < NODE_STARTS => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The pod whose log is meant: the one the status names, else the newest of the Task's.
pub(super) async fn latest_pod(connection: &Connection, task: &Task) -> CommandResult<Option<String>> {
    if let Some(pod) = task.status.as_ref().and_then(|s| s.pod_name.clone()) {
        return Ok(Some(pod));
    }
    let Some(job) = task.status.as_ref().and_then(|s| s.job_name.clone()) else { return Ok(None) };
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    Ok(target::pods_of(&pods, &job).await?.pop().and_then(|pod| pod.metadata.name))
}
