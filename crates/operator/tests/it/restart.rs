//! The operator ends at some point, the world changes, and another operator goes on.

use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster, TestConfig};
use serde_json::json;

use crate::{agent, jobs, status, task};

async fn quiet() -> anyhow::Result<TestCluster> {
    TestCluster::with(TestConfig { without_operator: true, ..TestConfig::default() }).await
}

#[tokio::test]
async fn tasks_created_while_nobody_looked_are_carried_out() -> anyhow::Result<()> {
    let mut cluster = quiet().await?;
    cluster.apply(&(agent("a", "{agentImage: acme}") + &task("t", "{agentRef: a, prompt: hi}"))).await?;
    cluster.start_operator();
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    assert!(cluster.requests().count("patch", "tasks/status") <= 3);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn agents_that_end_meanwhile_are_noticed() -> anyhow::Result<()> {
    let mut cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.stop_operator().await;
    let container = cluster.wait_for_agent("t", 1).await?;
    cluster.engine().finish(&container.id, 4);
    let ended = |job: Option<&Job>| job.and_then(|j| j.status.as_ref()).is_some_and(|s| s.failed == Some(1));
    cluster.wait_for(&cluster.api::<Job>(), status(&running).job_name.as_deref().unwrap(), "failed", ended).await?;
    assert_eq!(cluster.task("t").await?.phase(), TaskPhase::Running);
    cluster.start_operator();
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&failed).exit_code, Some(4));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn jobs_and_tasks_deleted_meanwhile() -> anyhow::Result<()> {
    let mut cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&(task("lost", "{prompt: hi}") + &task("again", "{prompt: hi}"))).await?;
    let lost = cluster.wait_for_phase("lost", TaskPhase::Running).await?;
    let again = cluster.wait_for_phase("again", TaskPhase::Running).await?;
    cluster.stop_operator().await;
    let background = DeleteParams::background();
    cluster.api::<Job>().delete(status(&lost).job_name.as_deref().unwrap(), &background).await?;
    cluster.api::<Task>().delete("again", &background).await?;
    cluster.apply(&task("again", "{prompt: hi}")).await?;
    cluster.start_operator();
    let lost = cluster.wait_for_phase("lost", TaskPhase::Failed).await?;
    assert_eq!(status(&lost).reason.as_deref(), Some(reasons::JOB_LOST));
    let new = cluster.wait_for_phase("again", TaskPhase::Running).await?;
    assert_ne!(status(&new).job_name, status(&again).job_name);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn stop_asked_for_meanwhile() -> anyhow::Result<()> {
    let mut cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.stop_operator().await;
    cluster.patch::<Task>("t", json!({"spec": {"stop": true}})).await?;
    cluster.start_operator();
    let stopped = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&stopped).reason.as_deref(), Some(reasons::STOPPED));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn killed_again_and_again_it_creates_one_job_each() -> anyhow::Result<()> {
    const TASKS: usize = 30;
    let mut cluster = quiet().await?;
    cluster.apply(&(0..TASKS).map(|n| task(&format!("t{n}"), "{prompt: hi}")).collect::<String>()).await?;
    for life in 0..12u64 {
        cluster.start_operator();
        tokio::time::sleep(std::time::Duration::from_millis(15 * life)).await;
        cluster.kill_operator();
    }
    cluster.start_operator();
    for n in 0..TASKS {
        cluster.wait_for_phase(&format!("t{n}"), TaskPhase::Completed).await?;
        assert_eq!(cluster.agents(&format!("t{n}")).len(), 1);
    }
    assert_eq!(jobs(&cluster).await?.len(), TASKS);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn everything_restarts_and_the_agent_goes_on() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let cluster = cluster.restart().await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    cluster.engine().finish(&container.id, 0);
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    assert_eq!(cluster.agents("t").len(), 1);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_operator_that_has_hardly_begun_ends_when_asked_to() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    for round in 0..40 {
        let operator = kubetask_operator::start(cluster.client(), kubetask_operator::OperatorConfig::default());
        tokio::time::sleep(std::time::Duration::from_micros(500 * round)).await;
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), operator.shutdown()).await;
        assert!(ended.is_ok(), "it does not end (round {round})");
    }
    cluster.shutdown().await;
    Ok(())
}
