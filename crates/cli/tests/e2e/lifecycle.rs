//! PRODUCT, "Lifecycle".

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubetask_api::{Task, TaskPhase};
use serde_json::json;

use crate::world::{WAIT, World, reason_of};

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_from_pending_to_completed_with_exit_code_and_result() {
    let world = World::new("completed").await;
    world.agent("a", "echo working; echo all done > /dev/termination-log", json!({})).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    let task = world.phase("t", TaskPhase::Completed).await;
    assert_eq!(world.log(&task).await, "working\n");
    let status = task.status.unwrap();
    assert_eq!((status.exit_code, status.result.as_deref().map(str::trim)), (Some(0), Some("all done")));
    assert!(status.start_time.is_some() && status.completion_time.is_some() && status.job_name.is_some());
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_failure_has_a_reason_and_the_agent_runs_once() {
    let world = World::new("failed").await;
    world.agent("a", "echo once; exit 3", json!({})).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    let task = world.phase("t", TaskPhase::Failed).await;
    assert_eq!((reason_of(&task), task.status.as_ref().unwrap().exit_code), ("ExitCode", Some(3)));
    let selector = format!("kubetask.io/task={}", task.name_any());
    let pods = world.api::<Pod>().list(&ListParams::default().labels(&selector)).await.unwrap();
    assert_eq!(pods.items.len(), 1);
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_retries_run_again_as_often_as_they_say() {
    let world = World::new("retries").await;
    world.agent("a", "exit 3", json!({})).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x", "retries": 1})).await;
    let task = world.phase("t", TaskPhase::Failed).await;
    assert_eq!(task.status.unwrap().attempts, Some(2));
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_timeout_stop_and_deleted_job_end_a_task() {
    let world = World::new("ends").await;
    world.agent("a", "trap 'exit 0' TERM; echo started; while :; do sleep 0.2; done", json!({})).await;
    world.ours("Task", "timeout", json!({"agentRef": "a", "prompt": "x", "timeoutSeconds": 2})).await;
    world.ours("Task", "stop", json!({"agentRef": "a", "prompt": "x"})).await;
    world.ours("Task", "lost", json!({"agentRef": "a", "prompt": "x"})).await;
    world.phase("stop", TaskPhase::Running).await;
    world.patch("stop", json!({"spec": {"stop": true}})).await;
    let lost = world.phase("lost", TaskPhase::Running).await;
    let job = lost.status.unwrap().job_name.unwrap();
    world.api::<Job>().delete(&job, &DeleteParams::background()).await.unwrap();
    for (name, reason) in [("timeout", "DeadlineExceeded"), ("stop", "Stopped"), ("lost", "JobLost")] {
        let task = world.phase(name, TaskPhase::Failed).await;
        assert_eq!(reason_of(&task), reason, "{name}");
    }
    let stopped = world.api::<Task>().get("stop").await.unwrap();
    assert!(world.log(&stopped).await.contains("started"), "the log of a stopped Task stays");
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_suspended_tasks_wait_and_queues_hold_their_limit() {
    let world = World::new("queue").await;
    world.agent("one", "sleep 2", json!({"maxConcurrentTasks": 1})).await;
    world.ours("Task", "held", json!({"agentRef": "one", "prompt": "x", "suspend": true})).await;
    world.reason("held", "Suspended").await;
    world.ours("Task", "first", json!({"agentRef": "one", "prompt": "x"})).await;
    world.phase("first", TaskPhase::Running).await;
    world.ours("Task", "second", json!({"agentRef": "one", "prompt": "x"})).await;
    let second = world.reason("second", "AgentBusy").await;
    assert_eq!(second.status.unwrap().queue_position, Some(1));
    world.phase("second", TaskPhase::Completed).await;
    world.patch("held", json!({"spec": {"suspend": false}})).await;
    world.phase("held", TaskPhase::Completed).await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_finished_tasks_go_after_their_time_with_everything_of_theirs() {
    let world = World::new("ttl").await;
    world.agent("a", "true", json!({})).await;
    world.ours("KubeTaskConfig", "default", json!({"taskLifecycle": {"ttlSecondsAfterFinished": 1}})).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let tasks = world.api::<Task>().list(&Default::default()).await.unwrap().items.len();
        let jobs = world.api::<Job>().list(&Default::default()).await.unwrap().items.len();
        if tasks + jobs == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{tasks} tasks and {jobs} jobs are left");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_refuses_what_is_wrong_and_changes_of_what_runs() {
    let world = World::new("api").await;
    world.agent("a", "sleep 600", json!({})).await;
    let tasks = world.api::<Task>();
    let wrong: Task = serde_json::from_value(json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": "wrong"},
        "spec": {"prompt": "x", "timeoutSeconds": 0},
    }))
    .unwrap();
    let refused = tasks.create(&Default::default(), &wrong).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 422), "{refused}");
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    world.phase("t", TaskPhase::Running).await;
    let patch = kube::api::Patch::Merge(json!({"spec": {"prompt": "other"}}));
    let refused = tasks.patch("t", &Default::default(), &patch).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be changed once the Job exists"), "{refused}");
    world.patch("t", json!({"spec": {"stop": true}})).await;
    world.phase("t", TaskPhase::Failed).await;
    world.done().await;
}
