//! `kubetask stop`: end a task's agent gracefully; its log and status stay.

use clap::Args;
use kube::api::{Api, Patch, PatchParams};
use kubetask_api::Task;
use serde_json::json;

use crate::args::GlobalArgs;
use crate::connect::{self, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Names of tasks
    #[arg(value_name = "TASK", required = true)]
    pub names: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When a task is not there.
pub async fn run(args: StopArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    // Without a running server somebody must carry the stop out: this process brings one for as long as it takes.
    let connection = connect::connect(global, Need::Everything).await?;
    let result = stop_all(&connection, &args.names, output).await;
    connection.close().await;
    result
}

async fn stop_all(connection: &connect::Connection, names: &[String], output: Output) -> CommandResult {
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    for name in names {
        let task = tasks.get(name).await?;
        if task.phase().is_finished() {
            output.say(format!("task.kubetask.io/{name} has ended already ({})", task.phase()));
            continue;
        }
        request(&tasks, name).await?;
        if connection.local.is_some() {
            let ended = kube::runtime::wait::await_condition(tasks.clone(), name, |task: Option<&Task>| {
                task.is_none_or(|task| task.phase().is_finished())
            });
            ended.await.map_err(|e| CommandError::failure(crate::error::chain(&e)))?;
        }
        output.data(&format!("task.kubetask.io/{name} stopped"));
    }
    Ok(exit_codes::OK)
}

/// Asks for a task's end.
///
/// # Errors
/// When the server says no.
pub async fn request(tasks: &Api<Task>, name: &str) -> CommandResult<()> {
    let patch = Patch::Merge(json!({"spec": {"stop": true}}));
    let params = PatchParams { field_manager: Some(super::apply::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    tasks.patch(name, &params, &patch).await?;
    Ok(())
}
