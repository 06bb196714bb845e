//! Finished Tasks are deleted when their time is up.

use k8s_openapi::api::batch::v1::Job;
use kubetask_api::{Task, TaskPhase};
use kubetask_testkit::TestCluster;

use crate::{jobs, status, task};

fn config(ttl: i32) -> String {
    format!(
        "{{apiVersion: kubetask.io/v1alpha1, kind: KubeTaskConfig, metadata: {{name: default}}, spec: {{taskLifecycle: {{ttlSecondsAfterFinished: {ttl}}}}}}}"
    )
}

#[tokio::test]
async fn finished_task_is_deleted_with_everything() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&config(1)).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    let job = status(&done).job_name.clone().unwrap();
    cluster.wait_for(&cluster.api::<Task>(), "t", "gone", |task| task.is_none()).await?;
    cluster.wait_for(&cluster.api::<Job>(), &job, "gone", |job| job.is_none()).await?;
    assert_eq!(cluster.requests().count("delete", "tasks"), 1);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn changed_configuration_counts_for_finished_tasks() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&config(0)).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    // Another name is not read.
    cluster.apply(&config(1).replace("name: default", "name: other")).await?;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(jobs(&cluster).await?.len(), 1);
    cluster.apply(&config(1)).await?;
    cluster.wait_for(&cluster.api::<Task>(), "t", "gone", |task| task.is_none()).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_of_the_same_name_is_not_deleted_for_an_old_one() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.api::<Task>().delete("t", &Default::default()).await?;
    cluster.engine().always(kubetask_testkit::Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    cluster.apply(&config(1)).await?;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(cluster.task("t").await?.phase(), TaskPhase::Running);
    cluster.shutdown().await;
    Ok(())
}
