//! BatchRuns: one Task for each target, so many at a time.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubetask_api::batchrun::{BatchPhase, BatchProgress};
use kubetask_api::{BatchRun, BatchRunStatus, Task, TaskPhase, conditions, labels, reasons};
use kubetask_testkit::{Faults, Script, TestCluster, TestConfig, WAIT};
use serde_json::json;

/// Targets as a Batch has them.
fn targets(count: usize) -> String {
    let target = |n| format!("[{{type: File, file: {{filePath: /workspace/target, source: {{inline: 'n{n}'}}}}}}]");
    (0..count).map(target).collect::<Vec<_>>().join(", ")
}

fn batch(name: &str, count: usize) -> String {
    format!(
        "{{apiVersion: kubetask.io/v1alpha1, kind: Batch, metadata: {{name: {name}}}, spec: {{
        commonContext: [{{type: File, file: {{filePath: /workspace/task.md, source: {{inline: do it}}}}}}],
        variableContexts: [{}]}}}}\n---\n",
        targets(count)
    )
}

fn run(name: &str, spec: &str) -> String {
    format!("{{apiVersion: kubetask.io/v1alpha1, kind: BatchRun, metadata: {{name: {name}}}, spec: {spec}}}\n---\n")
}

async fn wait_for(
    cluster: &TestCluster,
    name: &str,
    what: &str,
    wished: impl Fn(&BatchRunStatus) -> bool + Send + Sync,
) -> anyhow::Result<BatchRunStatus> {
    let wished = |run: Option<&BatchRun>| run.and_then(|r| r.status.as_ref()).is_some_and(&wished);
    let run = cluster.wait_for(&cluster.api::<BatchRun>(), name, what, wished).await?;
    Ok(run.unwrap().status.unwrap())
}

fn is(phase: BatchPhase) -> impl Fn(&BatchRunStatus) -> bool {
    move |status| status.phase == Some(phase)
}

fn progress(status: &BatchRunStatus) -> BatchProgress {
    status.progress.unwrap()
}

async fn annotate(cluster: &TestCluster, name: &str, key: &str, value: Option<&str>) -> anyhow::Result<()> {
    cluster.patch::<BatchRun>(name, json!({"metadata": {"annotations": {key: value}}})).await?;
    Ok(())
}

async fn tasks(cluster: &TestCluster) -> anyhow::Result<Vec<Task>> {
    Ok(cluster.api::<Task>().list(&ListParams::default()).await?.items)
}

#[tokio::test]
async fn batch_fans_out_with_max_parallelism_and_aggregated_progress() -> anyhow::Result<()> {
    const TARGETS: usize = 9;
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    // The run may come before its Batch.
    let template = "taskTemplate: {metadata: {labels: {team: blue}}}";
    cluster.apply(&run("r", &format!("{{batchRef: b, maxParallelism: 3, {template}}}"))).await?;
    let waits = wait_for(&cluster, "r", "waiting", is(BatchPhase::Pending)).await?;
    assert_eq!(conditions::find(&waits.conditions, conditions::ACCEPTED).unwrap().reason, reasons::BATCH_NOT_FOUND);
    cluster.apply(&batch("b", TARGETS)).await?;
    for n in 0..TARGETS {
        let name = format!("r-{n}");
        let task = cluster.wait_for_phase(&name, TaskPhase::Running).await?;
        assert_eq!((task.labels()["team"].as_str(), task.labels()[labels::BATCHRUN].as_str()), ("blue", "r"));
        let open = tasks(&cluster).await?.iter().filter(|t| !t.phase().is_finished()).count();
        assert!(open <= 3, "{open} at a time");
        let container = cluster.wait_for_agent(&name, 1).await?;
        assert_eq!(cluster.file(&container, "/workspace/target")?, format!("n{n}"));
        assert_eq!(cluster.file(&container, "/workspace/task.md")?, "do it");
        cluster.engine().finish(&container.id, 0);
        let status = wait_for(&cluster, "r", "counted", |s| progress(s).completed > i32::try_from(n).unwrap()).await?;
        let p = progress(&status);
        assert_eq!(p.total, p.pending + p.running + p.completed + p.failed, "{p:?}");
    }
    let done = wait_for(&cluster, "r", "complete", is(BatchPhase::Completed)).await?;
    assert_eq!(done.completed_indexes.as_deref(), Some("0-8"));
    assert!(done.start_time.is_some() && done.completion_time.is_some());
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn batch_pause_resume_and_deletion_that_cascades() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    let spec = format!("{{batchSpec: {{variableContexts: [{}]}}, maxParallelism: 1}}", targets(3));
    cluster.apply(&run("r", &spec)).await?;
    let container = cluster.wait_for_agent("r-0", 1).await?;
    annotate(&cluster, "r", labels::PAUSE, Some("true")).await?;
    wait_for(&cluster, "r", "paused", is(BatchPhase::Paused)).await?;
    // What runs goes on; nothing else begins.
    cluster.engine().finish(&container.id, 0);
    let paused = wait_for(&cluster, "r", "counted", |s| progress(s).completed == 1).await?;
    assert_eq!((paused.phase, progress(&paused).pending), (Some(BatchPhase::Paused), 2));
    assert_eq!(tasks(&cluster).await?.len(), 1);
    annotate(&cluster, "r", labels::PAUSE, None).await?;
    cluster.wait_for_phase("r-1", TaskPhase::Running).await?;
    wait_for(&cluster, "r", "running", is(BatchPhase::Running)).await?;
    cluster.api::<BatchRun>().delete("r", &DeleteParams::background()).await?;
    let gone = async {
        while !tasks(&cluster).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WAIT, gone).await??;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn batch_re_runs_what_failed() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(1));
    cluster.apply(&(batch("b", 3) + &run("r", "{batchRef: b, maxParallelism: 2}"))).await?;
    let failed = wait_for(&cluster, "r", "failed", is(BatchPhase::Failed)).await?;
    assert_eq!(failed.failed_tasks, ["r-0", "r-1", "r-2"]);
    assert_eq!(failed.failed_indexes.as_deref(), Some("0-2"));
    // Somebody has cleaned up one of them; it is run again all the same.
    cluster.api::<Task>().delete("r-1", &DeleteParams::background()).await?;
    cluster.engine().always(Script::exits(0));
    annotate(&cluster, "r", labels::RETRY, Some("1")).await?;
    let done = wait_for(&cluster, "r", "complete", is(BatchPhase::Completed)).await?;
    assert_eq!((progress(&done).completed, done.failed_tasks.len()), (3, 0));
    for n in 0..3 {
        assert_eq!(cluster.agents(&format!("r-{n}")).len(), 2);
    }
    // Nothing failed: nothing is run again.
    annotate(&cluster, "r", labels::RETRY, Some("2")).await?;
    wait_for(&cluster, "r", "retried", |s| s.last_retry.as_deref() == Some("2")).await?;
    assert_eq!(cluster.engine().started().len(), 6);
    cluster.shutdown().await;
    Ok(())
}

/// Operators die wherever they are, requests fail and answers get lost: each target has one Task, never too many run.
#[tokio::test]
async fn batch_creates_each_task_once_whatever_happens() -> anyhow::Result<()> {
    const TARGETS: usize = 25;
    let faults = Faults::seeded(11);
    let config = TestConfig { faults: Some(faults.clone()), without_operator: true, ..TestConfig::default() };
    let mut cluster = TestCluster::with(config).await?;
    cluster.apply(&(batch("b", TARGETS) + &run("r", "{batchRef: b, maxParallelism: 4}"))).await?;
    for life in 0..12u64 {
        cluster.start_operator();
        tokio::time::sleep(Duration::from_millis(20 + life * 37 % 90)).await;
        let open = tasks(&cluster).await?.iter().filter(|t| !t.phase().is_finished()).count();
        assert!(open <= 4, "{open} at a time in life {life}");
        cluster.kill_operator();
    }
    faults.end();
    cluster.start_operator();
    let done = wait_for(&cluster, "r", "complete", is(BatchPhase::Completed)).await?;
    assert_eq!(done.completed_indexes.as_deref(), Some("0-24"));
    for n in 0..TARGETS {
        assert_eq!(cluster.agents(&format!("r-{n}")).len(), 1, "r-{n}");
    }
    cluster.shutdown().await;
    Ok(())
}

/// A thousand targets take a while; without the variable there are fewer.
#[tokio::test]
async fn batch_of_many_targets_has_a_small_status_and_progress_is_right_at_every_moment() -> anyhow::Result<()> {
    let large = std::env::var_os("KUBETASK_TEST_LARGE").is_some();
    let (targets, together): (usize, i32) = if large { (1000, 50) } else { (60, 25) };
    let cluster = TestCluster::start().await?;
    cluster.apply(&(batch("b", targets) + &run("r", &format!("{{batchRef: b, maxParallelism: {together}}}")))).await?;
    let deadline = tokio::time::Instant::now() + WAIT + Duration::from_millis(200) * u32::try_from(targets)?;
    let mut before = 0;
    loop {
        let run = cluster.api::<BatchRun>().get("r").await?;
        if let Some(p) = run.status.as_ref().and_then(|s| s.progress) {
            assert_eq!(usize::try_from(p.total)?, targets);
            assert_eq!(p.total, p.pending + p.running + p.completed + p.failed, "{p:?}");
            assert!(p.running <= together && p.completed >= before, "{p:?}");
            before = p.completed;
            assert!(serde_json::to_vec(&run.status)?.len() < 4096, "{:?}", run.status);
        }
        if run.status.as_ref().is_some_and(is(BatchPhase::Completed)) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{:?}", run.status);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cluster.requests().count("create", "tasks"), targets);
    assert_eq!(cluster.engine().started().len(), targets);
    // Progress is told in as few writes as it takes.
    assert!(cluster.requests().count("patch", "batchruns/status") <= 4 * targets);
    // Everything it made goes with it.
    cluster.api::<BatchRun>().delete("r", &DeleteParams::background()).await?;
    let deadline = tokio::time::Instant::now() + WAIT + Duration::from_millis(200) * u32::try_from(targets)?;
    loop {
        let left = [
            tasks(&cluster).await?.len(),
            cluster.api::<Job>().list_metadata(&ListParams::default()).await?.items.len(),
            cluster.api::<Pod>().list_metadata(&ListParams::default()).await?.items.len(),
        ];
        if left == [0; 3] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "Tasks, Jobs and Pods that are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.shutdown().await;
    Ok(())
}
