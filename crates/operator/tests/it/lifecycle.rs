//! From Pending to the end.

use kubetask_api::{TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster};

use crate::status;

#[tokio::test]
async fn task_runs_and_completes() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0).writes("/dev/termination-log", "did it"));
    cluster.apply("{apiVersion: kubetask.io/v1alpha1, kind: Task, metadata: {name: t}, spec: {prompt: hi}}").await?;
    let task = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    assert_eq!(status(&task).exit_code, Some(0));
    assert_eq!(status(&task).reason.as_deref(), Some(reasons::COMPLETED));
    println!("{:#?}", cluster.requests().writes());
    cluster.shutdown().await;
    Ok(())
}
