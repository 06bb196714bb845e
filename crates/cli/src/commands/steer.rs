//! `kubetask suspend`, `resume` and `retry`.

use clap::Args;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kubetask_api::Task;
use serde_json::json;

use crate::args::GlobalArgs;
use crate::commands::apply::FIELD_MANAGER;
use crate::connect::{self, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask suspend` and `kubetask resume`.
#[derive(Debug, Args)]
pub struct SuspendArgs {
    /// Names of tasks
    #[arg(value_name = "TASK", required = true)]
    pub names: Vec<String>,
}

/// Arguments of `kubetask retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Name of a task that has ended
    #[arg(value_name = "TASK")]
    pub name: String,
    /// Name of the new task [default: the old one's with a suffix]
    #[arg(long = "name", value_name = "NAME")]
    pub name_new: Option<String>,
}

/// Annotation on a Task: the one it repeats.
const RETRY_OF: &str = "kubetask.io/retry-of";

/// Suspends or resumes tasks.
///
/// # Errors
/// When a task is not there.
pub async fn suspend(args: SuspendArgs, suspend: bool, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let mut result = Ok(exit_codes::OK);
    for name in &args.names {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match tasks.patch(name, &params, &patch).await {
            Ok(_) => output.data(&format!("task.kubetask.io/{name} {}", if suspend { "suspended" } else { "resumed" })),
            Err(error) => {
                result = Err(error.into());
                break;
            }
        }
    }
    connection.close().await;
    result
}

/// Runs a task that has ended once more, under a new name; the old one and its log stay.
///
/// # Errors
/// When it is not there, or has not ended.
pub async fn retry(args: RetryArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let result = again(&tasks, &args.name, args.name_new).await;
    connection.close().await;
    output.data(&format!("task.kubetask.io/{} created", result?));
    Ok(exit_codes::OK)
}

/// Creates the same Task once more; returns its name.
///
/// # Errors
/// When it has not ended, or the server says no.
pub async fn again(tasks: &Api<Task>, name: &str, new_name: Option<String>) -> CommandResult<String> {
    let old = tasks.get(name).await?;
    if !old.phase().is_finished() {
        return Err(CommandError::failure(format!("task {name:?} has not ended ({})", old.phase()))
            .hint(format!("`kubetask stop {name}` ends it")));
    }
    let mut spec = old.spec;
    // What steered the old run is no part of the new one.
    (spec.stop, spec.suspend) = (None, None);
    let first = old.metadata.annotations.as_ref().and_then(|a| a.get(RETRY_OF)).map_or(name, String::as_str).to_owned();
    let new_name = new_name.unwrap_or_else(|| {
        let suffix = crate::commands::run::random_suffix();
        format!("{}-{suffix}", kubetask_core::names::shorten(&first, 200))
    });
    let mut annotations = old.metadata.annotations.unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(RETRY_OF.to_owned(), first);
    let task = Task {
        metadata: ObjectMeta {
            name: Some(new_name.clone()),
            labels: old.metadata.labels,
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    tasks.create(&params, &task).await?;
    Ok(new_name)
}
