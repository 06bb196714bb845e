//! Gathers the world for one Task.
//!
//! Watches run behind, each for itself: what was created just before the Task may not have arrived when the Task has.
//! So whatever would be told as missing is asked for before it is told the first time, and so is what would be missed for
//! good: the Agent named `default` (else the built-in one is used), an optional file (else it is left out), the Pod of a
//! Job that ended (else its exit code is lost).

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kubetask_api::{Agent, Task, conditions};
use kubetask_core::names::job_name;
use kubetask_core::task::{ClusterSeen, JobSeen, RefKind, Reference, Seen, Waiting, agent_name, references};

use super::reconcile::{Context, Error};
use crate::world::{TaskKey, is_finished};

/// How many milliseconds after a Job's end the watch of Pods is relied upon. Mostly it is there before the Job's.
const POD_WATCH_MS: i64 = 1000;

/// Gathers everything that the plan for this Task looks at.
///
/// # Errors
/// When content that is needed cannot be fetched.
pub(super) async fn observe(context: &Context, key: &TaskKey, task: &Task) -> Result<Seen, Error> {
    let (mut seen, waits) = from_watches(context, key, task);
    let namespace = key.namespace.as_ref();
    if !waits {
        if !task.phase().is_finished() && seen.job.found().is_some_and(|job| has_lost_its_pod(job, &seen.pods)) {
            seen.pods = pods_of_job(context, namespace, &job_name_of(key, task)).await?;
        }
        return Ok(seen);
    }
    if seen.agent.is_none() && (task.spec.agent_ref.is_none() || !is_told(task, conditions::ACCEPTED)) {
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
        let condition = match reference.kind {
            RefKind::Agent | RefKind::ServiceAccount => conditions::ACCEPTED,
            RefKind::ConfigMap | RefKind::Secret => conditions::CONTEXTS_RESOLVED,
        };
        if exists || !is_told(task, condition) || (reference.optional && reference.data) {
            look_at(context, namespace, reference, exists, &mut seen, &mut accounts).await?;
        }
    }
    seen.service_accounts = Some(accounts);
    seen.cluster = other_cluster(context, namespace, seen.agent.as_deref()).await;
    Ok(seen)
}

/// Whether the other cluster that the Agent names can be used.
async fn other_cluster(context: &Context, namespace: &str, agent: Option<&Agent>) -> ClusterSeen {
    let Some(target) = agent.and_then(|agent| agent.spec.cluster.as_ref()) else { return ClusterSeen::NotAsked };
    match context.config.clusters.reach(&context.client, namespace, target).await {
        Ok(cluster) => ClusterSeen::Reached { kubeconfig: cluster.kubeconfig },
        Err(error) => {
            let (cluster, said) = (target.to_string(), error.to_string());
            ClusterSeen::Trouble(Waiting::ClusterUnavailable { cluster, said })
        }
    }
}

/// What the watches know, and whether the Task may wait for something that it refers to: until it has its Job.
fn from_watches(context: &Context, key: &TaskKey, task: &Task) -> (Seen, bool) {
    let mut state = context.world.lock();
    let namespace = key.namespace.as_ref();
    let agent = state.agent(namespace, agent_name(task));
    let name = job_name_of(key, task);
    let job = state.jobs.get(namespace, &name);
    let had_job = task.status.as_ref().is_some_and(|status| status.job_name.is_some());
    let waits = job.is_none() && !had_job && !task.phase().is_finished();
    if waits {
        // Before anybody asks whether the Agent is there: from here on, its arrival brings another look.
        state.references.set(key, &references(task, agent.as_deref()));
    } else {
        state.references.remove(key);
    }
    let pods = match job.as_deref().and_then(end) {
        Some(_) => state.jobs.pods_at_the_end(namespace, &name),
        None => state.jobs.pods(namespace, &name),
    };
    let seen = Seen {
        agent,
        job: job.map_or(JobSeen::NotCached, JobSeen::Found),
        pod_refused: state.jobs.refusal(namespace, &name).filter(|_| pods.is_empty()).map(|said| said.to_string()),
        pods,
        config: state.configs.get(namespace).cloned(),
        surplus: state.is_surplus(key),
        ..Seen::default()
    };
    (seen, waits)
}

/// The name of the Task's Job.
pub(super) fn job_name_of(key: &TaskKey, task: &Task) -> String {
    job_name(&key.name, task.metadata.uid.as_deref().unwrap_or_default())
}

/// Whether the Task's status says already that something of this is missing.
fn is_told(task: &Task, condition: &str) -> bool {
    let told = task.status.as_ref().and_then(|status| conditions::find(&status.conditions, condition));
    told.is_some_and(|condition| condition.status == "False")
}

/// What the Job says of its end, if it has ended.
fn end(job: &Job) -> Option<&JobCondition> {
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))
}

/// Whether a Job ended a while ago, and its Pods have not been seen to end.
fn has_lost_its_pod(job: &Job, pods: &[Arc<Pod>]) -> bool {
    let ended = end(job).and_then(|end| end.last_transition_time.as_ref());
    let since = |at: &Time| Timestamp::now().as_millisecond() - at.0.as_millisecond();
    ended.is_some_and(|at| since(at) >= POD_WATCH_MS) && (pods.is_empty() || !pods.iter().all(|pod| is_finished(pod)))
}

async fn pods_of_job(context: &Context, namespace: &str, job: &str) -> Result<Vec<Arc<Pod>>, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let list = api.list(&of_job).await.map_err(|source| Error::fetch("Pods of Job", job, source))?;
    Ok(list.items.into_iter().map(Arc::new).collect())
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
