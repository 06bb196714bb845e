//! How a Task ended, from its Job and Pods.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kubetask_api::{Task, labels, reasons};

use super::status::Draft;
use super::{changes, ownership, pods};
use crate::cluster::Told;

/// The most of a termination message that is kept.
const RESULT_MAX: usize = 4096;
/// How long a finished Job's Pod is waited for, when its end was not seen yet. Both come over different watches.
const POD_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// What the Job says of its end.
pub(super) enum JobEnd<'a> {
    Complete,
    Failed(&'a JobCondition),
}

/// The Job's end, where it ended.
pub(super) fn job_end(job: &Job) -> Option<(JobEnd<'_>, Option<Timestamp>)> {
    let status = job.status.as_ref()?;
    let condition = |type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == "True");
    if let Some(complete) = condition("Complete") {
        let at = status.completion_time.as_ref().or(complete.last_transition_time.as_ref());
        return Some((JobEnd::Complete, at.map(|t| t.0)));
    }
    let failed = condition("Failed")?;
    Some((JobEnd::Failed(failed), failed.last_transition_time.as_ref().map(|t| t.0)))
}

/// Until when to wait for the Pod of a Job that ended; `None` when there is nothing to wait for.
pub(super) fn wait_for_pod(
    now: Timestamp,
    end: &JobEnd<'_>,
    at: Option<Timestamp>,
    pods: &[Arc<Pod>],
) -> Option<Timestamp> {
    let known = match pods::latest(pods) {
        // What was changed is told after the agent's end, and before the Pod's.
        Some(pod) => pods::is_finished(pod) || (pods::agent_ended(pod).is_some() && !changes::are_collected(pod)),
        // A deadline deletes the Pod: there is none to come.
        None => matches!(end, JobEnd::Failed(c) if c.reason.as_deref() == Some("DeadlineExceeded")),
    };
    let until = at?.checked_add(POD_GRACE).ok()?;
    (!known && now < until).then_some(until)
}

/// Writes how the Task ended.
pub(super) fn finish(
    draft: &mut Draft<'_>,
    task: &Task,
    job: &Job,
    end: &JobEnd<'_>,
    at: Option<Timestamp>,
    now: Timestamp,
    seen: &[Arc<Pod>],
) {
    let pod = pods::latest(seen);
    let ended = pod.and_then(pods::agent_ended);
    if let Some(ended) = ended {
        draft.status.exit_code = Some(ended.exit_code);
        draft.status.result = ended.message.as_deref().map(|m| cut(m, RESULT_MAX).to_owned()).filter(|m| !m.is_empty());
    }
    draft.status.changes = pod.map(changes::of).unwrap_or_default();
    let at = ended.and_then(|e| e.finished_at.as_ref()).map(|t| t.0).or(at).unwrap_or(now);
    if let Some(told) = relayed(job, ended) {
        return retold(draft, task, told, at);
    }
    match end {
        JobEnd::Complete => {
            draft.complete("the agent ended with exit code 0", at);
        }
        JobEnd::Failed(condition) => {
            let (reason, message) = failure(task, condition, pod);
            draft.fail(reason, message, at);
        }
    }
}

/// What the relay of a Job on another cluster told last.
fn relayed(job: &Job, ended: Option<&ContainerStateTerminated>) -> Option<Told> {
    job.metadata.annotations.as_ref()?.get(labels::CLUSTER)?;
    serde_json::from_str(ended?.message.as_deref()?).ok()
}

/// Writes how the agent ended on another cluster.
fn retold(draft: &mut Draft<'_>, task: &Task, told: Told, at: Timestamp) {
    draft.status.exit_code = told.exit_code;
    draft.status.result = told.result;
    draft.status.changes = told.changes;
    draft.status.attempts = told.attempts.or(draft.status.attempts);
    if told.completed {
        draft.complete(&told.message, at);
    } else if task.spec.stop == Some(true) {
        draft.fail(reasons::STOPPED, "stopped by spec.stop", at);
    } else {
        let known = reasons::ALL.iter().find(|(word, _)| *word == told.reason);
        draft.fail(known.map_or(reasons::JOB_FAILED, |(word, _)| word), told.message, at);
    }
}

/// Why a Job failed, in a word and in words that say what to do.
fn failure(task: &Task, condition: &JobCondition, pod: Option<&Pod>) -> (&'static str, String) {
    let said = condition.message.clone().unwrap_or_default();
    if task.spec.stop == Some(true) {
        return (reasons::STOPPED, "stopped by spec.stop".to_owned());
    }
    if condition.reason.as_deref() == Some("DeadlineExceeded") {
        let limit = task.spec.timeout_seconds.map_or_else(String::new, |s| format!(" of {s} seconds"));
        return (
            reasons::DEADLINE_EXCEEDED,
            format!(
                "the agent ran longer than timeoutSeconds{limit} and was ended; set a greater one if it needs the time"
            ),
        );
    }
    let again = format!(
        "to run it again: kubetask retry -n {} {}; spec.retries does so by itself",
        ownership::namespace(task),
        ownership::name(task)
    );
    let Some(pod) = pod else {
        return (reasons::POD_LOST, format!("the Pod is gone, and with it the agent's exit code: {said}; {again}"));
    };
    let status = pod.status.as_ref();
    let pod_said = status.and_then(|s| s.message.as_deref()).unwrap_or("no message");
    let pod_said = pod_said.trim_end().trim_end_matches('.');
    let disrupted = status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
        .find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    if status.and_then(|s| s.reason.as_deref()) == Some("Evicted") {
        return (reasons::EVICTED, format!("the Pod was evicted: {pod_said}; {again}"));
    }
    if let Some(disrupted) = disrupted {
        let why = disrupted.message.as_deref().unwrap_or("the node needed the place");
        return (reasons::EVICTED, format!("the Pod was ended by the cluster: {why}; {again}"));
    }
    if let Some((container, ended)) = pods::failed_init(pod) {
        let detail = ended.message.as_deref().map(str::trim).filter(|m| !m.is_empty());
        let detail = detail.map_or_else(|| format!("exit code {}", ended.exit_code), str::to_owned);
        return (
            reasons::CONTEXT_FETCH,
            format!("the workspace could not be prepared ({container}): {}", cut(&detail, 1024)),
        );
    }
    let (namespace, name) = (ownership::namespace(task), ownership::name(task));
    let log = format!(
        "see its log: kubectl logs -n {namespace} job/{} (or kubetask logs -n {namespace} {name})",
        super::job_name(task)
    );
    match pods::agent_ended(pod) {
        Some(ended) if ended.reason.as_deref() == Some("OOMKilled") => (
            reasons::OUT_OF_MEMORY,
            "the agent used more memory than it may and was killed; raise resources.limits.memory of its Agent"
                .to_owned(),
        ),
        Some(ended) if was_deleted_before(pod, ended) => (
            reasons::POD_LOST,
            format!(
                "the Pod was deleted while the agent ran, which then ended with exit code {}; {again}",
                ended.exit_code
            ),
        ),
        Some(ended) if ended.exit_code != 0 => {
            let cause = ended.reason.as_deref().filter(|r| !matches!(*r, "Error" | "Completed"));
            let cause = cause.map_or_else(String::new, |r| format!(" ({r})"));
            (reasons::EXIT_CODE, format!("the agent ended with exit code {}{cause}; {log}", ended.exit_code))
        }
        _ if pod.metadata.deletion_timestamp.is_some() => {
            (reasons::POD_LOST, format!("the Pod was deleted while the agent ran; {again}"))
        }
        _ => {
            let why = status.and_then(|s| s.message.clone()).unwrap_or(said);
            (reasons::JOB_FAILED, format!("the Job failed: {why}"))
        }
    }
}

/// Whether somebody asked for the Pod's deletion, and the agent ended after that.
fn was_deleted_before(pod: &Pod, ended: &ContainerStateTerminated) -> bool {
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    // The timestamp is when the grace period ends.
    let asked = pod.metadata.deletion_timestamp.as_ref().and_then(|at| at.0.checked_sub(grace).ok());
    match (asked, &ended.finished_at) {
        (Some(asked), Some(finished)) => asked <= finished.0,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// At most `max` bytes, whole characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
