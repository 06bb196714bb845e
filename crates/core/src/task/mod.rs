//! One Task: [`plan`](fn@plan) turns what was seen into what shall be done.
//!
//! ```text
//! Task, Agent, ConfigMaps, Secrets ──job──▶ ConfigMap, Secret, Job        (no Job yet)
//! Job, Pods ──────────────────────outcome──▶ status, stop, suspend        (a Job)
//! config, completionTime ───────retention──▶ delete, or when to look again (finished)
//! ```

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

use jiff::{SignedDuration, Timestamp};
use kubetask_api::{Task, TaskStatus, reasons};

pub use human::{DEFAULT_KEEP_ALIVE_SECONDS, KEEP_ALIVE_ENV};
pub use job::job_name;
pub use ownership::is_owned;
pub use plan::{Action, EventNote, Plan};
pub use pod::AGENT_CONTAINER;
pub use references::{RefKind, Reference, agent_name, agent_references, references};
pub use seen::{Admission, JobSeen, Seen};
pub use settings::{DEFAULT_AGENT_IMAGE, OWN_IMAGE_REPOSITORY, Settings};
pub use waiting::Waiting;

use self::status::Draft;
use crate::retention;

/// After how long a Job that was refused is tried again.
const REFUSED_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What shall be done for a Task, given what was seen. The same input gives the same plan; a plan that was carried out
/// leads to a quiet one.
pub fn plan(now: Timestamp, task: &Task, seen: &Seen, settings: &Settings) -> Plan {
    let mut plan = decide(status::whole_seconds(now), task, seen, settings);
    if let Some(status) = &mut plan.status {
        notify::note(task, seen.config.as_deref(), status);
    }
    plan
}

fn decide(now: Timestamp, task: &Task, seen: &Seen, settings: &Settings) -> Plan {
    if task.metadata.deletion_timestamp.is_some() {
        return Plan::default();
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
            draft.fail(
                reasons::JOB_LOST,
                "the Job was deleted while the Task was not finished; the agent is not run again",
                now,
            );
            draft.into_plan()
        }
        JobSeen::NotCached | JobSeen::Gone => without_job(now, task, seen, settings),
    }
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
    if let (Some(agent), Some(existing)) = (&seen.agent, &seen.service_accounts) {
        let wanted = &agent.spec.service_account_name;
        if wanted != kubetask_api::DEFAULT_NAME && !existing.contains(wanted) {
            let agent = agent_name(task).to_owned();
            why.push(Waiting::ServiceAccountMissing { name: wanted.clone(), agent });
        }
    }
    let mut actions = Vec::new();
    // Without its Agent nobody knows all contexts, so nothing is said of them.
    if !matches!(why.first(), Some(Waiting::AgentMissing { .. })) {
        match job::build(task, seen, settings) {
            Ok(built) => {
                draft.resolved();
                actions = built;
            }
            Err(missing) => {
                if missing.iter().all(|w| matches!(w, Waiting::Invalid { .. })) {
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
        return wait(draft, why);
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

fn wait(mut draft: Draft<'_>, why: Vec<Waiting>) -> Plan {
    draft.wait(&why);
    Plan { why, ..draft.into_plan() }
}

/// The condition whose reason explains the phase: what `status.reason` and `status.message` repeat.
pub fn deciding_condition(status: &TaskStatus) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status::deciding(&status.conditions)
}
