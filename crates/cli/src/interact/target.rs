//! From the name of a task to its running pod.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kubetask_api::Task;
use kubetask_core::task::AGENT_CONTAINER;

use crate::connect::Connection;
use crate::error::{CommandError, CommandResult, chain};

/// A container to talk to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The pods of its namespace.
    pub pods: Api<Pod>,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// What to say if the container is not there: its pod was not seen running.
    early: Option<Early>,
}

/// A task whose agent was not seen running.
#[derive(Debug, Clone)]
struct Early {
    task: String,
    why: String,
}

impl Target {
    /// What the server answered instead of opening the streams.
    pub(crate) fn said(&self, error: &kube::Error) -> CommandError {
        match (error, &self.early) {
            // The words of every kubelet; their code differs.
            (kube::Error::Api(status), Some(early)) if status.message.contains("container not found") => early.told(),
            _ => CommandError::failure(chain(error)),
        }
    }
}

impl Early {
    fn told(&self) -> CommandError {
        let Self { task, why } = self;
        CommandError::failure(format!("task {task:?} has no pod yet: {why}"))
            .hint(format!("`kubetask wait {task} --for=condition=Running` waits for it"))
    }
}

/// Finds the pod of a task, or the pod that `pod/NAME` names.
///
/// # Errors
/// When there is none, or it does not run.
pub async fn find(connection: &Connection, name: &str, container: Option<&str>) -> CommandResult<Target> {
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let container = container.unwrap_or(AGENT_CONTAINER).to_owned();
    if let Some(pod) = name.strip_prefix("pod/") {
        return Ok(Target { pods, pod: pod.to_owned(), container, early: None });
    }
    let name = name.strip_prefix("task/").unwrap_or(name);
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let task = tasks.get(name).await?;
    let status = task.status.clone().unwrap_or_default();
    if task.phase().is_finished() {
        return Err(CommandError::failure(format!("task {name:?} has ended ({}): its pod runs no more", task.phase()))
            .hint("an Agent with humanInTheLoop stays for a while after the work is done"));
    }
    if let Some(pod) = status.pod_name {
        return Ok(Target { pods, pod, container, early: None });
    }
    let why = status.message.unwrap_or_else(|| "nobody has looked at it yet".to_owned());
    let early = Early { task: name.to_owned(), why };
    let of_job = match &status.job_name {
        Some(job) => pods_of(&pods, job).await?,
        None => Vec::new(),
    };
    match likely(of_job) {
        Some((pod, true)) => Ok(Target { pods, pod, container, early: None }),
        Some((pod, false)) => Ok(Target { pods, pod, container, early: Some(early) }),
        None => Err(early.told()),
    }
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

/// Of the pods of a Job, the newest last, the one whose agent runs, and whether that was seen: Task and Pod say it a
/// moment later, so it may be any that is on a node and not over. The node knows.
fn likely(pods: Vec<Pod>) -> Option<(String, bool)> {
    let runs = |pod: &Pod| {
        let all = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let state = all.into_iter().flatten().find(|c| c.name == AGENT_CONTAINER).and_then(|c| c.state.as_ref());
        state.is_some_and(|state| state.running.is_some())
    };
    let may_run = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
            && pod.metadata.deletion_timestamp.is_none()
            && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let seen = pods.iter().rposition(runs);
    let found = seen.or_else(|| pods.iter().rposition(may_run))?;
    let name = pods.into_iter().nth(found)?.metadata.name?;
    Some((name, seen.is_some()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: Option<&str>, status: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [], "nodeName": node},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn agent(state: &str) -> Value {
        let of_agent = json!({
            "name": AGENT_CONTAINER, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {state: {}},
        });
        json!({"phase": "Running", "containerStatuses": [of_agent]})
    }

    #[test]
    fn the_pod_that_was_seen_running_is_it() {
        let pods = vec![
            pod("old", Some("node"), json!({"phase": "Failed"})),
            pod("seen", Some("node"), agent("running")),
            pod("new", Some("node"), json!({"phase": "Pending"})),
        ];
        assert_eq!(likely(pods), Some(("seen".to_owned(), true)));
    }

    #[test]
    fn a_pod_on_a_node_may_run_before_its_status_says_so() {
        let started = pod("b", Some("node"), json!({"phase": "Pending"}));
        let mut deleted = pod("c", Some("node"), agent("waiting"));
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let others = [
            pod("a", Some("node"), json!({"phase": "Failed"})),
            deleted,
            pod("d", None, json!({"phase": "Pending"})),
            pod("e", Some("node"), json!({"phase": "Succeeded"})),
        ];
        assert_eq!(likely(others.to_vec()), None);
        let all = [std::slice::from_ref(&started), others.as_slice()].concat();
        assert_eq!(likely(all), Some(("b".to_owned(), false)));
        // Nothing was said of it at all yet.
        assert_eq!(likely(vec![pod("f", Some("node"), json!(null))]), Some(("f".to_owned(), false)));
        assert_eq!(likely(Vec::new()), None);
    }
}
