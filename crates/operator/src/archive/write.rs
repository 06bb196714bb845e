//! What is written of a Task: `<prefix>/<namespace>/<name>/<uid>/` with its logs, its result, and last of all the Task.
//!
//! The Task comes last: where `task.json` is, everything is. Names are fixed, so that doing it twice is harmless.

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt};
use kubetask_api::Task;
use kubetask_core::task::CHANGES_CONTAINER;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;

use super::Trouble;
use super::target::Target;

/// How much of a log is held in memory.
const PIECE: usize = 64 * 1024;
/// Logs greater than this are written in parts.
const PART: usize = 5 * 1024 * 1024;

/// Writes the Task; answers where.
///
/// # Errors
/// When something was not written.
pub(super) async fn write(client: &Client, task: &Task, target: &Target) -> Result<String, Trouble> {
    let (namespace, name) = (task.namespace().unwrap_or_default(), task.name_any());
    let uid = task.uid().unwrap_or_default();
    let at = |rest: &[&str]| {
        let parts = [namespace.as_str(), &name, &uid].into_iter().chain(rest.iter().copied());
        parts.fold(target.prefix.clone(), |path, part| path.join(part))
    };
    if let Some(job) = task.status.as_ref().and_then(|status| status.job_name.as_deref()) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        for pod in pods.list(&of_job).await.map_err(Trouble::Api)?.items {
            for container in started(&pod) {
                // A patch with times in it is none.
                let patch = container == CHANGES_CONTAINER;
                let path =
                    at(&["logs", &pod.name_any(), &format!("{container}.{}", if patch { "patch" } else { "log" })]);
                let params = LogParams { container: Some(container), timestamps: !patch, ..LogParams::default() };
                log(&pods, &pod.name_any(), &params, target, path).await?;
            }
        }
    }
    if let Some(result) = task.status.as_ref().and_then(|status| status.result.clone()) {
        put(target, &at(&["result.txt"]), result.into_bytes()).await?;
    }
    let mut whole = task.clone();
    whole.metadata.managed_fields = None;
    let text = serde_json::to_vec_pretty(&whole).map_err(|error| Trouble::Said(error.to_string()))?;
    put(target, &at(&["task.json"]), text).await?;
    Ok(at(&[]).to_string())
}

/// The containers that have started, and so may have a log.
fn started(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
    all.filter(|container| container.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some()))
        .map(|container| container.name.clone())
        .collect()
}

async fn log(pods: &Api<Pod>, pod: &str, params: &LogParams, target: &Target, path: Path) -> Result<(), Trouble> {
    let mut lines = match pods.log_stream(pod, params).await {
        Ok(lines) => Box::pin(lines),
        // The Pod went, or its container never had a log: there is none to keep.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => return Ok(()),
        Err(error) => return Err(Trouble::Api(error)),
    };
    let mut writer = BufWriter::with_capacity(target.store.clone(), path, PART);
    let mut piece = vec![0; PIECE];
    let said = |error: std::io::Error| Trouble::Said(crate::causes::chain(&error));
    loop {
        let read = lines.read(&mut piece).await.map_err(said)?;
        match piece.get(..read) {
            Some(read) if !read.is_empty() => writer.write_all(read).await.map_err(said)?,
            _ => break,
        }
    }
    writer.shutdown().await.map_err(said)
}

async fn put(target: &Target, path: &Path, content: Vec<u8>) -> Result<(), Trouble> {
    let put = target.store.put(path, PutPayload::from(content)).await;
    put.map(|_| ()).map_err(|error| Trouble::Said(crate::causes::chain(&error)))
}
