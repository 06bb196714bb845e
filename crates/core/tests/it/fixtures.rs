//! Objects by adjective.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kubetask_api::{Agent, Task};
use kubetask_core::task::job_name;
use serde_json::{Value, json};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(crate) fn task(spec: Value) -> Task {
    serde_json::from_value(json!({
        "apiVersion": "kubetask.io/v1alpha1",
        "kind": "Task",
        "metadata": {
            "name": "fix-login", "namespace": "team", "uid": "0a1b2c3d-0000-4000-8000-000000000000",
            "generation": 1, "creationTimestamp": "2027-01-15T08:00:00Z",
        },
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn agent(spec: Value) -> Agent {
    let mut spec = spec;
    spec.as_object_mut().unwrap().entry("serviceAccountName").or_insert(json!("default"));
    serde_json::from_value(json!({
        "apiVersion": "kubetask.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": "claude", "namespace": "team"},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn config_map(name: &str, data: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "team"}, "data": data})).unwrap()
}

pub(crate) fn secret(name: &str, keys: &[(&str, &str)]) -> Secret {
    let data = keys
        .iter()
        .map(|(key, value)| ((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())))
        .collect();
    Secret { data: Some(data), ..serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() }
}

/// The file a prompt makes.
pub(crate) fn prompt_task() -> Task {
    task(json!({"prompt": "Fix the login.", "agentRef": "claude"}))
}

pub(crate) fn plain_agent() -> Agent {
    agent(json!({"agentImage": "quay.io/acme/claude:1", "command": ["claude", "-p"]}))
}

/// The Pod of an attempt; `state` is the agent's container state.
pub(crate) fn pod(task: &Task, attempt: i64, phase: &str, state: Value) -> Pod {
    let job = job_name(task);
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{job}-{attempt}"), "namespace": "team", "uid": format!("pod-{attempt}"),
            "creationTimestamp": at(attempt * 100).to_string(),
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "agent"}]},
        "status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "agent", "image": "quay.io/acme/claude:1", "imageID": "", "ready": true, "restartCount": 0,
                "state": state,
            }],
        },
    }))
    .unwrap()
}

pub(crate) fn running(since: i64) -> Value {
    json!({"running": {"startedAt": at(since).to_string()}})
}

pub(crate) fn exited(code: i32, started: i64, finished: i64, message: &str) -> Value {
    json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message,
        "startedAt": at(started).to_string(), "finishedAt": at(finished).to_string(),
    }})
}

pub(crate) fn waits(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

/// The Job with an end.
pub(crate) fn ended(mut job: Job, type_: &str, reason: &str, at_second: i64) -> Job {
    let time = at(at_second).to_string();
    let mut status = json!({
        "conditions": [{"type": type_, "status": "True", "reason": reason, "message": "as the Job controller says",
            "lastTransitionTime": time}],
    });
    if type_ == "Complete" {
        status["succeeded"] = json!(1);
        status["completionTime"] = json!(time);
    } else {
        status["failed"] = json!(1);
    }
    job.status = serde_json::from_value(status).unwrap();
    job
}
