//! The Job of a Task, and the ConfigMap and Secret with its files.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kubetask_api::agent::AgentSpec;
use kubetask_api::{DEFAULT_NAME, Task, labels};

use super::{Action, Seen, Settings, Waiting, ownership, pod};
use crate::context::{self, Resolved};
use crate::names;

/// The Job's name: fixed by the Task's name and UID.
pub fn job_name(task: &Task) -> String {
    names::job_name(ownership::name(task), ownership::uid(task))
}

/// Everything that must exist for the Task to run, in the order in which to create it; or what is missing.
pub(super) fn build(task: &Task, seen: &Seen, settings: &Settings) -> Result<Vec<Action>, Vec<Waiting>> {
    let built_in;
    let agent = match &seen.agent {
        Some(agent) => &agent.spec,
        None => {
            built_in = AgentSpec { service_account_name: DEFAULT_NAME.to_owned(), ..AgentSpec::default() };
            &built_in
        }
    };
    let prompt =
        task.spec.prompt.as_ref().map(|prompt| kubetask_api::Context::inline(context::PROMPT_PATH, prompt.as_str()));
    let contexts = agent.default_contexts.iter().chain(prompt.iter()).chain(&task.spec.contexts);

    let mut missing = missing_credentials(agent, seen);
    let resolved = match context::resolve(contexts, &seen.config_maps, &seen.secrets) {
        Ok(resolved) if missing.is_empty() => resolved,
        Ok(_) => return Err(missing),
        Err(more) => {
            missing.extend(more.into_iter().filter(|w| !missing.contains(w)).collect::<Vec<_>>());
            return Err(missing);
        }
    };

    let name = job_name(task);
    let stored = names::files_name(&name);
    let template = pod::build(task, agent, &resolved, &stored, settings).map_err(|waiting| vec![waiting])?;
    let queue = task.metadata.labels.as_ref().and_then(|l| l.get(labels::KUEUE_QUEUE));
    let mut metadata = ownership::owned(task, name, "job");
    if let (Some(queue), Some(job_labels)) = (queue, metadata.labels.as_mut()) {
        job_labels.insert(labels::KUEUE_QUEUE.to_owned(), queue.clone());
    }
    let job = Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(task.spec.retries.unwrap_or(0)),
            active_deadline_seconds: task.spec.timeout_seconds,
            pod_replacement_policy: Some("Failed".to_owned()),
            // Kueue admits a Job by resuming it.
            suspend: queue.map(|_| true),
            template,
            ..JobSpec::default()
        }),
        status: None,
    };
    let mut actions = stored_files(task, resolved, stored);
    actions.push(Action::CreateJob(Box::new(job)));
    Ok(actions)
}

/// Credentials of the Agent that are not there.
fn missing_credentials(agent: &AgentSpec, seen: &Seen) -> Vec<Waiting> {
    let mut missing: Vec<Waiting> = Vec::new();
    for credential in &agent.credentials {
        let name = &credential.secret_ref.name;
        let waiting = match (seen.secrets.get(name), &credential.secret_ref.key) {
            (None, _) => Waiting::SecretMissing { name: name.clone() },
            (Some(secret), Some(key)) if !secret.data.as_ref().is_some_and(|d| d.contains_key(key)) => {
                Waiting::KeyMissing { kind: "Secret", name: name.clone(), key: key.clone() }
            }
            (Some(_), _) => continue,
        };
        if !missing.contains(&waiting) {
            missing.push(waiting);
        }
    }
    missing
}

/// The ConfigMap and the Secret, where there is something to store.
fn stored_files(task: &Task, resolved: Resolved, name: String) -> Vec<Action> {
    let mut actions = Vec::with_capacity(3);
    if !resolved.config_map.is_empty() {
        let mut data = BTreeMap::new();
        let mut binary = BTreeMap::new();
        for (key, bytes) in resolved.config_map {
            match String::from_utf8(bytes) {
                Ok(text) => drop(data.insert(key, text)),
                Err(error) => drop(binary.insert(key, ByteString(error.into_bytes()))),
            }
        }
        actions.push(Action::PutConfigMap(Box::new(ConfigMap {
            metadata: ownership::owned(task, name.clone(), "files"),
            data: (!data.is_empty()).then_some(data),
            binary_data: (!binary.is_empty()).then_some(binary),
            immutable: None,
        })));
    }
    if !resolved.secret.is_empty() {
        let data = resolved.secret.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
        actions.push(Action::PutSecret(Box::new(Secret {
            metadata: ownership::owned(task, name, "files"),
            data: Some(data),
            ..Secret::default()
        })));
    }
    actions
}
