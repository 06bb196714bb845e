//! The conditions of a Job, and the reasons and messages of Kubernetes 1.36 for them.

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
pub(super) const SUSPENDED: &str = "Suspended";
/// It will be `Complete` once its Pods are gone and counted.
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// It will be `Failed` once its Pods are gone and counted.
pub(super) const FAILURE_TARGET: &str = "FailureTarget";

/// Why a Job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Outcome {
    fn failure(reason: &str, message: &str) -> Outcome {
        Outcome { success: false, reason: reason.to_owned(), message: message.to_owned() }
    }

    pub(super) fn completions() -> Outcome {
        Outcome {
            success: true,
            reason: "CompletionsReached".to_owned(),
            message: "Reached expected number of succeeded pods".to_owned(),
        }
    }

    pub(super) fn success_policy(message: String) -> Outcome {
        Outcome { success: true, reason: "SuccessPolicy".to_owned(), message }
    }

    pub(super) fn backoff_limit() -> Outcome {
        Outcome::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    }

    pub(super) fn deadline() -> Outcome {
        Outcome::failure("DeadlineExceeded", "Job was active longer than specified deadline")
    }

    pub(super) fn pod_failure_policy(message: &str) -> Outcome {
        Outcome::failure("PodFailurePolicy", message)
    }

    pub(super) fn failed_indexes() -> Outcome {
        Outcome::failure("FailedIndexes", "Job has failed indexes")
    }

    pub(super) fn max_failed_indexes() -> Outcome {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        Outcome::failure("MaxFailedIndexesExceeded", message)
    }

    /// What was decided earlier and written down.
    pub(super) fn decided(status: &JobStatus) -> Option<Outcome> {
        [(SUCCESS_CRITERIA_MET, true), (FAILURE_TARGET, false)].into_iter().find_map(|(type_, success)| {
            let condition = find(status, type_)?;
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            Some(Outcome { success, reason: text(&condition.reason), message: text(&condition.message) })
        })
    }

    /// The condition that announces the end, and the one that is the end.
    pub(super) fn types(&self) -> (&'static str, &'static str) {
        if self.success { (SUCCESS_CRITERIA_MET, COMPLETE) } else { (FAILURE_TARGET, FAILED) }
    }
}

/// A condition that is true.
pub(super) fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == "True")
}

/// When the Job ended, if it has.
pub(super) fn finished(status: &JobStatus) -> Option<&JobCondition> {
    find(status, COMPLETE).or_else(|| find(status, FAILED))
}

/// Sets a condition. Returns whether its status changed.
pub(super) fn set(
    status: &mut JobStatus,
    type_: &str,
    value: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let value = if value { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let condition = JobCondition {
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
        status: value.to_owned(),
        type_: type_.to_owned(),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) if old.status == value => false,
        Some(old) => {
            *old = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}
