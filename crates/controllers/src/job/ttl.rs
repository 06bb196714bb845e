//! When a finished Job is deleted by itself.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;

use super::conditions;

/// How long a finished Job still has; `None` if it stays, or has not finished.
pub(super) fn remaining(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let finished = conditions::finished(job.status.as_ref()?)?.last_transition_time.as_ref()?;
    let passed = Duration::try_from(now.duration_since(finished.0)).unwrap_or_default();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(passed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn counts_from_the_end() {
        let check = |ttl: Value, condition: &str, now: &str, expected: Option<u64>| {
            let job: Job = serde_json::from_value(json!({
                "spec": { "template": {}, "ttlSecondsAfterFinished": ttl },
                "status": { "conditions": [
                    { "type": condition, "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" },
                ] },
            }))
            .unwrap();
            let left = remaining(&job, now.parse().unwrap());
            assert_eq!(left.map(|d| d.as_secs()), expected, "{ttl} {condition} {now}");
        };
        check(json!(10), "Complete", "2030-01-01T00:00:04Z", Some(6));
        check(json!(10), "Failed", "2030-01-01T01:00:00Z", Some(0));
        check(json!(0), "Failed", "2030-01-01T00:00:00Z", Some(0));
        check(json!(10), "FailureTarget", "2030-01-01T01:00:00Z", None);
        check(json!(null), "Complete", "2030-01-01T01:00:00Z", None);
    }
}
