//! From Job and Pods to status, stop, suspend, retries and retention.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kubetask_api::{KubeTaskConfig, TaskPhase};
use kubetask_core::task::{Action, JobSeen};
use serde_json::{Value, json};

use crate::fixtures::{at, ended, exited, plain_agent, pod, prompt_task, running, task, waits};
use crate::world::World;

/// A Task whose Job was just created.
fn started(spec: Value) -> World {
    let mut world = World::new(task(spec), Some(plain_agent()));
    world.settle(0);
    world
}

fn prompt() -> Value {
    json!({"prompt": "hi", "agentRef": "claude"})
}

#[test]
fn the_plain_path_costs_five_writes() {
    let mut world = started(prompt());
    assert_eq!(world.line(), "Pending JobCreated: the Pod is being prepared");
    world.set_pods(vec![pod(&world.task, 1, "Pending", waits("ContainerCreating", ""))]);
    assert!(world.plan(1).is_quiet());
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    assert_eq!(world.line(), "Running Running: the agent runs");
    world.set_pods(vec![pod(&world.task, 1, "Succeeded", exited(0, 2, 5, "all done"))]);
    assert!(world.plan(5).is_quiet());
    world.set_job(ended(world.job(), "Complete", "", 6));
    world.settle(6);
    assert_eq!(world.line(), "Completed Completed: the agent ended with exit code 0");
    let status = world.status();
    assert_eq!(status.exit_code, Some(0));
    assert_eq!(status.result.as_deref(), Some("all done"));
    assert_eq!(status.attempts, Some(1));
    assert_eq!(status.pod_name.as_deref(), Some("fix-login-0a1b2c-1"));
    assert_eq!((status.start_time.unwrap().0, status.completion_time.unwrap().0), (at(2), at(5)));
    assert_eq!(world.writes(), 5);
    assert_eq!(
        world.events,
        [
            "Normal JobCreated: created Job fix-login-0a1b2c",
            "Normal Running: the agent runs",
            "Normal Completed: the agent ended with exit code 0",
        ]
    );
}

#[test]
fn a_short_agent_is_never_seen_running() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Succeeded", exited(0, 2, 2, ""))]);
    world.set_job(ended(world.job(), "Complete", "", 3));
    world.settle(3);
    assert_eq!(world.status().start_time.unwrap().0, at(2));
    assert_eq!(world.status_writes, 2);
}

#[test]
fn the_job_may_be_seen_to_end_before_its_pod() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    world.set_job(ended(world.job(), "Complete", "", 6));
    let plan = world.plan(6);
    assert!(plan.is_quiet());
    assert_eq!(plan.wake_at, Some(at(8)));
    world.settle(8);
    assert_eq!(world.line(), "Completed Completed: the agent ended with exit code 0");
    assert_eq!(world.status().exit_code, None);
}

/// How a Task fails, for a Pod and the Job's reason.
fn check_failure(spec: Value, pods: Vec<Pod>, job_reason: &str, expect: &str) {
    let mut world = started(spec);
    world.set_pods(pods);
    world.set_job(ended(world.job(), "Failed", job_reason, 10));
    world.settle(20);
    assert_eq!(world.line(), format!("Failed {expect}"));
    assert_eq!(world.status().phase, Some(TaskPhase::Failed));
    assert!(world.events.last().unwrap().starts_with("Warning "), "{:?}", world.events);
}

#[test]
fn failures_say_what_happened_and_what_to_do() {
    let t = prompt_task();
    check_failure(
        prompt(),
        vec![pod(&t, 1, "Failed", exited(3, 1, 2, "boom"))],
        "BackoffLimitExceeded",
        "ExitCode: the agent ended with exit code 3; see its log: kubectl logs -n team job/fix-login-0a1b2c (or kubetask logs -n team fix-login)",
    );
    let mut oom = pod(&t, 1, "Failed", exited(137, 1, 2, ""));
    oom.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0]
        .state
        .as_mut()
        .unwrap()
        .terminated
        .as_mut()
        .unwrap()
        .reason = Some("OOMKilled".to_owned());
    check_failure(
        prompt(),
        vec![oom],
        "BackoffLimitExceeded",
        "OutOfMemory: the agent used more memory than it may and was killed; raise resources.limits.memory of its Agent",
    );
    check_failure(
        json!({"prompt": "hi", "agentRef": "claude", "timeoutSeconds": 5}),
        vec![],
        "DeadlineExceeded",
        "DeadlineExceeded: the agent ran longer than timeoutSeconds of 5 seconds and was ended; set a greater one if it needs the time",
    );
    let mut evicted = pod(&t, 1, "Failed", waits("ContainerCreating", ""));
    let status = evicted.status.as_mut().unwrap();
    status.reason = Some("Evicted".to_owned());
    status.message = Some("The node was low on resource: memory.".to_owned());
    check_failure(
        prompt(),
        vec![evicted],
        "BackoffLimitExceeded",
        "Evicted: the Pod was evicted: The node was low on resource: memory; to run it again: kubetask retry -n team fix-login; spec.retries does so by itself",
    );
    check_failure(
        prompt(),
        vec![],
        "BackoffLimitExceeded",
        "PodLost: the Pod is gone, and with it the agent's exit code: as the Job controller says; to run it again: kubetask retry -n team fix-login; spec.retries does so by itself",
    );
    // Deleted with a grace period of 30 seconds while it ran.
    let mut deleted = pod(&t, 1, "Failed", exited(143, 1, 12, ""));
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(40)));
    deleted.metadata.deletion_grace_period_seconds = Some(30);
    check_failure(
        prompt(),
        vec![deleted.clone()],
        "BackoffLimitExceeded",
        "PodLost: the Pod was deleted while the agent ran, which then ended with exit code 143; to run it again: kubetask retry -n team fix-login; spec.retries does so by itself",
    );
    // Deleted after it had failed by itself.
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(60)));
    check_failure(
        prompt(),
        vec![deleted],
        "BackoffLimitExceeded",
        "ExitCode: the agent ended with exit code 143; see its log: kubectl logs -n team job/fix-login-0a1b2c (or kubetask logs -n team fix-login)",
    );
    let mut init = pod(&t, 1, "Failed", waits("PodInitializing", ""));
    init.status.as_mut().unwrap().init_container_statuses = serde_json::from_value(json!([{
        "name": "repository-0", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "message": "https://x/y.git: no such repository\n"}},
    }]))
    .unwrap();
    check_failure(
        prompt(),
        vec![init],
        "BackoffLimitExceeded",
        "ContextFetch: the workspace could not be prepared (repository-0): https://x/y.git: no such repository",
    );
}

#[test]
fn trouble_before_the_start_is_told_and_heals() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Pending", waits("ErrImagePull", "not found"))]);
    world.settle(1);
    let line = "Pending ImagePull: cannot pull image quay.io/acme/claude:1: not found; check the Agent's agentImage, \
                imagePullSecrets and the registry";
    assert_eq!(world.line(), line);
    world.set_pods(vec![pod(&world.task, 1, "Pending", waits("ImagePullBackOff", "Back-off pulling image"))]);
    assert!(world.plan(2).is_quiet(), "going to and fro between the two is no news");
    world.set_pods(vec![pod(&world.task, 1, "Running", running(9))]);
    world.settle(9);
    assert_eq!(world.line(), "Running Running: the agent runs");
}

#[test]
fn a_deleted_job_is_not_made_again() {
    let mut world = started(prompt());
    world.seen.job = JobSeen::NotCached;
    let plan = world.plan(1);
    assert!(plan.verify_job && plan.actions.is_empty() && plan.status.is_none());
    world.seen.job = JobSeen::Gone;
    world.settle(2);
    assert_eq!(world.jobs_created, 1);
    assert!(world.line().starts_with("Failed JobLost:"), "{}", world.line());
}

#[test]
fn a_job_of_somebody_else_is_left_alone() {
    let mut world = World::new(prompt_task(), Some(plain_agent()));
    let Some(Action::CreateJob(mut job)) = world.plan(0).actions.pop() else { panic!("no Job") };
    job.metadata.owner_references = None;
    world.set_job(*job);
    world.settle(0);
    assert!(world.line().starts_with("Pending JobRejected:"), "{}", world.line());
}

#[test]
fn stop_keeps_the_log() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    world.task.spec.stop = Some(true);
    world.settle(3);
    assert_eq!(world.stopped_pods, ["fix-login-0a1b2c-1"]);
    assert_eq!(world.job().spec.unwrap().suspend, None, "the Pod must not be deleted");
    world.set_pods(vec![pod(&world.task, 1, "Failed", exited(143, 2, 4, "half done"))]);
    assert!(world.plan(4).is_quiet());
    world.set_job(ended(world.job(), "Failed", "BackoffLimitExceeded", 5));
    world.settle(5);
    assert_eq!(world.line(), "Failed Stopped: stopped by spec.stop");
    assert_eq!((world.status().exit_code, world.status().result.as_deref()), (Some(143), Some("half done")));
}

#[test]
fn stop_with_retries_does_not_try_again() {
    let mut world = started(json!({"prompt": "hi", "agentRef": "claude", "retries": 3}));
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    world.task.spec.stop = Some(true);
    world.settle(3);
    world.set_pods(vec![pod(&world.task, 1, "Failed", exited(143, 2, 4, ""))]);
    let plan = world.plan(4);
    assert!(matches!(plan.actions.as_slice(), [Action::SuspendJob { suspend: true, .. }]), "{plan:?}");
    world.carry_out(&plan);
    world.settle(4);
    assert_eq!(world.line(), "Failed Stopped: stopped by spec.stop");
}

#[test]
fn stop_before_anything_runs() {
    let mut world = World::new(task(json!({"prompt": "hi", "stop": true})), None);
    world.settle(0);
    assert_eq!((world.line().as_str(), world.jobs_created), ("Failed Stopped: stopped before it started", 0));

    let mut world = started(prompt());
    world.task.spec.stop = Some(true);
    let plan = world.plan(1);
    world.carry_out(&plan);
    world.settle(2);
    assert_eq!(world.line(), "Failed Stopped: stopped by spec.stop");
}

#[test]
fn suspend_and_resume() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    world.task.spec.suspend = Some(true);
    world.settle(3);
    assert_eq!(world.line(), "Pending Suspended: suspended; set spec.suspend to false to go on");
    world.task.spec.suspend = Some(false);
    world.settle(4);
    world.set_pods(vec![pod(&world.task, 2, "Running", running(200))]);
    world.settle(200);
    assert_eq!(world.line(), "Running Running: the agent runs");
}

#[test]
fn retries_are_counted() {
    let mut world = started(json!({"prompt": "hi", "agentRef": "claude", "retries": 1}));
    world.set_pods(vec![pod(&world.task, 1, "Running", running(2))]);
    world.settle(2);
    let first = pod(&world.task, 1, "Failed", exited(1, 2, 3, ""));
    world.set_pods(vec![first.clone()]);
    world.settle(3);
    assert_eq!(world.line(), "Running Retrying: the agent failed; attempt 2 follows");
    world.set_pods(vec![first.clone(), pod(&world.task, 2, "Running", running(12))]);
    world.settle(12);
    assert_eq!(world.line(), "Running Running: the agent runs");
    world.set_pods(vec![pod(&world.task, 2, "Succeeded", exited(0, 12, 13, "second")), first]);
    world.set_job(ended(world.job(), "Complete", "", 14));
    world.settle(14);
    let status = world.status();
    assert_eq!((status.attempts, status.exit_code, status.result.as_deref()), (Some(2), Some(0), Some("second")));
    assert_eq!(status.start_time.unwrap().0, at(2));
}

#[test]
fn finished_tasks_are_deleted_in_time() {
    let mut world = started(prompt());
    world.set_pods(vec![pod(&world.task, 1, "Succeeded", exited(0, 2, 2, ""))]);
    world.set_job(ended(world.job(), "Complete", "", 3));
    world.settle(3);
    assert_eq!(world.plan(4).wake_at, Some(at(2 + 604_800)));
    let config = |ttl: i32| -> Option<Arc<KubeTaskConfig>> {
        let spec = json!({"metadata": {"name": "default"}, "spec": {"taskLifecycle": {"ttlSecondsAfterFinished": ttl}},
            "apiVersion": "kubetask.io/v1alpha1", "kind": "KubeTaskConfig"});
        Some(Arc::new(serde_json::from_value(spec).unwrap()))
    };
    world.seen.config = config(0);
    assert_eq!(world.plan(4).wake_at, None);
    world.seen.config = config(10);
    assert_eq!(world.plan(4).wake_at, Some(at(12)));
    world.seen.job = JobSeen::Gone;
    assert!(world.plan(4).is_quiet(), "what is finished stays as it is");
    world.settle(12);
    assert!(world.deleted);
}
