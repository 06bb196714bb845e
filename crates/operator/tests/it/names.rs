//! Names of any length, and what must not be seen by everybody.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use kubetask_api::{TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster};

use crate::{events, status, task};

#[tokio::test]
async fn task_names_may_be_as_long_as_kubernetes_allows() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0));
    let dotted = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    let names = [
        "x".repeat(63),
        "x".repeat(64),
        dotted,
        "y".repeat(253),
        format!("{}z", "y".repeat(252)),
        "a.b".into(),
        "a-b".into(),
    ];
    cluster.apply(&names.iter().map(|name| task(name, "{prompt: hi}")).collect::<String>()).await?;
    let mut jobs = std::collections::BTreeSet::new();
    for name in &names {
        let done = cluster.wait_for_phase(name, TaskPhase::Completed).await?;
        let job = status(&done).job_name.clone().unwrap();
        let found = cluster.api::<Job>().get(&job).await?;
        assert!(job.len() <= 63 && jobs.insert(job));
        let label = found.labels()["kubetask.io/task"].clone();
        let full = found.annotations().get("kubetask.io/task-name");
        assert_eq!(full.unwrap_or(&label), name);
    }
    // Each is told of, whatever the length of its name.
    for name in &names {
        events(&cluster, name, reasons::COMPLETED).await?;
    }
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn secret_content_goes_into_a_secret_only() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    let yaml = "
{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: s3cret-content}}
---
"
    .to_owned()
        + &task(
            "t",
            "{prompt: hi, contexts: [
  {type: File, file: {filePath: /workspace/both.md, source: {inline: public words}}},
  {type: File, file: {filePath: /workspace/both.md, source: {secretKeyRef: {name: key, key: token}}}}]}",
        );
    cluster.apply(&yaml).await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    assert!(cluster.file(&container, "/workspace/both.md")?.contains("s3cret-content"));
    for map in cluster.api::<ConfigMap>().list(&ListParams::default()).await?.items {
        assert!(!serde_json::to_string(&map)?.contains("s3cret-content"), "{map:?}");
    }
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let files = format!("{}-files", status(&running).job_name.as_deref().unwrap());
    let stored = cluster.api::<Secret>().get(&files).await?;
    assert_eq!(stored.owner_references()[0].uid, running.uid().unwrap());
    let jobs = cluster.api::<Job>().list(&ListParams::default()).await?;
    assert!(!serde_json::to_string(&jobs)?.contains("s3cret-content"));
    cluster.shutdown().await;
    Ok(())
}
