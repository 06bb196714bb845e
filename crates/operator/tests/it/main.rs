//! The operator against an embedded Kubernetes whose containers follow a script.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod agent;
mod archive;
mod batch;
mod budget;
mod crontask;
mod faults;
mod healing;
mod lag;
mod lifecycle;
mod names;
mod notify;
mod promptly;
mod queue;
mod restart;
mod retention;
mod rights;
mod stub;
mod unreadable;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use kubetask_api::{Task, TaskStatus};
use kubetask_testkit::{TestCluster, WAIT};

/// A Task's status.
fn status(task: &Task) -> &TaskStatus {
    task.status.as_ref().unwrap()
}

/// The reason of a condition that has this status.
fn reason<'a>(task: &'a Task, condition: &str, is: &str) -> Option<&'a str> {
    let found = kubetask_api::conditions::find(&status(task).conditions, condition)?;
    (found.status == is).then_some(found.reason.as_str())
}

/// A Task in YAML.
fn task(name: &str, spec: &str) -> String {
    format!("{{apiVersion: kubetask.io/v1alpha1, kind: Task, metadata: {{name: {name}}}, spec: {spec}}}\n---\n")
}

/// An Agent in YAML, with the service account that is always there.
fn agent(name: &str, spec: &str) -> String {
    let spec = spec.trim_start_matches('{');
    format!(
        "{{apiVersion: kubetask.io/v1alpha1, kind: Agent, metadata: {{name: {name}}}, spec: {{serviceAccountName: default, {spec}}}\n---\n"
    )
}

/// The names of all Jobs.
async fn jobs(cluster: &TestCluster) -> anyhow::Result<Vec<String>> {
    let list = cluster.api::<Job>().list(&ListParams::default()).await?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

/// The names of all Pods.
async fn pods(cluster: &TestCluster) -> anyhow::Result<Vec<String>> {
    let list = cluster.api::<Pod>().list(&ListParams::default()).await?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

/// The reasons of the events about a Task, sorted, once this one is among them. They are written beside the work.
async fn events(cluster: &TestCluster, task: &str, until: &str) -> anyhow::Result<Vec<String>> {
    let selector = format!("involvedObject.kind=Task,involvedObject.name={task}");
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let list = cluster.api::<Event>().list(&ListParams::default().fields(&selector)).await?;
        let mut reasons: Vec<String> = list.items.into_iter().filter_map(|event| event.reason).collect();
        reasons.sort_unstable();
        if reasons.iter().any(|reason| reason == until) {
            return Ok(reasons);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "no event {until} about {task}, but {reasons:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
