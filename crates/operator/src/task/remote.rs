//! Jobs on other clusters: what a plan asks for is done there, not here.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kubetask_api::{Task, labels};
use kubetask_core::cluster::{FINALIZER, OWNER, Recorded};
use serde_json::json;

use super::act::Acted;
use super::reconcile::{Context, Error};
use crate::FIELD_MANAGER;
use crate::clusters::ClusterError;

/// Notes on the Task where its Job is going to be, and that it must not go without it.
pub(super) async fn hold(context: &Context, namespace: &str, task: &Task, record: &str) -> Result<Acted, Error> {
    let mut finalizers = task.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {
        "uid": task.metadata.uid,
        "resourceVersion": task.metadata.resource_version,
        "finalizers": finalizers,
        "annotations": {labels::CLUSTER: record},
    }});
    write(context, namespace, task, &patch, "note the cluster of Task").await
}

/// Deletes the Job there, then lets the Task go.
pub(super) async fn release(
    context: &Context,
    namespace: &str,
    task: &Task,
    record: Option<&Recorded>,
) -> Result<Acted, Error> {
    if let Some(record) = record {
        match delete(context, namespace, task, record).await {
            // Nobody can delete what nobody can reach any more: with its kubeconfig gone, a namespace would never end.
            Err(Error::Cluster { source: ClusterError::Unknown(said), .. }) => {
                tracing::warn!(
                    job = record.job,
                    said,
                    "the Job on the other cluster stays: nobody knows the cluster any more"
                );
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
    let finalizers: Vec<&String> =
        task.metadata.finalizers.iter().flatten().filter(|name| *name != FINALIZER).collect();
    let patch = json!({"metadata": {
        "uid": task.metadata.uid,
        "resourceVersion": task.metadata.resource_version,
        "finalizers": finalizers,
    }});
    write(context, namespace, task, &patch, "let go of Task").await
}

/// Deletes the Task's Job there, if it is this Task's.
pub(super) async fn delete(context: &Context, namespace: &str, task: &Task, record: &Recorded) -> Result<(), Error> {
    let api = jobs(context, namespace, record).await?;
    let trouble = |source: kube::Error| Error::cluster(record, ClusterError::Unreachable(source.to_string()));
    let Some(job) = api.get_opt(&record.job).await.map_err(trouble)? else { return Ok(()) };
    if job.annotations().get(OWNER) != task.metadata.uid.as_ref() {
        return Ok(());
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::background()
    };
    match api.delete(&record.job, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(trouble(error)),
    }
}

/// Suspends or resumes the Job there.
pub(super) async fn suspend(context: &Context, namespace: &str, record: &Recorded, suspend: bool) -> Result<(), Error> {
    let api = jobs(context, namespace, record).await?;
    let patch = json!({"spec": {"suspend": suspend}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&record.job, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::cluster(record, ClusterError::Unreachable(error.to_string()))),
    }
}

async fn jobs(context: &Context, namespace: &str, record: &Recorded) -> Result<Api<Job>, Error> {
    let found = context.config.clusters.find(&context.client, namespace, &record.target).await;
    let cluster = found.map_err(|source| Error::cluster(record, source))?;
    Ok(Api::namespaced(cluster.client, &record.job_namespace))
}

async fn write(
    context: &Context,
    namespace: &str,
    task: &Task,
    patch: &serde_json::Value,
    step: &'static str,
) -> Result<Acted, Error> {
    let api: Api<Task> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let name = task.name_any();
    match api.patch(&name, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(Acted::Done),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Acted::Done),
        // A conflict too: the watch brings the newer one, and another look.
        Err(source) => Err(Error::act(step, &name, source)),
    }
}
