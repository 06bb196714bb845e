//! What a webhook is sent: the body, and the signature by which it knows whose it is. Pure.

use kubetask_api::Task;
use kubetask_api::config::NotificationEvent;
use ring::hmac;
use serde_json::{Value, json};

/// Header with the event's name.
pub const EVENT: &str = "x-kubetask-event";
/// Header with the delivery's identity: the same event of the same Task has the same one, however often it is sent.
pub const DELIVERY: &str = "x-kubetask-delivery";
/// Header with the time of sending, in seconds since 1970.
pub const TIMESTAMP: &str = "x-kubetask-timestamp";
/// Header with the signature.
pub const SIGNATURE: &str = "x-kubetask-signature";

/// The delivery's identity.
#[must_use]
pub fn delivery(task: &Task, event: NotificationEvent) -> String {
    format!("{}-{}", task.metadata.uid.as_deref().unwrap_or_default(), event.as_str())
}

/// The body.
#[must_use]
pub fn body(task: &Task, event: NotificationEvent) -> Value {
    let status = task.status.clone().unwrap_or_default();
    let mut about = json!({
        "namespace": task.metadata.namespace,
        "name": task.metadata.name,
        "uid": task.metadata.uid,
        "agent": status.agent,
        "phase": status.phase.unwrap_or_default(),
        "reason": status.reason,
        "message": status.message,
        "exitCode": status.exit_code,
        "result": status.result,
        "attempts": status.attempts,
        "jobName": status.job_name,
        "startTime": status.start_time,
        "completionTime": status.completion_time,
    });
    if let Some(about) = about.as_object_mut() {
        about.retain(|_, value| !value.is_null());
    }
    json!({"version": 1, "event": event.as_str(), "delivery": delivery(task, event), "task": about})
}

/// The signature of a body sent at that time: `sha256=` and the HMAC-SHA256 of `<time>.<body>` in hexadecimal digits.
/// The time is part of it, so that a call that somebody recorded cannot be repeated for ever.
#[must_use]
pub fn signature(key: &[u8], time: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{time}.").as_bytes());
    context.update(body);
    let mut text = String::from("sha256=");
    for byte in context.sign().as_ref() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use kubetask_api::{TaskPhase, TaskSpec, TaskStatus};

    use super::*;

    #[test]
    fn what_is_sent() {
        let mut task = Task::new("t", TaskSpec { prompt: Some("secret plans".to_owned()), ..TaskSpec::default() });
        task.metadata.namespace = Some("n".to_owned());
        task.metadata.uid = Some("u".to_owned());
        task.status = Some(TaskStatus {
            phase: Some(TaskPhase::Failed),
            reason: Some("ExitCode".to_owned()),
            exit_code: Some(3),
            ..TaskStatus::default()
        });
        let body = body(&task, NotificationEvent::Failed);
        let expect = json!({
            "version": 1, "event": "Failed", "delivery": "u-Failed",
            "task": {"namespace": "n", "name": "t", "uid": "u", "phase": "Failed", "reason": "ExitCode", "exitCode": 3},
        });
        assert_eq!(body, expect);
    }

    #[test]
    fn signatures_are_those_of_every_hmac() {
        // python3 -c 'import hmac; print(hmac.new(b"key", b"17.{}", "sha256").hexdigest())'
        let expect = "sha256=e66392eac42eafc68c35a01c712811e016386c12456975fc3af80c9268568e3a";
        assert_eq!(signature(b"key", 17, b"{}"), expect);
    }
}
