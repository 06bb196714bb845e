//! PRODUCT, "CronTask" and "Batch".

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kubetask_api::batchrun::BatchPhase;
use kubetask_api::{BatchRun, BatchRunStatus, CronTask, Task, TaskPhase};
use serde_json::{Value, json};

use crate::world::{WAIT, World};

/// Tasks that carry that label.
async fn tasks(world: &World, label: &str, maker: &str) -> Vec<Task> {
    let params = ListParams::default().labels(&format!("kubetask.io/{label}={maker}"));
    world.api::<Task>().list(&params).await.unwrap().items
}

async fn annotate<K>(world: &World, name: &str, key: &str, value: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let patch = json!({"metadata": {"annotations": {key: value}}});
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn batch(world: &World, name: &str, wished: fn(&BatchRunStatus) -> bool) -> BatchRunStatus {
    let is = move |run: Option<&BatchRun>| run.and_then(|run| run.status.as_ref()).is_some_and(wished);
    let found = await_condition(world.api::<BatchRun>(), name, is);
    match tokio::time::timeout(WAIT, found).await {
        Ok(run) => run.unwrap().unwrap().status.unwrap(),
        Err(_) => panic!("{name}: {:?}", world.api::<BatchRun>().get(name).await.map(|run| run.status)),
    }
}

fn template() -> Value {
    json!({"spec": {"agentRef": "a", "prompt": "x"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn crontask_runs_when_triggered_although_it_is_suspended_and_keeps_its_history() {
    let world = World::new("cron").await;
    world.agent("a", "true", json!({})).await;
    let spec = json!({
        "schedule": "0 3 * * *", "timeZone": "Europe/Berlin", "suspend": true, "successfulTasksHistoryLimit": 1,
        "taskTemplate": template(),
    });
    world.ours("CronTask", "c", spec).await;
    for round in ["one", "two"] {
        annotate::<CronTask>(&world, "c", "kubetask.io/trigger", round).await;
        let triggered = await_condition(world.api::<CronTask>(), "c", move |cron: Option<&CronTask>| {
            let status = cron.and_then(|cron| cron.status.as_ref());
            status.is_some_and(|s| s.last_trigger.as_deref() == Some(round) && s.active.is_empty())
        });
        tokio::time::timeout(WAIT, triggered).await.unwrap().unwrap();
    }
    // Of two that completed one is kept.
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let left = tasks(&world, "crontask", "c").await;
        if left.len() == 1 && left[0].phase() == TaskPhase::Completed {
            break;
        }
        let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
        assert!(tokio::time::Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let cron = world.api::<CronTask>().get("c").await.unwrap();
    assert!(cron.status.unwrap().last_successful_time.is_some());
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crontask_runs_on_its_schedule_and_says_when_next() {
    let world = World::new("schedule").await;
    world.agent("a", "true", json!({})).await;
    world.ours("CronTask", "c", json!({"schedule": "* * * * *", "taskTemplate": template()})).await;
    let ran = await_condition(world.api::<CronTask>(), "c", |cron: Option<&CronTask>| {
        cron.and_then(|cron| cron.status.as_ref()).is_some_and(|s| s.last_schedule_time.is_some())
    });
    let cron = tokio::time::timeout(WAIT, ran).await.unwrap().unwrap().unwrap();
    let status = cron.status.unwrap();
    assert_eq!(status.last_schedule_time.as_ref().unwrap().0.as_second() % 60, 0, "{status:?}");
    assert!(status.next_schedule_time > status.last_schedule_time, "{status:?}");
    let made = tasks(&world, "crontask", "c").await;
    assert!(!made.is_empty());
    world.api::<CronTask>().delete("c", &DeleteParams::background()).await.unwrap();
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crontask_that_cannot_be_understood_says_why() {
    let world = World::new("wrong").await;
    let spec = json!({"schedule": "0 3 * * *", "timeZone": "Europe/Nowhere", "taskTemplate": template()});
    world.ours("CronTask", "c", spec).await;
    let told = await_condition(world.api::<CronTask>(), "c", |cron: Option<&CronTask>| {
        let conditions = cron.and_then(|cron| cron.status.as_ref()).map(|status| &status.conditions);
        conditions.is_some_and(|all| {
            all.iter().any(|c| c.reason == "InvalidSchedule" && c.message.contains("Europe/Nowhere"))
        })
    });
    tokio::time::timeout(WAIT, told).await.unwrap().unwrap();
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_fans_out_with_max_parallelism_and_runs_again_what_failed() {
    let world = World::new("batch").await;
    // Fails where the target says so, until the ConfigMap says otherwise.
    let script = "[ \"$(cat /workspace/target)\" != bad ] || [ \"$(cat /mended/mended)\" = yes ]";
    let mended = |value: &'static str| async { world.config_map("mended", &[("mended", value)]).await };
    mended("no").await;
    let directory =
        json!([{"type": "File", "file": {"dirPath": "/mended", "source": {"configMapRef": {"name": "mended"}}}}]);
    world.agent("a", script, json!({"defaultContexts": directory})).await;
    let target =
        |text: &str| json!([{"type": "File", "file": {"filePath": "/workspace/target", "source": {"inline": text}}}]);
    let targets = json!([target("one"), target("bad"), target("three"), target("four")]);
    let prompt = json!([{"type": "File", "file": {"filePath": "/workspace/task.md", "source": {"inline": "do it"}}}]);
    world.ours("Batch", "b", json!({"commonContext": prompt, "variableContexts": targets, "agentRef": "a"})).await;
    world.ours("BatchRun", "r", json!({"batchRef": "b", "maxParallelism": 2})).await;
    let failed = batch(&world, "r", |status| status.phase == Some(BatchPhase::Failed)).await;
    let progress = failed.progress.unwrap();
    assert_eq!((progress.total, progress.completed, progress.failed), (4, 3, 1));
    assert_eq!((failed.completed_indexes.as_deref(), failed.failed_indexes.as_deref()), (Some("0,2-3"), Some("1")));
    mended("yes").await;
    annotate::<BatchRun>(&world, "r", "kubetask.io/retry", "1").await;
    let done = batch(&world, "r", |status| status.phase == Some(BatchPhase::Completed)).await;
    assert_eq!(done.completed_indexes.as_deref(), Some("0-3"));
    // What it made goes with it.
    world.api::<BatchRun>().delete("r", &DeleteParams::background()).await.unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    while !tasks(&world, "batchrun", "r").await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "its Tasks are still there");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_pauses_and_goes_on() {
    let world = World::new("pause").await;
    world.agent("a", "true", json!({})).await;
    let target = json!([{"type": "File", "file": {"filePath": "/workspace/task.md", "source": {"inline": "do it"}}}]);
    let run = json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "BatchRun",
        "metadata": {"name": "r", "annotations": {"kubetask.io/pause": "true"}},
        "spec": {"batchSpec": {"variableContexts": [target, target], "agentRef": "a"}, "maxParallelism": 1},
    });
    world.apply(run).await;
    let paused = batch(&world, "r", |status| status.phase == Some(BatchPhase::Paused)).await;
    assert_eq!(paused.progress.unwrap().pending, 2);
    assert!(tasks(&world, "batchrun", "r").await.is_empty());
    annotate::<BatchRun>(&world, "r", "kubetask.io/pause", "false").await;
    batch(&world, "r", |status| status.phase == Some(BatchPhase::Completed)).await;
    world.done().await;
}
