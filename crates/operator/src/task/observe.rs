//! Gathers the world for one Task.
//!
//! Watches run behind, each for itself: what was created just before the Task may not have arrived when the Task has.
//! So whatever would be taken as missing is asked for where that would be for good (a Task without an Agent's name
//! falls back to the built-in agent; an optional file is left out), and at the first look, so that a manifest that holds
//! everything is not told that half of it is missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::Api;
use kubetask_api::{Agent, Task};
use kubetask_core::names::job_name;
use kubetask_core::task::{JobSeen, RefKind, Reference, Seen, agent_name, references};

use super::reconcile::{Context, Error};
use crate::world::TaskKey;

/// Gathers everything that the plan for this Task looks at.
///
/// # Errors
/// When content that is needed cannot be fetched.
pub(super) async fn observe(context: &Context, key: &TaskKey, task: &Task) -> Result<Seen, Error> {
    let mut seen = from_watches(context, key, task);
    // A Task that has its Job, or has ended, waits for nothing that it refers to.
    let has_job = seen.job.found().is_some() || task.status.as_ref().is_some_and(|s| s.job_name.is_some());
    if has_job || task.phase().is_finished() {
        context.world.lock().references.remove(key);
        return Ok(seen);
    }
    let namespace = key.namespace.as_ref();
    let first_look = task.status.is_none();
    if seen.agent.is_none() && (first_look || task.spec.agent_ref.is_none()) {
        let api: Api<Agent> = Api::namespaced(context.client.clone(), namespace);
        let name = agent_name(task);
        let found = api.get_opt(name).await;
        seen.agent = found.map_err(|source| Error::fetch("Agent", name, source))?.map(Arc::new);
    }
    let referred = {
        let mut state = context.world.lock();
        let all = references(task, seen.agent.as_deref());
        // From here on, what arrives brings another look.
        state.references.set(key, &all);
        all.into_iter()
            .map(|reference| {
                let exists = state.exists(namespace, &reference);
                (reference, exists)
            })
            .collect::<Vec<_>>()
    };
    let mut accounts = BTreeSet::new();
    for (reference, exists) in referred {
        if exists || first_look || (reference.optional && reference.data) {
            look_at(context, namespace, reference, exists, &mut seen, &mut accounts).await?;
        }
    }
    seen.service_accounts = Some(accounts);
    Ok(seen)
}

/// What the watches know. Registers the Task's interest in its Agent.
fn from_watches(context: &Context, key: &TaskKey, task: &Task) -> Seen {
    let mut state = context.world.lock();
    let namespace = key.namespace.as_ref();
    let agent = state.agent(namespace, agent_name(task));
    state.references.set(key, &references(task, agent.as_deref()));
    let job = job_name(&key.name, task.metadata.uid.as_deref().unwrap_or_default());
    let pods = state.jobs.pods(namespace, &job);
    Seen {
        agent,
        job: state.jobs.get(namespace, &job).map_or(JobSeen::NotCached, JobSeen::Found),
        pod_refused: state.jobs.refusal(namespace, &job).filter(|_| pods.is_empty()).map(|said| said.to_string()),
        pods,
        config: state.configs.get(namespace).cloned(),
        ..Seen::default()
    }
}

/// Fetches what the plan needs of an object. When it is gone by now, the watch will tell.
async fn look_at(
    context: &Context,
    namespace: &str,
    reference: Reference,
    exists: bool,
    seen: &mut Seen,
    accounts: &mut BTreeSet<String>,
) -> Result<(), Error> {
    let known = exists && !reference.data;
    let name = reference.name;
    match reference.kind {
        RefKind::Agent => {}
        RefKind::ServiceAccount => {
            if known || fetch::<ServiceAccount>(context, namespace, &name).await?.is_some() {
                accounts.insert(name);
            }
        }
        RefKind::ConfigMap => {
            let found = if known { Some(ConfigMap::default()) } else { fetch(context, namespace, &name).await? };
            if let Some(object) = found {
                seen.config_maps.insert(name, Arc::new(object));
            }
        }
        RefKind::Secret => {
            let found = if known { Some(Secret::default()) } else { fetch(context, namespace, &name).await? };
            if let Some(object) = found {
                seen.secrets.insert(name, Arc::new(object));
            }
        }
    }
    Ok(())
}

async fn fetch<K>(context: &Context, namespace: &str, name: &str) -> Result<Option<K>, Error>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + k8s_openapi::Resource
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    api.get_opt(name).await.map_err(|source| Error::fetch(K::KIND, name, source))
}
