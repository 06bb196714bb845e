//! One Task: [`plan`](fn@plan) turns what was seen into what shall be done.
//!
//! ```text
//! Task, Agent, ConfigMaps, Secrets ──job──▶ ConfigMap, Secret, Job        (no Job yet)
//! Job, Pods ──────────────────────outcome──▶ status, stop, suspend        (a Job)
//! config, completionTime ───────retention──▶ delete, or when to look again (finished)
//! ```

mod changes;
mod human;
mod job;
pub mod notify;
mod outcome;
mod ownership;
pub mod plan;
mod pod;
mod pods;
pub mod references;
mod security;
pub mod seen;
pub mod settings;
mod status;
mod steer;
pub mod trace;
mod volumes;
pub mod waiting;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::{Task, TaskStatus, reasons};

pub use changes::{CHANGES_CONTAINER, ChangesSaid};
pub use human::{DEFAULT_KEEP_ALIVE_SECONDS, KEEP_ALIVE_ENV, WAITS_FILE};
pub(crate) use human::{STATE_DIR as HUMAN_DIR, probe_by as human_probe};
pub use job::job_name;
pub use ownership::is_owned;
pub use plan::{Action, EventNote, Plan};
pub use pod::AGENT_CONTAINER;
pub use references::{RefKind, Reference, agent_name, agent_references, references};
pub(crate) use security::{container as restricted_container, pod as restricted_pod};
pub use seen::{Admission, ClusterSeen, JobSeen, Seen};
pub use settings::{DEFAULT_AGENT_IMAGE, OWN_IMAGE_REPOSITORY, Settings};
pub use waiting::Waiting;

use self::status::Draft;
use crate::{cluster, retention};

/// After how long a Job that was refused is tried again.
const REFUSED_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// After how long another cluster that did not answer is asked again.
const CLUSTER_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// What shall be done for a Task, given what was seen. The same input gives the same plan; a plan that was carried out
/// leads to a quiet one.
pub fn plan(now: Timestamp, task: &Task, seen: &Seen, settings: &Settings) -> Plan {
    let mut plan = decide(status::whole_seconds(now), task, seen, settings);
    if let Some(status) = &mut plan.status {
        let wanted = notify::wanted(seen.config.as_deref(), settings.notifications.as_ref());
        notify::note(task, wanted, status);
    }
    plan
}

fn decide(now: Timestamp, task: &Task, seen: &Seen, settings: &Settings) -> Plan {
    if task.metadata.deletion_timestamp.is_some() {
        return release(task);
    }
    if task.phase().is_finished() {
        return retire(now, task, seen);
    }
    let had_job = task.status.as_ref().is_some_and(|s| s.job_name.is_some());
    match &seen.job {
        JobSeen::Found(job) if is_owned(task, &job.metadata) => steer::with_job(now, task, seen, job),
        JobSeen::Found(_) => {
            let said = format!("a Job named {} belongs to somebody else; delete it", job_name(task));
            wait(Draft::new(now, task), vec![Waiting::JobRefused { said }])
        }
        JobSeen::NotCached if had_job => Plan { verify_job: true, ..Plan::default() },
        JobSeen::Gone if had_job => {
            let mut draft = Draft::new(now, task);
            let (namespace, name) = (ownership::namespace(task), ownership::name(task));
            let message = format!(
                "the Job was deleted while the Task was not finished; the agent is not run again by itself, but with \
                 kubetask retry -n {namespace} {name}"
            );
            draft.fail(reasons::JOB_LOST, message, now);
            draft.into_plan()
        }
        JobSeen::NotCached | JobSeen::Gone => without_job(now, task, seen, settings),
    }
}

/// A Task that goes takes its Job on another cluster with it. What it owns here goes by its owner references.
fn release(task: &Task) -> Plan {
    let held = task.metadata.finalizers.iter().flatten().any(|name| name == cluster::FINALIZER);
    let record = cluster::recorded(task).map(Box::new);
    Plan { actions: held.then_some(Action::ReleaseCluster { record }).into_iter().collect(), ..Plan::default() }
}

/// How a Job ended that was made elsewhere for the Task; `None` while it has not, or while the end of its Pod may still
/// be on its way.
pub(crate) fn ended(now: Timestamp, task: &Task, job: &Job, pods: &[Arc<Pod>]) -> Option<TaskStatus> {
    let (end, at) = outcome::job_end(job)?;
    if outcome::wait_for_pod(now, &end, at, pods).is_some() {
        return None;
    }
    let mut draft = Draft::new(now, task);
    draft.status.attempts = i32::try_from(pods.len()).ok();
    outcome::finish(&mut draft, task, job, &end, at, now, pods);
    Some(draft.status)
}

/// A finished Task is archived where its namespace wants that, and deleted when its time has come.
fn retire(now: Timestamp, task: &Task, seen: &Seen) -> Plan {
    let config = seen.config.as_deref();
    let archive = retention::wants_archive(task, config);
    match retention::fate(now, task, config, seen.surplus) {
        retention::Fate::Goes => Plan {
            actions: vec![Action::DeleteTask {
                name: ownership::name(task).to_owned(),
                uid: ownership::uid(task).to_owned(),
            }],
            ..Plan::default()
        },
        retention::Fate::Stays(until) => Plan { wake_at: until, archive, ..Plan::default() },
    }
}

/// Creates the Job, or says what it waits for.
fn without_job(now: Timestamp, task: &Task, seen: &Seen, settings: &Settings) -> Plan {
    let mut draft = Draft::new(now, task);
    if task.spec.stop == Some(true) {
        draft.fail(reasons::STOPPED, "stopped before it started", now);
        return draft.into_plan();
    }
    let mut why = Vec::new();
    match (&seen.agent, &task.spec.agent_ref) {
        (None, Some(name)) => why.push(Waiting::AgentMissing { name: name.clone() }),
        (None, None) => {
            draft.accept(reasons::BUILT_IN_AGENT, "no Agent named default exists; the built-in agent is used")
        }
        (Some(_), _) => draft.accept(reasons::ACCEPTED, "the Agent is there"),
    }
    let target = seen.agent.as_ref().and_then(|agent| agent.spec.cluster.as_ref());
    if let (Some(agent), Some(existing), None) = (&seen.agent, &seen.service_accounts, target) {
        let wanted = &agent.spec.service_account_name;
        if wanted != kubetask_api::DEFAULT_NAME && !existing.contains(wanted) {
            let agent = agent_name(task).to_owned();
            why.push(Waiting::ServiceAccountMissing { name: wanted.clone(), agent });
        }
    }
    let mut actions = Vec::new();
    // Without its Agent nobody knows all contexts, so nothing is said of them.
    if !matches!(why.first(), Some(Waiting::AgentMissing { .. })) {
        let elsewhere = target.map(|_| settings.elsewhere());
        let built = job::build(task, seen, elsewhere.as_ref().unwrap_or(settings));
        let built = built.and_then(|actions| match (target, &seen.cluster) {
            (None, _) => Ok(actions),
            (Some(_), ClusterSeen::Trouble(waiting)) => Err(vec![waiting.clone()]),
            (Some(target), ClusterSeen::NotAsked) => relay(task, target, None, actions, settings),
            (Some(target), ClusterSeen::Reached { kubeconfig }) => {
                relay(task, target, kubeconfig.as_deref(), actions, settings)
            }
        });
        match built {
            Ok(built) => {
                draft.resolved();
                actions = built;
            }
            Err(missing) => {
                let resolved = |w: &Waiting| matches!(w, Waiting::Invalid { .. } | Waiting::ClusterUnavailable { .. });
                if missing.iter().all(resolved) {
                    draft.resolved();
                }
                why.extend(missing);
            }
        }
    }
    if task.spec.suspend == Some(true) {
        why.push(Waiting::Suspended);
    } else if let Admission::Queued { position, limit, .. } = &seen.admission {
        let agent = agent_name(task).to_owned();
        why.push(Waiting::AgentBusy { agent, limit: *limit, position: *position });
    }
    if !why.is_empty() {
        let far = why.iter().any(|w| matches!(w, Waiting::ClusterUnavailable { .. }));
        let mut plan = wait(draft, why);
        plan.wake_at = far.then(|| now.checked_add(CLUSTER_AGAIN).ok()).flatten();
        return plan;
    }
    if let Some(said) = &seen.refused {
        let mut plan = wait(draft, vec![Waiting::JobRefused { said: said.clone() }]);
        plan.wake_at = now.checked_add(REFUSED_AGAIN).ok();
        return plan;
    }
    // A Job in a Kueue queue is created suspended.
    let waiting = match steer::queue(task) {
        Some(queue) => Waiting::KueueQueue { queue: queue.to_owned() },
        None => Waiting::Starting,
    };
    draft.job_created(job_name(task), &waiting);
    Plan { actions, why: vec![waiting], ..draft.into_plan() }
}

fn relay(
    task: &Task,
    target: &kubetask_api::agent::ClusterTarget,
    kubeconfig: Option<&str>,
    actions: Vec<Action>,
    settings: &Settings,
) -> Result<Vec<Action>, Vec<Waiting>> {
    cluster::relay(task, target, kubeconfig, actions, settings).map_err(|waiting| vec![waiting])
}

fn wait(mut draft: Draft<'_>, why: Vec<Waiting>) -> Plan {
    draft.wait(&why);
    Plan { why, ..draft.into_plan() }
}

/// The condition whose reason explains the phase: what `status.reason` and `status.message` repeat.
pub fn deciding_condition(status: &TaskStatus) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status::deciding(&status.conditions)
}
