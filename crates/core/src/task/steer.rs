//! A Task whose Job exists: its status, and what stop and suspend ask for.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::{Task, labels, reasons};

use super::status::Draft;
use super::{Action, Plan, Seen, Waiting, outcome, pods};

/// What shall be done when the Job exists.
pub(super) fn with_job(now: Timestamp, task: &Task, seen: &Seen, job: &Job) -> Plan {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut draft = Draft::new(now, task);
    draft.has_job(name);
    note_attempts(&mut draft, seen, job);

    if let Some((end, at)) = outcome::job_end(job) {
        if let Some(until) = outcome::wait_for_pod(now, &end, at, &seen.pods) {
            return Plan { wake_at: Some(until), ..Plan::default() };
        }
        outcome::finish(&mut draft, task, job, &end, at, now, &seen.pods);
        return draft.into_plan();
    }
    if task.spec.stop == Some(true) {
        return stop(now, seen, job, draft);
    }
    let actions: Vec<Action> = suspension(task, job).into_iter().collect();
    let waiting = if is_suspended(job) || task.spec.suspend == Some(true) {
        Some(match queue(task) {
            Some(queue) if task.spec.suspend != Some(true) => Waiting::KueueQueue { queue: queue.to_owned() },
            _ => Waiting::Suspended,
        })
        // Resuming is under way; nothing is said until it shows.
        .filter(|_| actions.is_empty() || task.spec.suspend == Some(true))
    } else {
        progress(&mut draft, seen, job)
    };
    let why: Vec<Waiting> = waiting.into_iter().collect();
    if !why.is_empty() {
        draft.wait(&why);
    }
    Plan { actions, why, ..draft.into_plan() }
}

/// The Pod of the latest attempt, when the agent started, how often it was tried.
fn note_attempts(draft: &mut Draft<'_>, seen: &Seen, job: &Job) {
    let counted = job.status.as_ref().map_or(0, |s| s.failed.unwrap_or(0) + s.succeeded.unwrap_or(0));
    let attempts = counted.max(i32::try_from(seen.pods.len()).unwrap_or(i32::MAX));
    let started = seen.pods.iter().filter_map(|p| pods::agent_started(p)).min();
    // Told together with what else there is to say, not for its own sake.
    let worth_telling = outcome::job_end(job).is_some() || started.is_some();
    if !worth_telling {
        return;
    }
    if attempts > 0 {
        draft.status.attempts = Some(draft.status.attempts.unwrap_or(0).max(attempts));
    }
    if let Some(pod) = pods::latest(&seen.pods) {
        draft.status.pod_name.clone_from(&pod.metadata.name);
    }
    if outcome::job_end(job).is_some()
        && let Some(started) = started
    {
        draft.status.start_time.get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(started));
    }
}

/// Whether the agent runs; if not, why.
fn progress(draft: &mut Draft<'_>, seen: &Seen, job: &Job) -> Option<Waiting> {
    let Some(pod) = pods::latest(&seen.pods) else {
        return Some(match &seen.pod_refused {
            Some(said) => Waiting::PodRefused { said: said.clone() },
            None if draft.status.start_time.is_some() => return None,
            None => Waiting::Starting,
        });
    };
    if pods::agent_runs(pod) {
        draft.running(pods::agent_started(pod), pods::waits_for_human(pod));
        return None;
    }
    if pods::is_finished(pod) || pods::agent_ended(pod).is_some() {
        // The Job's word decides what comes next. Where it may try again, say so.
        let limit = job.spec.as_ref().and_then(|s| s.backoff_limit).unwrap_or(0);
        let failed = i32::try_from(seen.pods.len()).unwrap_or(i32::MAX);
        let again = pods::phase(pod) == "Failed" && failed <= limit;
        return again.then_some(Waiting::Retrying { attempt: failed + 1 });
    }
    pods::trouble(pod).or_else(|| draft.status.start_time.is_none().then_some(Waiting::Starting))
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false)
}

/// The Kueue queue that the Task asks for.
pub(super) fn queue(task: &Task) -> Option<&str> {
    task.metadata.labels.as_ref()?.get(labels::KUEUE_QUEUE).map(String::as_str)
}

/// Makes the Job follow spec.suspend. A Job in a Kueue queue is resumed by Kueue, not by us.
fn suspension(task: &Task, job: &Job) -> Option<Action> {
    let wanted = task.spec.suspend == Some(true);
    let is = is_suspended(job);
    if wanted == is || (!wanted && queue(task).is_some()) {
        return None;
    }
    Some(Action::SuspendJob { name: job.metadata.name.clone().unwrap_or_default(), suspend: wanted })
}

/// Ends the agent and keeps its log.
///
/// Deleting the Pod, or suspending the Job (which deletes it), would lose the log. So a Pod that is on a node gets a
/// deadline of one second: the node ends it gracefully, and it stays. What is not on a node has no log: there the Job is
/// suspended, and also where it would otherwise try again.
fn stop(now: Timestamp, seen: &Seen, job: &Job, mut draft: Draft<'_>) -> Plan {
    let live: Vec<&Pod> = seen.pods.iter().map(AsRef::as_ref).filter(|p| !pods::is_finished(p)).collect();
    let placed = |pod: &Pod| pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let mut actions: Vec<Action> = Vec::new();
    for pod in live.iter().filter(|p| placed(p) && p.metadata.deletion_timestamp.is_none()) {
        let limit = pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        if limit != Some(1) {
            actions.push(Action::StopPod {
                name: pod.metadata.name.clone().unwrap_or_default(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
            });
        }
    }
    let retries = job.spec.as_ref().and_then(|s| s.backoff_limit).unwrap_or(0) > 0;
    let none_placed = !live.iter().any(|p| placed(p));
    // A Job that may not try again fails by itself as soon as it has counted its Pod.
    let fails_by_itself = !retries && !seen.pods.is_empty() && live.is_empty();
    if none_placed && !is_suspended(job) && !fails_by_itself {
        let name = job.metadata.name.clone().unwrap_or_default();
        actions.push(Action::SuspendJob { name, suspend: true });
    } else if live.is_empty() && is_suspended(job) {
        let ended = pods::latest(&seen.pods).and_then(pods::agent_ended);
        if let Some(ended) = ended {
            draft.status.exit_code = Some(ended.exit_code);
        }
        let at = ended.and_then(|e| e.finished_at.as_ref()).map_or(now, |t| t.0);
        draft.fail(reasons::STOPPED, "stopped by spec.stop", at);
        return draft.into_plan();
    }
    // Nothing is said until it ended: it still runs.
    if let Some(pod) = pods::latest(&seen.pods).filter(|p| pods::agent_runs(p)) {
        draft.running(pods::agent_started(pod), None);
    }
    Plan { actions, ..draft.into_plan() }
}
