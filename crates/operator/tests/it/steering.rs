//! What spec.stop, spec.suspend and the server's refusals do.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster};
use serde_json::json;

use crate::{jobs, pods, status, task};

#[tokio::test]
async fn stop_ends_the_agent_and_keeps_its_pod() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped().stdout("working\n").on_term(7));
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.patch::<Task>("t", json!({"spec": {"stop": true}})).await?;
    let stopped = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    let end = status(&stopped);
    assert_eq!(end.reason.as_deref(), Some(reasons::STOPPED), "{end:?}");
    assert_eq!(pods(&cluster).await?, [end.pod_name.clone().unwrap()], "its log must stay readable");
    let log = cluster.api::<Pod>().logs(end.pod_name.as_deref().unwrap(), &Default::default()).await?;
    assert_eq!(log, "working\n");
    assert_eq!(cluster.agents("t").len(), 1);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn stop_ends_a_task_that_would_be_retried_for_good() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi, retries: 3}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.patch::<Task>("t", json!({"spec": {"stop": true}})).await?;
    let stopped = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&stopped).reason.as_deref(), Some(reasons::STOPPED));
    let job = cluster.api::<Job>().get(status(&stopped).job_name.as_deref().unwrap()).await?;
    let active = job.status.as_ref().and_then(|s| s.active).unwrap_or(0);
    assert_eq!(active, 0, "{:?}", job.status);
    assert_eq!(cluster.agents("t").len(), 1);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn stop_before_the_start_creates_no_job() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&task("t", "{prompt: hi, suspend: true}")).await?;
    cluster.wait_for_reason("t", reasons::SUSPENDED).await?;
    cluster.patch::<Task>("t", json!({"spec": {"stop": true}})).await?;
    let stopped = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&stopped).reason.as_deref(), Some(reasons::STOPPED));
    assert!(jobs(&cluster).await?.is_empty());
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn suspend_before_the_start_waits_without_a_job() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&task("t", "{prompt: hi, suspend: true}")).await?;
    let waits = cluster.wait_for_reason("t", reasons::SUSPENDED).await?;
    assert_eq!(waits.phase(), TaskPhase::Pending);
    assert!(jobs(&cluster).await?.is_empty());
    cluster.patch::<Task>("t", json!({"spec": {"suspend": false}})).await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn suspend_while_it_runs_ends_the_pod_and_resume_starts_another() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.patch::<Task>("t", json!({"spec": {"suspend": true}})).await?;
    let waits = cluster.wait_for_reason("t", reasons::SUSPENDED).await?;
    assert_eq!(waits.phase(), TaskPhase::Pending);
    let job = status(&waits).job_name.clone().unwrap();
    let quiet = |job: Option<&Job>| job.and_then(|j| j.status.as_ref()).is_some_and(|s| s.active.unwrap_or(0) == 0);
    cluster.wait_for(&cluster.api::<Job>(), &job, "suspended", quiet).await?;

    cluster.patch::<Task>("t", json!({"spec": {"suspend": false}})).await?;
    let again = cluster.wait_for_agent("t", 2).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.engine().finish(&again.id, 0);
    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    assert_eq!(status(&done).job_name, Some(job));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn spec_stays_as_it_is_once_the_job_exists() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let refused = cluster.patch::<Task>("t", json!({"spec": {"prompt": "other"}})).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("spec.prompt cannot be changed once the Job exists"));
    cluster.patch::<Task>("t", json!({"spec": {"priority": 5}})).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn pod_that_is_refused_is_told_in_the_status() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: few}, spec: {hard: {pods: '0'}}}";
    cluster.apply(quota).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let waits = cluster.wait_for_reason("t", reasons::POD_REJECTED).await?;
    assert_eq!(waits.phase(), TaskPhase::Pending);
    assert!(status(&waits).message.as_deref().unwrap().contains("exceeded quota: few"), "{:?}", status(&waits));
    cluster.apply(&quota.replace("'0'", "'5'")).await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn job_that_is_refused_is_told_in_the_status() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: few}, spec: {hard: {count/jobs.batch: '0'}}}";
    cluster.apply(quota).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let waits = cluster.wait_for_reason("t", reasons::JOB_REJECTED).await?;
    assert_eq!((waits.phase(), &status(&waits).job_name), (TaskPhase::Pending, &None));
    assert!(status(&waits).message.as_deref().unwrap().contains("exceeded quota: few"), "{:?}", status(&waits));
    cluster.shutdown().await;
    Ok(())
}
