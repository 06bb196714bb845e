//! Reading a Task's Pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use kubetask_api::labels;

use super::Waiting;
use super::pod::AGENT_CONTAINER;
use crate::cluster;

/// Waiting reasons that mean the image cannot be had.
const PULL_TROUBLE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// Waiting reasons that mean the container cannot be made.
const CONFIG_TROUBLE: &[&str] =
    &["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError"];

/// The latest attempt, whatever the order in which Pods were seen.
pub(super) fn latest(pods: &[Arc<Pod>]) -> Option<&Pod> {
    pods.iter()
        .max_by(|a, b| {
            let born = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (born(a), &a.metadata.name).cmp(&(born(b), &b.metadata.name))
        })
        .map(Arc::as_ref)
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether nothing of it runs any more.
pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn agent(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|c| c.name == AGENT_CONTAINER)
}

/// One of the containers that are started before the agent.
pub(super) fn init_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    pod.status.as_ref()?.init_container_statuses.as_ref()?.iter().find(|c| c.name == name)
}

/// How the agent ended, in this Pod.
pub(super) fn agent_ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    agent(pod)?.state.as_ref()?.terminated.as_ref()
}

/// When the agent started, in this Pod; `None` when it did not.
pub(super) fn agent_started(pod: &Pod) -> Option<Timestamp> {
    let state = agent(pod)?.state.as_ref()?;
    let running = state.running.as_ref().and_then(|r| r.started_at.as_ref());
    let started = running.or_else(|| state.terminated.as_ref().and_then(|t| t.started_at.as_ref())).map(|t| t.0)?;
    // The kubelet's word for "it never started" is the epoch.
    (started.as_second() > 0).then_some(started)
}

/// Whether the agent runs now, in this Pod.
pub(super) fn agent_runs(pod: &Pod) -> bool {
    agent(pod).and_then(|c| c.state.as_ref()).is_some_and(|s| s.running.is_some()) && !is_finished(pod)
}

/// For how many seconds the container stays for a person, once its agent has ended; `None` while the agent works, and where
/// no person is wanted.
pub(super) fn waits_for_human(pod: &Pod) -> Option<&str> {
    let seconds = pod.metadata.annotations.as_ref()?.get(labels::HUMAN)?;
    let waits = agent_runs(pod) && agent(pod)?.started == Some(true) && pod.metadata.deletion_timestamp.is_none();
    waits.then_some(seconds.as_str())
}

/// The init container that kept the agent from starting, and how it ended. One that ends after the agent is a sidecar.
pub(super) fn failed_init(pod: &Pod) -> Option<(&str, &ContainerStateTerminated)> {
    if agent_started(pod).is_some() {
        return None;
    }
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    all.iter().find_map(|c| {
        let ended = c.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then_some((c.name.as_str(), ended))
    })
}

/// Why a relay did not get its Job made on the other cluster: what it said when it ended last.
fn relay_trouble(pod: &Pod) -> Option<String> {
    let submit = init_container(pod, cluster::SUBMIT)?;
    let ended = submit.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let ended = ended.or_else(|| submit.state.as_ref()?.terminated.as_ref()).filter(|e| e.exit_code != 0)?;
    let said = ended.message.as_deref().map(str::trim).filter(|said| !said.is_empty());
    Some(said.map_or_else(|| format!("exit code {}", ended.exit_code), str::to_owned))
}

/// Why a Pod does not get going.
pub(super) fn trouble(pod: &Pod) -> Option<Waiting> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
    if let Some(condition) = unscheduled {
        return Some(Waiting::Unschedulable { said: condition.message.clone().unwrap_or_default() });
    }
    if let Some(said) = relay_trouble(pod) {
        return Some(Waiting::ClusterRefused { said });
    }
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let said = waiting.message.clone().unwrap_or_else(|| reason.to_owned());
        if PULL_TROUBLE.contains(&reason) {
            Some(Waiting::ImagePull { image: container.image.clone(), said })
        } else if CONFIG_TROUBLE.contains(&reason) {
            Some(Waiting::ContainerConfig { said })
        } else {
            None
        }
    })
}
