//! What happened to a Task, told to metrics and the log. (Events and the status are part of the plan.)

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kubetask_api::{Task, TaskPhase, TaskStatus};

use crate::metrics::Metrics;

/// The Task's Job was created.
pub(super) fn job_created(metrics: &Metrics, task: &Task, job: &str) {
    metrics.job_created(between(task.metadata.creation_timestamp.as_ref(), Timestamp::now()));
    tracing::info!(job, "created the Job");
}

/// A new status was written.
pub(super) fn changed(metrics: &Metrics, task: &Task, status: &TaskStatus) {
    let before = task.status.as_ref();
    let (was, is) = (task.phase(), status.phase.unwrap_or_default());
    let reason = status.reason.as_deref().unwrap_or_default();
    if before.is_some_and(|s| s.phase == status.phase && s.reason == status.reason) {
        return;
    }
    let created = task.metadata.creation_timestamp.as_ref();
    if is == TaskPhase::Running && was == TaskPhase::Pending {
        let started = status.start_time.as_ref().map_or_else(Timestamp::now, |at| at.0);
        metrics.task_started(between(created, started));
    }
    if is.is_finished() && !was.is_finished() {
        let ended = status.completion_time.as_ref().map_or_else(Timestamp::now, |at| at.0);
        let ran = status.start_time.as_ref().map(|started| between(Some(started), ended));
        metrics.task_finished(is.as_str(), reason, ran);
    }
    tracing::info!(phase = is.as_str(), reason, said = status.message.as_deref(), "the Task's status changed");
}

fn between(from: Option<&Time>, to: Timestamp) -> Duration {
    let millis = from.map_or(0, |from| to.as_millisecond() - from.0.as_millisecond());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
