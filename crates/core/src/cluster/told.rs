//! How a Job on another cluster ended, in the relay's last words.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::task::RepositoryChanges;
use kubetask_api::{Task, conditions};
use serde::{Deserialize, Serialize};

use crate::task::{ChangesSaid, deciding_condition, ended};

/// How much of a result fits: a termination message holds 4096 bytes (`api/core/v1`, `terminationMessagePath`), and there
/// is more to tell than the result.
const RESULT_MAX: usize = 2600;
/// How much of a message fits.
const MESSAGE_MAX: usize = 600;
/// How much of what was changed fits.
const CHANGES_MAX: usize = 600;

/// How the agent's Job on another cluster ended: the relay's termination message, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Whether the agent did what it should.
    pub completed: bool,
    /// The condition's reason, one of [`kubetask_api::reasons`].
    pub reason: String,
    /// What happened.
    pub message: String,
    /// The agent's exit code, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What the agent left as its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// How often the agent was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What the agent changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RepositoryChanges>,
}

/// How the Job ended; `None` while it has not, or while the end of its Pod may still be on its way.
pub fn told(now: Timestamp, task: &Task, job: &Job, pods: &[Arc<Pod>]) -> Option<Told> {
    let status = ended(now, task, job, pods)?;
    let condition = deciding_condition(&status);
    Some(Told {
        completed: conditions::is_true(&status.conditions, conditions::COMPLETE),
        reason: condition.map(|c| c.reason.clone()).unwrap_or_default(),
        message: condition.map(|c| cut(&c.message, MESSAGE_MAX)).unwrap_or_default(),
        exit_code: status.exit_code,
        result: status.result.as_deref().map(|text| cut(text, RESULT_MAX)),
        attempts: status.attempts,
        changes: ChangesSaid { changes: status.changes }.fitting(CHANGES_MAX),
    })
}

/// At most so many bytes of JSON text, whole characters.
fn cut(text: &str, max: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            // As JSON writes it: quotes, backslashes and control characters take more.
            used += match c {
                '"' | '\\' | '\n' | '\r' | '\t' => 2,
                c if c.is_control() => 6,
                c => c.len_utf8(),
            };
            used <= max
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_words_fit_a_termination_message() {
        let change =
            RepositoryChanges { path: "/workspace/x".repeat(9), files: i64::MAX, ..RepositoryChanges::default() };
        for text in ["\u{1}".repeat(9000), "\"".repeat(9000), "ü".repeat(9000), "x".repeat(9000)] {
            let told = Told {
                completed: true,
                reason: "DeadlineExceeded".to_owned(),
                message: cut(&text, MESSAGE_MAX),
                exit_code: Some(i32::MIN),
                result: Some(cut(&text, RESULT_MAX)),
                attempts: Some(i32::MAX),
                changes: ChangesSaid { changes: vec![change.clone(); 9] }.fitting(CHANGES_MAX),
            };
            let json = serde_json::to_string(&told).unwrap_or_default();
            assert!(json.len() <= 4096, "{} bytes", json.len());
            assert_eq!(serde_json::from_str::<Told>(&json).ok(), Some(told));
        }
    }
}
