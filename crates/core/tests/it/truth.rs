//! Whatever Kubernetes says stands in the Task's status, in words that tell what to do: a table.

use kubetask_api::{TaskPhase, reasons};
use kubetask_core::task::{Action, JobSeen};
use serde_json::{Value, json};

use crate::fixtures::{at, ended, exited, plain_agent, pod, prompt_task, running, waits};
use crate::world::World;

/// What the Job, its Pods and the events about it say; what the status must say: phase, reason, and words in it.
struct Case {
    what: &'static str,
    pod: Option<Value>,
    job: Option<(&'static str, &'static str)>,
    refused: Option<&'static str>,
    phase: TaskPhase,
    reason: &'static str,
    words: &'static [&'static str],
}

fn of_pod(
    what: &'static str,
    pod: Value,
    phase: TaskPhase,
    reason: &'static str,
    words: &'static [&'static str],
) -> Case {
    let job = phase.is_finished().then_some(("Failed", "BackoffLimitExceeded"));
    Case { what, pod: Some(pod), job, refused: None, phase, reason, words }
}

fn of_job(what: &'static str, end: &'static str, reason: &'static str, words: &'static [&'static str]) -> Case {
    Case { what, pod: None, job: Some(("Failed", end)), refused: None, phase: TaskPhase::Failed, reason, words }
}

fn refused(what: &'static str, said: &'static str, words: &'static [&'static str]) -> Case {
    let (phase, reason) = (TaskPhase::Pending, reasons::POD_REJECTED);
    Case { what, pod: None, job: None, refused: Some(said), phase, reason, words }
}

/// A Pod that has not started; members of its status.
fn pending(status: Value) -> Value {
    json!({"status": status})
}

fn cases() -> Vec<Case> {
    use TaskPhase::{Failed, Pending, Running};
    let waiting = |reason: &str, message: &str| json!({"state": waits(reason, message)});
    vec![
        of_pod(
            "image",
            waiting("ErrImagePull", "manifest unknown"),
            Pending,
            reasons::IMAGE_PULL,
            &["quay.io/acme/claude:1", "manifest unknown", "imagePullSecrets"],
        ),
        of_pod(
            "image, backing off",
            waiting("ImagePullBackOff", "Back-off pulling image"),
            Pending,
            reasons::IMAGE_PULL,
            &["agentImage"],
        ),
        of_pod(
            "image's name",
            waiting("InvalidImageName", "invalid reference format"),
            Pending,
            reasons::IMAGE_PULL,
            &["invalid reference format"],
        ),
        of_pod(
            "key of a Secret",
            waiting("CreateContainerConfigError", "couldn't find key token in Secret team/github"),
            Pending,
            reasons::CONTAINER_CONFIG,
            &["couldn't find key token in Secret team/github"],
        ),
        of_pod(
            "program",
            waiting("RunContainerError", "exec: \"claude\": not found"),
            Pending,
            reasons::CONTAINER_CONFIG,
            &["not found"],
        ),
        of_pod(
            "no node",
            pending(json!({"phase": "Pending", "containerStatuses": null, "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory."}]})),
            Pending,
            reasons::UNSCHEDULABLE,
            &["3 Insufficient memory", "lower the Agent's resources"],
        ),
        of_pod("it runs", json!({"state": running(3)}), Running, reasons::RUNNING, &["runs"]),
        of_pod(
            "exit code",
            json!({"phase": "Failed", "state": exited(7, 1, 9, "")}),
            Failed,
            reasons::EXIT_CODE,
            &["exit code 7", "kubectl logs"],
        ),
        of_pod(
            "memory",
            json!({"phase": "Failed", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled",
            "startedAt": at(1).to_string(), "finishedAt": at(9).to_string()}}}),
            Failed,
            reasons::OUT_OF_MEMORY,
            &["resources.limits.memory"],
        ),
        of_pod(
            "evicted",
            json!({"phase": "Failed", "state": exited(137, 1, 9, ""), "status": {"reason": "Evicted", "message": "The node was low on resource: memory."}}),
            Failed,
            reasons::EVICTED,
            &["low on resource: memory", "kubetask retry"],
        ),
        of_pod(
            "preempted",
            json!({"phase": "Failed", "state": exited(137, 1, 9, ""), "status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted by a pod of higher priority"}]}}),
            Failed,
            reasons::EVICTED,
            &["preempted by a pod of higher priority"],
        ),
        of_pod(
            "Pod deleted",
            json!({"phase": "Failed", "state": exited(143, 1, 9, ""), "metadata": {"deletionTimestamp": at(38).to_string(), "deletionGracePeriodSeconds": 30}}),
            Failed,
            reasons::POD_LOST,
            &["deleted while the agent ran"],
        ),
        of_pod(
            "contexts",
            json!({"phase": "Failed", "state": waits("PodInitializing", ""), "status": {"initContainerStatuses": [
            {"name": "repository-0", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"exitCode": 1, "message": "repository not found: https://git.example/x"}}}]}}),
            Failed,
            reasons::CONTEXT_FETCH,
            &["repository-0", "repository not found"],
        ),
        of_pod(
            "a sidecar after the agent",
            json!({"phase": "Failed", "state": exited(3, 1, 9, ""), "status": {"initContainerStatuses": [
            {"name": "changes", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"exitCode": 137}}}]}}),
            Failed,
            reasons::EXIT_CODE,
            &["exit code 3"],
        ),
        of_job("deadline", "DeadlineExceeded", reasons::DEADLINE_EXCEEDED, &["timeoutSeconds", "greater"]),
        of_job("Pod gone", "BackoffLimitExceeded", reasons::POD_LOST, &["exit code"]),
        refused(
            "quota",
            "pods \"x\" is forbidden: exceeded quota: compute, requested: cpu=4, used: cpu=8, limited: cpu=8",
            &["exceeded quota: compute"],
        ),
        refused(
            "service account",
            "pods \"x\" is forbidden: error looking up service account team/robot: serviceaccount \"robot\" not found",
            &["serviceaccount \"robot\" not found"],
        ),
        refused(
            "admission",
            "admission webhook \"policy.example\" denied the request: no root",
            &["denied the request: no root"],
        ),
    ]
}

#[test]
fn what_kubernetes_says_stands_in_the_status() {
    for case in cases() {
        let mut world = World::new(prompt_task(), Some(plain_agent()));
        world.settle(0);
        let job = world.job();
        if let Some(said) = &case.pod {
            let task = world.task.clone();
            let mut object = serde_json::to_value(pod(
                &task,
                1,
                said["phase"].as_str().unwrap_or("Pending"),
                said.get("state").cloned().unwrap_or_else(|| json!({})),
            ))
            .unwrap();
            for part in ["status", "metadata"] {
                for (key, value) in said[part].as_object().into_iter().flatten() {
                    object[part][key] = value.clone();
                }
            }
            world.seen.pods = vec![std::sync::Arc::new(serde_json::from_value(object).unwrap())];
        }
        if let Some((type_, reason)) = case.job {
            world.seen.job = JobSeen::Found(std::sync::Arc::new(ended(job, type_, reason, 10)));
        }
        world.seen.pod_refused = case.refused.map(str::to_owned);
        // Long enough after the Job's end for its Pod to have been seen.
        let plan = world.plan(20);
        let status = plan.status.or_else(|| world.task.status.clone()).expect(case.what);
        let message = status.message.clone().unwrap_or_default();
        assert_eq!(
            (status.phase, status.reason.as_deref()),
            (Some(case.phase), Some(case.reason)),
            "{}: {message}",
            case.what
        );
        for words in case.words {
            assert!(message.contains(words), "{}: {words} in {message}", case.what);
        }
        // Whatever it is: the agent is not run again.
        assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreateJob(_))), "{}", case.what);
    }
}
