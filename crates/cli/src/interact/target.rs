//! From the name of a task to its running pod.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
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
    if task.phase().is_finished() {
        return Err(CommandError::failure(format!("task {name:?} has ended ({}): its pod runs no more", task.phase()))
            .hint("an Agent with humanInTheLoop stays for a while after the work is done"));
    }
    let pod = match (status.pod_name, &status.job_name) {
        (None, Some(job)) => running_pod(&pods, job).await?,
        (pod, _) => pod,
    };
    let Some(pod) = pod else {
        let why = status.message.unwrap_or_else(|| "nobody has looked at it yet".to_owned());
        return Err(CommandError::failure(format!("task {name:?} has no pod yet: {why}"))
            .hint(format!("`kubetask wait {name} --for=condition=Running` waits for it")));
    };
    Ok(Target { pods, pod, container })
}

/// The pods of a Job, the newest last.
///
/// # Errors
/// When the server cannot be asked.
pub(crate) async fn pods_of(pods: &Api<Pod>, job: &str) -> Result<Vec<Pod>, kube::Error> {
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut all = pods.list(&of_job).await?.items;
    all.sort_by_key(|pod| (pod.creation_timestamp().map(|at| at.0), pod.name_any()));
    Ok(all)
}

/// The pod of a Job whose agent runs: the Task's status names it a moment later.
async fn running_pod(pods: &Api<Pod>, job: &str) -> CommandResult<Option<String>> {
    let runs = |pod: &Pod| {
        let all = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let state = all.into_iter().flatten().find(|c| c.name == AGENT_CONTAINER).and_then(|c| c.state.as_ref());
        state.is_some_and(|state| state.running.is_some())
    };
    Ok(pods_of(pods, job).await?.into_iter().find(runs).and_then(|pod| pod.metadata.name))
}
