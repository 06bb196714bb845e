//! What the agent changed in its repositories: a container beside the agent's that waits for its end, and what it says.
//!
//! It is a sidecar (KEP-753): Kubernetes ends it after the agent, and waits for it. Then it compares each checkout with
//! how it was, writes the patch to its log, and the numbers to its termination message. It needs no permission, and the
//! patch lives as long as the Pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kubetask_api::agent::AgentSpec;
use kubetask_api::task::RepositoryChanges;
use serde::{Deserialize, Serialize};

use super::volumes::Volumes;
use super::{Settings, pod, pods, security};
use crate::context::Resolved;
use crate::context::fetch::{self, ChangesJob, ChangesOf};

/// The name of the container whose log is the patch.
pub const CHANGES_CONTAINER: &str = "changes";
/// The most that the container may say of itself (`api/core/v1`, `terminationMessagePath`).
const SAID_MAX: usize = 4096;
/// The most repositories that are counted.
const REPOSITORIES_MAX: usize = 64;

/// The container's termination message, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesSaid {
    /// What changed, one entry a repository.
    pub changes: Vec<RepositoryChanges>,
}

impl ChangesSaid {
    /// As JSON that fits a termination message; what does not fit is left out, the last first.
    pub fn into_message(self) -> String {
        let said = Self { changes: self.fitting(SAID_MAX) };
        serde_json::to_string(&said).unwrap_or_default()
    }

    /// As many, from the first, as take at most so many bytes of JSON.
    pub(crate) fn fitting(mut self, max: usize) -> Vec<RepositoryChanges> {
        while serde_json::to_string(&self).is_ok_and(|text| text.len() > max) && self.changes.pop().is_some() {}
        self.changes
    }
}

/// The container, where a repository's changes are collected.
pub(super) fn container(
    agent: &AgentSpec,
    resolved: &Resolved,
    volumes: &Volumes,
    settings: &Settings,
) -> Option<Container> {
    let all = &resolved.repositories;
    let collected = all.iter().filter_map(|checkout| Some((&checkout.git.path, checkout.git.base.clone()?)));
    // A file that is mounted somewhere in a checkout is an empty one there; a checkout in a checkout is told by itself.
    let inner = || {
        let mounts = volumes.agent.iter().map(|mount| mount.mount_path.as_str());
        mounts.chain(all.iter().map(|checkout| checkout.git.path.as_str()))
    };
    let repositories: Vec<ChangesOf> = collected
        .map(|(path, base)| {
            let below = |other: &str| other.strip_prefix(path.as_str())?.strip_prefix('/').map(str::to_owned);
            let mut exclude: Vec<String> = inner().filter_map(below).collect();
            exclude.sort();
            exclude.dedup();
            ChangesOf { path: path.clone(), base, exclude }
        })
        .collect();
    if repositories.is_empty() {
        return None;
    }
    let job = serde_json::to_string(&ChangesJob { repositories }).unwrap_or_default();
    Some(Container {
        name: CHANGES_CONTAINER.to_owned(),
        image: Some(settings.own_image.clone()),
        command: Some(["kubetask", "context", "changes"].map(str::to_owned).to_vec()),
        env: Some(vec![pod::value(fetch::GIT_ENV, &pod::escape(&job))]),
        restart_policy: Some("Always".to_owned()),
        resources: Some(resources(agent)),
        security_context: Some(security::container()),
        volume_mounts: Some(volumes.changes.clone()),
        ..Container::default()
    })
}

/// It waits, and then looks at files. A limit on the processor only where the agent has one: a quota may want it then.
fn resources(agent: &AgentSpec) -> ResourceRequirements {
    let amounts = |all: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        all.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    let limited = agent.resources.as_ref().and_then(|r| r.limits.as_ref()).is_some_and(|all| all.contains_key("cpu"));
    let mut limits = amounts(&[("memory", "512Mi")]);
    if limited {
        limits.extend(amounts(&[("cpu", "1")]));
    }
    ResourceRequirements {
        requests: Some(amounts(&[("cpu", "10m"), ("memory", "32Mi")])),
        limits: Some(limits),
        claims: None,
    }
}

/// Whether the Pod tells what was changed, once nothing of it runs any more.
pub(super) fn are_collected(pod: &Pod) -> bool {
    pods::init_container(pod, CHANGES_CONTAINER).is_some()
}

/// What the Pod told of changes.
pub(super) fn of(pod: &Pod) -> Vec<RepositoryChanges> {
    let told = || {
        let container = pods::init_container(pod, CHANGES_CONTAINER)?;
        let text = container.state.as_ref()?.terminated.as_ref()?.message.as_deref()?;
        serde_json::from_str::<ChangesSaid>(text).ok()
    };
    let mut changes = told().unwrap_or_default().changes;
    changes.truncate(REPOSITORIES_MAX);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_fits_a_termination_message() {
        let one = RepositoryChanges { path: format!("/workspace/{}", "x".repeat(300)), files: 3, ..Default::default() };
        let said = ChangesSaid { changes: vec![one; 40] };
        let text = said.clone().into_message();
        assert!(text.len() <= SAID_MAX, "{}", text.len());
        let read: ChangesSaid = serde_json::from_str(&text).unwrap();
        assert_eq!(read.changes[..], said.changes[..read.changes.len()]);
        assert!(read.changes.len() > 8);
    }
}
