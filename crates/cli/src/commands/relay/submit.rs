//! Makes the Job on the other cluster, and waits until its agent starts.
//!
//! The Job is made suspended, then what it refers to, which belongs to it, then it is let go: nothing of it can be left
//! behind without it, and its Pod never misses what is still on its way.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, future};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use kubetask_api::labels::FIELD_MANAGER;
use kubetask_core::cluster::{OWNER, Spec};
use serde_json::json;

use super::{Pauses, Trouble, connect, copies, words};
use crate::error::{CommandError, CommandResult, chain};

/// Annotation of a Job that is suspended because not everything is there yet.
const PREPARING: &str = "kubetask.io/preparing";

/// Runs until the agent starts, or has ended.
pub(super) async fn run(spec: &Spec) -> CommandResult<String> {
    let mut pauses = Pauses::default();
    let mut said = String::new();
    loop {
        match attempt(spec).await {
            Ok(()) => return Ok(String::new()),
            Err(Trouble::Refused(why)) => return Err(CommandError::failure(why)),
            Err(Trouble::Later(why)) => {
                if why != said {
                    println!("the cluster of {}: {why}; trying again", spec.cluster);
                    said = why;
                }
                pauses.pause().await;
            }
        }
    }
}

async fn attempt(spec: &Spec) -> Result<(), Trouble> {
    let client = connect(spec).await?;
    let job = make(&client, spec).await?;
    if job.annotations().contains_key(PREPARING) {
        copies::make(&client, spec, &job).await?;
        release(&client, spec, &job).await?;
    }
    until_started(&client, &job).await
}

/// The Job, made now or before.
async fn make(client: &Client, spec: &Spec) -> Result<Job, Trouble> {
    let namespace = spec.job.namespace().unwrap_or_default();
    let name = spec.job.name_any();
    let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
    if let Some(known) = api.get_opt(&name).await? {
        return if known.annotations().get(OWNER) == Some(&spec.uid) {
            Ok(known)
        } else {
            Err(Trouble::Refused(format!("a Job named {name} is there already and belongs to somebody else")))
        };
    }
    let mut job = spec.job.clone();
    job.annotations_mut().insert(PREPARING.to_owned(), "true".to_owned());
    if let Some(spec) = &mut job.spec {
        spec.suspend = Some(true);
    }
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let made = api.create(&params, &job).await?;
    println!("made Job {name} in namespace {namespace} on the cluster of {}", spec.cluster);
    Ok(made)
}

/// Everything is there: the Job may start, unless a queue is to decide that.
async fn release(client: &Client, spec: &Spec, job: &Job) -> Result<(), Trouble> {
    let api: Api<Job> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    let suspend = spec.job.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false);
    let patch = json!({
        "metadata": {"uid": job.uid(), "annotations": {PREPARING: null}},
        "spec": {"suspend": suspend},
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&job.name_any(), &params, &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Says what the Pods wait for; returns once an agent started, or the Job ended or is gone.
async fn until_started(client: &Client, job: &Job) -> Result<(), Trouble> {
    let namespace = job.namespace().unwrap_or_default();
    let name = job.name_any();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let of_job = watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let mut pods = watcher::watcher(pods, of_job).applied_objects().boxed();
    let mut job = watcher::watcher(jobs, watcher::Config::default().fields(&format!("metadata.name={name}"))).boxed();
    let mut said = BTreeMap::new();
    let again = |error: watcher::Error| Trouble::Later(chain(&error));
    loop {
        match future::select(pods.try_next(), job.try_next()).await {
            future::Either::Left((pod, _)) => {
                let Some(pod) = pod.map_err(again)? else { return Err(Trouble::Later("the watch ended".to_owned())) };
                if words::agent_started(&pod) {
                    return Ok(());
                }
                let waits = words::waits(&pod);
                if said.insert(pod.name_any(), waits.clone()).as_ref() != Some(&waits) {
                    println!("{waits}");
                }
            }
            future::Either::Right((event, _)) => match event.map_err(again)? {
                Some(watcher::Event::InitApply(job) | watcher::Event::Apply(job)) if has_ended(&job) => return Ok(()),
                Some(watcher::Event::Delete(_)) => return Ok(()),
                Some(_) => {}
                None => return Err(Trouble::Later("the watch ended".to_owned())),
            },
        }
    }
}

fn has_ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
}
