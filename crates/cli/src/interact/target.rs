//! From the name of a task to its running pod.

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kubetask_api::Task;
use kubetask_core::task::AGENT_CONTAINER;

use crate::connect::Connection;
use crate::error::{CommandError, CommandResult};

/// A container to talk to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The pods of its namespace.
    pub pods: Api<Pod>,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

/// Finds the pod of a task, or the pod that `pod/NAME` names.
///
/// # Errors
/// When there is none, or it does not run.
pub async fn find(connection: &Connection, name: &str, container: Option<&str>) -> CommandResult<Target> {
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let container = container.unwrap_or(AGENT_CONTAINER).to_owned();
    if let Some(pod) = name.strip_prefix("pod/") {
        return Ok(Target { pods, pod: pod.to_owned(), container });
    }
    let name = name.strip_prefix("task/").unwrap_or(name);
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let task = tasks.get(name).await?;
    let status = task.status.clone().unwrap_or_default();
    let Some(pod) = status.pod_name else {
        let why = status.message.unwrap_or_else(|| "nobody has looked at it yet".to_owned());
        return Err(CommandError::failure(format!("task {name:?} has no pod yet: {why}"))
            .hint(format!("`kubetask wait {name} --for=condition=Running` waits for it")));
    };
    if task.phase().is_finished() {
        return Err(CommandError::failure(format!("task {name:?} has ended ({}): its pod runs no more", task.phase()))
            .hint("an Agent with humanInTheLoop stays for a while after the work is done"));
    }
    Ok(Target { pods, pod, container })
}
