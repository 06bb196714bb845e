//! What a relay says of a Pod on the other cluster while its agent does not run yet.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kubetask_core::task::AGENT_CONTAINER;

/// Why a Pod's agent does not run yet, as Kubernetes says it.
pub(super) fn waits(pod: &Pod) -> String {
    let name = pod.name_any();
    let Some(status) = &pod.status else { return format!("Pod {name} was made") };
    let unscheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or("no node was found");
        return format!("Pod {name} is not on a node: {why}");
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref().map(|w| (&c.name, w))).next();
    match waiting {
        Some((container, waiting)) => {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
            format!("Pod {name}, container {container}: {reason}{message}")
        }
        None => format!("Pod {name} is {}", status.phase.as_deref().unwrap_or("Pending")),
    }
}

/// Whether the Pod's agent runs or ran.
pub(super) fn agent_started(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let agent = containers.into_iter().flatten().find(|c| c.name == AGENT_CONTAINER);
    agent.and_then(|c| c.state.as_ref()).is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

/// Whether the Pod's agent has ended, and its container stays for a person. Only for Pods that may.
pub(super) fn agent_waits(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let agent = containers.into_iter().flatten().find(|c| c.name == AGENT_CONTAINER);
    let runs = agent.and_then(|c| c.state.as_ref()).is_some_and(|s| s.running.is_some());
    runs && agent.is_some_and(|c| c.started == Some(true)) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the Pod's agent has ended, or never will start.
pub(super) fn agent_ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref());
    let agent = containers.into_iter().flatten().find(|c| c.name == AGENT_CONTAINER);
    agent.and_then(|c| c.state.as_ref()).is_some_and(|s| s.terminated.is_some())
        || matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}
