//! Watches run behind, each for itself: what was created before the Task may be seen after it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_testkit::{Faults, Script, TestCluster, TestConfig};

use crate::{agent, jobs, reason, status, task};

const LAG: Duration = Duration::from_millis(1500);

async fn behind(resource: &'static str) -> anyhow::Result<TestCluster> {
    let faults = Some(Faults::lagging(resource, LAG));
    let cluster = TestCluster::with(TestConfig { faults, ..TestConfig::default() }).await?;
    cluster.engine().always(Script::runs_until_stopped());
    // The operator's lists are not late; what comes after them is.
    cluster.apply(&task("first", "{prompt: hi}")).await?;
    cluster.wait_for_agent("first", 1).await?;
    Ok(cluster)
}

#[tokio::test]
async fn agent_named_default_is_not_overlooked() -> anyhow::Result<()> {
    let cluster = behind("agents").await?;
    cluster.apply(&(agent("default", "{agentImage: 'acme:1'}") + &task("t", "{prompt: hi}"))).await?;
    assert_eq!(cluster.wait_for_agent("t", 1).await?.image, "acme:1");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn limit_of_an_agent_counts_before_the_agent_is_seen() -> anyhow::Result<()> {
    let cluster = behind("agents").await?;
    let tasks: String = (0..4).map(|n| task(&format!("t{n}"), "{agentRef: a, prompt: hi}")).collect();
    cluster.apply(&(agent("a", "{maxConcurrentTasks: 1}") + &tasks)).await?;
    for n in 0..4 {
        let known = |t: &Task| t.status.is_some();
        let first = cluster.wait_for_task(&format!("t{n}"), "looked at", known).await?;
        assert_ne!(status(&first).reason.as_deref(), Some(reasons::AGENT_NOT_FOUND));
    }
    tokio::time::sleep(LAG * 2).await;
    assert_eq!(jobs(&cluster).await?.len(), 2, "one of this Agent, and the first one's");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn optional_file_that_is_there_is_used() -> anyhow::Result<()> {
    let cluster = behind("configmaps").await?;
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: guides}, data: {style: brief}}\n---\n";
    let spec = "{contexts: [{type: File, file: {filePath: /workspace/g.md,
        source: {configMapKeyRef: {name: guides, key: style, optional: true}}}}], prompt: hi}";
    cluster.apply(&(map.to_owned() + &task("t", spec))).await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    assert_eq!(cluster.file(&container, "/workspace/g.md")?, "brief");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn job_is_created_once_and_not_lost_while_its_watch_is_behind() -> anyhow::Result<()> {
    let cluster = behind("jobs").await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    tokio::time::sleep(LAG * 2).await;
    assert_eq!(cluster.task("t").await?.phase(), TaskPhase::Running);
    assert_eq!(cluster.requests().count("create", "jobs"), 2);
    // A Job that goes is noticed all the same.
    cluster.api::<Job>().delete(status(&running).job_name.as_deref().unwrap(), &DeleteParams::background()).await?;
    let lost = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&lost).reason.as_deref(), Some(reasons::JOB_LOST));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn pods_may_be_seen_after_their_end() -> anyhow::Result<()> {
    let cluster = behind("pods").await?;
    cluster.engine().always(Script::exits(3));
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!((status(&failed).exit_code, reason(&failed, "Failed", "True")), (Some(3), Some(reasons::EXIT_CODE)));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn status_is_not_written_from_a_task_that_is_old() -> anyhow::Result<()> {
    let cluster = behind("tasks").await?;
    cluster.engine().always(Script::exits(0));
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    let writes = cluster.requests().all();
    let of_t = writes.iter().filter(|r| r.resource == "tasks/status" && r.name == "t").collect::<Vec<_>>();
    assert!(of_t.len() <= 3 && of_t.iter().all(|r| r.answer.is_none_or(|code| code == 200)), "{of_t:?}");
    cluster.shutdown().await;
    Ok(())
}
