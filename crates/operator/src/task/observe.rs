//! Gathers the world for one Task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::api::{Api, ListParams};
use kubetask_api::Task;
use kubetask_core::names::job_name;
use kubetask_core::task::{JobSeen, RefKind, Reference, Seen, agent_name, references};

use super::reconcile::{Context, Error};
use crate::world::TaskKey;

/// Gathers everything that the plan for this Task looks at.
///
/// # Errors
/// When content that is needed cannot be fetched.
pub(super) async fn observe(context: &Context, key: &TaskKey, task: &Task) -> Result<Seen, Error> {
    let (mut seen, needed) = from_world(context, key, task);
    let namespace = key.namespace.as_ref();
    for reference in needed {
        // It was there a moment ago; when it is gone by now, the watch will tell.
        match reference.kind {
            RefKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
                let found = api.get_opt(&reference.name).await;
                if let Some(object) = found.map_err(|source| Error::fetch("ConfigMap", &reference.name, source))? {
                    seen.config_maps.insert(reference.name, Arc::new(object));
                }
            }
            RefKind::Secret => {
                let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
                let found = api.get_opt(&reference.name).await;
                if let Some(object) = found.map_err(|source| Error::fetch("Secret", &reference.name, source))? {
                    seen.secrets.insert(reference.name, Arc::new(object));
                }
            }
            RefKind::Agent | RefKind::ServiceAccount => {}
        }
    }
    if let Some(job) = seen.job.found()
        && seen.pods.is_empty()
        && job.status.as_ref().is_none_or(|s| s.conditions.as_ref().is_none_or(Vec::is_empty))
        && age_seconds(job) >= 1
    {
        seen.pod_refused = refusal(context, namespace, job.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    Ok(seen)
}

/// What the watches know, and the references whose content must still be fetched.
fn from_world(context: &Context, key: &TaskKey, task: &Task) -> (Seen, Vec<Reference>) {
    let mut state = context.world.lock();
    let namespace = key.namespace.as_ref();
    let agent = state.agent(namespace, agent_name(task));
    let uid = task.metadata.uid.as_deref().unwrap_or_default();
    let job = job_name(&key.name, uid);
    let found = state.jobs.get(namespace, &job);
    let pods = state.jobs.pods(namespace, &job);
    let mut seen = Seen {
        agent: agent.clone(),
        job: found.map_or(JobSeen::NotCached, JobSeen::Found),
        pods,
        config: state.configs.get(namespace).cloned(),
        ..Seen::default()
    };
    // A Task that has its Job, or has ended, waits for nothing that it refers to.
    let has_job = seen.job.found().is_some() || task.status.as_ref().is_some_and(|s| s.job_name.is_some());
    if has_job || task.phase().is_finished() {
        state.references.remove(key);
        return (seen, Vec::new());
    }
    let all = references(task, agent.as_deref());
    state.references.set(key, &all);
    let mut needed = Vec::new();
    let mut accounts = BTreeSet::new();
    let mut config_maps = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    for reference in all {
        if !state.exists(namespace, &reference) {
            continue;
        }
        match (reference.kind, reference.data) {
            (RefKind::Agent, _) => {}
            (RefKind::ServiceAccount, _) => {
                accounts.insert(reference.name);
            }
            (RefKind::ConfigMap, false) => {
                config_maps.insert(reference.name, Arc::new(ConfigMap::default()));
            }
            (RefKind::Secret, false) => {
                secrets.insert(reference.name, Arc::new(Secret::default()));
            }
            (RefKind::ConfigMap | RefKind::Secret, true) => needed.push(reference),
        }
    }
    seen.service_accounts = Some(accounts);
    seen.config_maps = config_maps;
    seen.secrets = secrets;
    (seen, needed)
}

fn age_seconds(job: &k8s_openapi::api::batch::v1::Job) -> i64 {
    let created = job.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second());
    created.map_or(0, |created| k8s_openapi::jiff::Timestamp::now().as_second() - created)
}

/// Why the Job's Pod may not be created, as the job controller told it.
async fn refusal(context: &Context, namespace: &str, job: &str) -> Result<Option<String>, Error> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let selector = format!("involvedObject.kind=Job,involvedObject.name={job},reason=FailedCreate");
    let list = events.list(&ListParams::default().fields(&selector)).await;
    let list = list.map_err(|source| Error::fetch("events of Job", job, source))?;
    let latest = list.items.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|t| t.0));
    Ok(latest.and_then(|event| event.message))
}
