//! Finished Tasks are archived, and not deleted before; of those that are kept by count, the newest.

use std::path::Path;

use axum::http::StatusCode;
use kube::ResourceExt;
use kube::api::ListParams;
use kubetask_api::{Task, TaskPhase, conditions, reasons};
use kubetask_operator::OperatorConfig;
use kubetask_operator::archive::{ArchivePolicy, Files};
use kubetask_testkit::{Script, TestCluster, TestConfig};
use serde_json::{Value, json};

use crate::stub::Stub;
use crate::{reason, status, task};

fn config(spec: &str) -> String {
    format!("{{apiVersion: kubetask.io/v1alpha1, kind: KubeTaskConfig, metadata: {{name: default}}, spec: {spec}}}")
}

async fn cluster(policy: ArchivePolicy) -> anyhow::Result<TestCluster> {
    let operator = OperatorConfig { archive: policy, ..OperatorConfig::default() };
    let cluster = TestCluster::with(TestConfig { operator, ..TestConfig::default() }).await?;
    cluster.engine().always(Script::exits(0).stdout("what it said\n").writes("/dev/termination-log", "did it"));
    Ok(cluster)
}

async fn gone(cluster: &TestCluster, name: &str) -> anyhow::Result<()> {
    cluster.wait_for(&cluster.api::<Task>(), name, "gone", |task| task.is_none()).await?;
    Ok(())
}

/// The one directory in a directory.
fn only(path: &Path) -> std::path::PathBuf {
    let all: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[tokio::test]
async fn task_result_and_log_are_archived_before_the_task_goes() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = cluster(ArchivePolicy::default()).await?;
    let url = format!("file://{}/deep/archive", directory.path().display());
    cluster
        .apply(&config(&format!("{{archive: {{url: '{url}'}}, taskLifecycle: {{ttlSecondsAfterFinished: 1}}}}")))
        .await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    gone(&cluster, "t").await?;
    let place = only(&directory.path().join("deep/archive/default/t"));
    let archived: Value = serde_json::from_slice(&std::fs::read(place.join("task.json"))?)?;
    assert_eq!((&archived["status"]["phase"], &archived["spec"]["prompt"]), (&json!("Completed"), &json!("hi")));
    assert_eq!(archived["metadata"]["uid"], json!(place.file_name().unwrap().to_str().unwrap()));
    assert_eq!(std::fs::read_to_string(place.join("result.txt"))?, "did it");
    let log = std::fs::read_to_string(only(&place.join("logs")).join("agent.log"))?;
    assert!(log.contains("what it said"), "{log}");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_archived_is_kept_and_says_why_until_it_can_or_need_not() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("archive");
    // In place of the directory there is a file: nothing can be written.
    std::fs::write(&root, "in the way")?;
    let cluster = cluster(ArchivePolicy { files: Files::Under(root.clone()), own_identity: false }).await?;
    let url = format!("file://{}", root.display());
    cluster
        .apply(&config(&format!("{{archive: {{url: '{url}'}}, taskLifecycle: {{ttlSecondsAfterFinished: 1}}}}")))
        .await?;
    cluster.apply(&(task("kept", "{prompt: hi}") + &task("skipped", "{prompt: hi}"))).await?;
    for name in ["kept", "skipped"] {
        let failed = |task: &Task| {
            task.status.is_some() && reason(task, conditions::ARCHIVED, "False") == Some(reasons::ARCHIVE_FAILED)
        };
        let waits = cluster.wait_for_task(name, "not archived", failed).await?;
        let condition = conditions::find(&status(&waits).conditions, conditions::ARCHIVED).unwrap();
        assert!(condition.message.contains("kept until it is"), "{}", condition.message);
        assert_eq!(waits.phase(), TaskPhase::Completed);
    }
    // Long after its time.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    cluster.task("kept").await?;
    let skip = json!({"metadata": {"annotations": {"kubetask.io/skip-archive": "true"}}});
    cluster.patch::<Task>("skipped", skip).await?;
    gone(&cluster, "skipped").await?;
    std::fs::remove_file(&root)?;
    gone(&cluster, "kept").await?;
    assert!(only(&root.join("default/kept")).join("task.json").exists());
    assert!(!root.join("default/skipped").exists());
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn archives_in_s3_are_signed_and_tried_again() -> anyhow::Result<()> {
    let stub = Stub::start(|n, _| if n < 3 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }).await?;
    let cluster = cluster(ArchivePolicy { files: Files::Nowhere, own_identity: false }).await?;
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: s3}}, stringData: {{AWS_ACCESS_KEY_ID: id, \
         AWS_SECRET_ACCESS_KEY: key, AWS_REGION: eu-central-1, AWS_ENDPOINT: 'http://{}', AWS_ALLOW_HTTP: 'true'}}}}",
        stub.address
    );
    cluster.apply(&secret).await?;
    cluster.apply(&config("{archive: {url: 's3://bucket/tasks', secretRef: {name: s3}}}")).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let archived = |task: &Task| task.status.is_some() && reason(task, conditions::ARCHIVED, "True").is_some();
    let done = cluster.wait_for_task("t", "archived", archived).await?;
    let uid = done.uid().unwrap();
    let puts: Vec<_> = stub.asked().into_iter().skip(3).filter(|asked| asked.method == "PUT").collect();
    let last = puts.last().unwrap();
    assert_eq!(last.uri.path(), format!("/bucket/tasks/default/t/{uid}/task.json"), "the Task comes last");
    assert!(puts.iter().any(|put| put.uri.path().ends_with("/agent.log")));
    for put in &puts {
        let signed = put.header("authorization");
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=id/"), "{signed}");
    }
    // Written once, told once.
    let writes = cluster.requests().count("patch", "tasks/status");
    assert!(writes <= 5, "{writes}");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_newest_finished_tasks_are_kept() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().on(|spec| {
        let task = &spec.env.iter().find(|(name, _)| name == "TASK_NAME")?.1;
        Some(Script::exits(i32::from(task.starts_with('f'))))
    });
    for name in ["c1", "f1", "c2", "c3"] {
        cluster.apply(&task(name, "{prompt: hi}")).await?;
        cluster.wait_for_task(name, "finished", |task| task.phase().is_finished()).await?;
        // Times are told in whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    // Tasks that are there count, and those that come.
    cluster.apply(&config("{taskLifecycle: {keepLast: {completed: 2}}}")).await?;
    gone(&cluster, "c1").await?;
    cluster.apply(&task("c4", "{prompt: hi}")).await?;
    gone(&cluster, "c2").await?;
    let names = || async {
        let all = cluster.api::<Task>().list(&ListParams::default()).await?;
        anyhow::Ok(all.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
    };
    assert_eq!(names().await?, ["c3", "c4", "f1"]);
    cluster.apply(&config("{taskLifecycle: {keepLast: {completed: 2, failed: 0}}}")).await?;
    gone(&cluster, "f1").await?;
    assert_eq!(names().await?, ["c3", "c4"]);
    cluster.shutdown().await;
    Ok(())
}
