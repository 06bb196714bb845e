//! Jobs, from the manifest to the status.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{Cluster, create};

fn job(name: &str, script: &str, spec: Value) -> Value {
    let mut full = json!({
        "template": {
            "metadata": { "annotations": { "test/script": script } },
            "spec": {
                "containers": [{ "name": "main", "image": "i", "command": ["x"] }],
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            },
        },
    });
    if let (Value::Object(full), Value::Object(spec)) = (&mut full, spec) {
        full.extend(spec);
    }
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": full })
}

impl Cluster {
    async fn run(&self, script: &str, spec: Value) -> Result<Api<Job>> {
        let jobs = self.api();
        create(&jobs, job("j", script, spec)).await?;
        Ok(jobs)
    }

    /// The status once the condition is true, as far as it is always the same.
    async fn finished(&self, condition: &str) -> Result<Value> {
        let jobs = self.api::<Job>();
        let look = async |_: &Cluster| {
            let status = jobs.get("j").await?.status.unwrap_or_default();
            let found = status.conditions.iter().flatten().any(|c| c.type_ == condition && c.status == "True");
            Ok(found.then_some(status))
        };
        let mut status = serde_json::to_value(self.until(condition, look).await?)?;
        for time in ["startTime", "completionTime"] {
            if let Some(time) = status.get_mut(time) {
                *time = json!("<time>");
            }
        }
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            *condition = json!(format!("{}={} {}", text("type"), text("status"), text("reason")));
        }
        Ok(status)
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(self.api::<Pod>().list(&ListParams::default().labels("batch.kubernetes.io/job-name=j")).await?.items)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn succeeds() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("exit 0", json!({})).await?;
    assert_eq!(
        cluster.finished("Complete").await?,
        json!({
            "startTime": "<time>", "completionTime": "<time>", "succeeded": 1, "ready": 0, "terminating": 0,
            "uncountedTerminatedPods": {},
            "conditions": ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"],
        })
    );
    let pods = cluster.pods().await?;
    assert_eq!(pods.len(), 1);
    assert_eq!((pods[0].finalizers(), pods[0].metadata.generate_name.as_deref()), (&[] as &[String], Some("j-")));

    let events = async |c: &Cluster| {
        let mut events: Vec<_> = c.api::<Event>().list(&ListParams::default()).await?.items;
        events.retain(|e| e.involved_object.kind.as_deref() == Some("Job"));
        events.sort_by_key(|e| e.metadata.name.clone());
        let texts: Vec<_> = events
            .iter()
            .map(|e| format!("{} {}", e.reason.clone().unwrap_or_default(), e.message.clone().unwrap_or_default()))
            .collect();
        Ok((texts.len() == 2).then_some(texts))
    };
    let events = cluster.until("the events", events).await?;
    assert_eq!(
        events,
        [format!("SuccessfulCreate Created pod: {}", pods[0].name_any()), "Completed Job completed".to_owned()]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fails() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("exit 4", json!({ "backoffLimit": 0 })).await?;
    assert_eq!(
        cluster.finished("Failed").await?,
        json!({
            "startTime": "<time>", "failed": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
            "conditions": ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"],
        })
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_deadline() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("run", json!({ "activeDeadlineSeconds": 1 })).await?;
    let status = cluster.finished("Failed").await?;
    assert_eq!(status["conditions"], json!(["FailureTarget=True DeadlineExceeded", "Failed=True DeadlineExceeded"]));
    assert_eq!(status["failed"], 1);
    cluster.until("the pods to go", async |c| Ok(c.pods().await?.is_empty().then_some(()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_and_resumed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let jobs = cluster.run("exit 0", json!({ "suspend": true })).await?;
    let status = cluster.finished("Suspended").await?;
    assert_eq!((status["startTime"].clone(), cluster.pods().await?.len()), (Value::Null, 0));
    jobs.patch("j", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "suspend": false } }))).await?;
    assert_eq!(
        cluster.finished("Complete").await?["conditions"],
        json!([
            "Suspended=False JobResumed",
            "SuccessCriteriaMet=True CompletionsReached",
            "Complete=True CompletionsReached"
        ])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexed() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("exit 0", json!({ "completionMode": "Indexed", "completions": 3, "parallelism": 3 })).await?;
    let status = cluster.finished("Complete").await?;
    assert_eq!((status["completedIndexes"].clone(), status["succeeded"].clone()), (json!("0-2"), json!(3)));
    let index = "batch.kubernetes.io/job-completion-index";
    let mut indexes: Vec<_> =
        cluster.pods().await?.iter().map(|p| (p.labels()[index].clone(), p.annotations()[index].clone())).collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2"].map(|i| (i.to_owned(), i.to_owned())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_is_replaced() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("run", json!({})).await?;
    let running = async |c: &Cluster| {
        let pods = c.pods().await?;
        let is_running = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        Ok(pods.into_iter().find(|p| is_running(p) && p.metadata.deletion_timestamp.is_none()))
    };
    let first = cluster.until("a pod", running).await?;
    cluster.api::<Pod>().delete(&first.name_any(), &DeleteParams::default()).await?;
    let second = async |c: &Cluster| Ok(running(c).await?.filter(|p| p.uid() != first.uid()));
    cluster.until("another pod", second).await?;
    let counted = async |c: &Cluster| {
        let status = c.api::<Job>().get("j").await?.status.unwrap_or_default();
        Ok((status.failed == Some(1) && status.ready == Some(1)).then_some(()))
    };
    cluster.until("the count", counted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_with_their_job_or_stay() -> Result<()> {
    let running = async |c: &Cluster| {
        Ok(c.pods().await?.into_iter().find(|p| p.status.iter().any(|s| s.phase.as_deref() == Some("Running"))))
    };
    for policy in [DeleteParams::background(), DeleteParams::foreground()] {
        let cluster = Cluster::start().await?;
        let jobs = cluster.run("run", json!({})).await?;
        cluster.until("a pod", running).await?;
        jobs.delete("j", &policy).await?;
        cluster.until_gone(&jobs, "j").await?;
        cluster.until("the pods to go", async |c| Ok(c.pods().await?.is_empty().then_some(()))).await?;
    }
    let cluster = Cluster::start().await?;
    let jobs = cluster.run("run", json!({})).await?;
    cluster.until("a pod", running).await?;
    jobs.delete("j", &DeleteParams::orphan()).await?;
    cluster.until_gone(&jobs, "j").await?;
    let free = async |c: &Cluster| Ok(c.pods().await?.into_iter().find(|p| p.finalizers().is_empty()));
    let pod = cluster.until("the pod to be let go", free).await?;
    assert_eq!((pod.owner_references().len(), pod.metadata.deletion_timestamp), (0, None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_goes_when_its_time_has_passed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let jobs = cluster.run("exit 0", json!({ "ttlSecondsAfterFinished": 1 })).await?;
    cluster.until_gone(&jobs, "j").await?;
    cluster.until("the pods to go", async |c| Ok(c.pods().await?.is_empty().then_some(()))).await
}

/// Not a benchmark, but a Job must not wait for anything but the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_jobs_at_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let jobs = cluster.api::<Job>();
    let started = Instant::now();
    let all = (0..100).map(|n| create(&jobs, job(&format!("j{n}"), "exit 0", json!({}))));
    futures::future::try_join_all(all).await?;
    let complete = async |_: &Cluster| {
        let list = jobs.list(&ListParams::default()).await?.items;
        let done = |j: &Job| j.status.as_ref().and_then(|s| s.completion_time.as_ref()).is_some();
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok((list.iter().filter(|j| done(j)).count() == 100).then_some(()))
    };
    cluster.until("all of them", complete).await?;
    println!("100 jobs from creation to completion: {:?}", started.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_pods_that_nobody_controls_and_it_selects() -> Result<()> {
    let cluster = Cluster::start().await?;
    let pods = cluster.api::<Pod>();
    let labels = json!({ "app": "a" });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "lost", "labels": labels, "annotations": { "test/script": "run" } },
        "spec": { "containers": [{ "name": "main", "image": "i" }], "restartPolicy": "Never" },
    });
    create(&pods, pod).await?;
    // The controller must know of it first: it counts what it sees.
    cluster
        .until("the pod to run", async |_| {
            let running = pods.get("lost").await?.status.is_some_and(|s| s.phase.as_deref() == Some("Running"));
            Ok(running.then_some(()))
        })
        .await?;
    let mut body = job("j", "run", json!({ "manualSelector": true, "selector": { "matchLabels": labels } }));
    body["spec"]["template"]["metadata"]["labels"] = labels.clone();
    let made = create(&cluster.api::<Job>(), body).await?;
    let owned = cluster
        .until("the job to take the pod", async |_| {
            let pod = pods.get("lost").await?;
            Ok((!pod.owner_references().is_empty()).then_some(pod))
        })
        .await?;
    let owner = &owned.owner_references()[0];
    assert_eq!((Some(&owner.uid), owner.controller), (made.metadata.uid.as_ref(), Some(true)));
    assert_eq!(owned.finalizers(), ["batch.kubernetes.io/job-tracking"]);
    let active = async |c: &Cluster| {
        let status = c.api::<Job>().get("j").await?.status.unwrap_or_default();
        Ok((status.active == Some(1)).then_some(()))
    };
    cluster.until("one active pod", active).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_go_what_it_does_not_select_any_more() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.run("run", json!({})).await?;
    let first = cluster.until("a pod", async |c| Ok(c.pods().await?.into_iter().next())).await?;
    let pods = cluster.api::<Pod>();
    let uid = "batch.kubernetes.io/controller-uid";
    let relabel = json!({ "metadata": { "labels": { uid: "somebody-else" } } });
    pods.patch(&first.name_any(), &PatchParams::default(), &Patch::Merge(relabel)).await?;
    let free = async |_: &Cluster| {
        let pod = pods.get(&first.name_any()).await?;
        Ok((pod.owner_references().is_empty() && pod.finalizers().is_empty()).then_some(pod))
    };
    let free = cluster.until("the pod to be let go", free).await?;
    assert_eq!(free.metadata.deletion_timestamp, None);
    // Another one does its work, and it counts nowhere.
    let replaced = async |c: &Cluster| {
        let status = c.api::<Job>().get("j").await?.status.unwrap_or_default();
        let others = c.pods().await?.iter().filter(|p| p.uid() != first.uid()).count();
        Ok((others == 1 && status.active == Some(1) && status.failed.is_none()).then_some(()))
    };
    cluster.until("another pod", replaced).await?;
    // And back again: one of the two is one too many.
    let job = cluster.api::<Job>().get("j").await?;
    let relabel = json!({ "metadata": { "labels": { uid: job.uid() } } });
    pods.patch(&first.name_any(), &PatchParams::default(), &Patch::Merge(relabel)).await?;
    let one = async |c: &Cluster| {
        let owned = c.pods().await?.into_iter().filter(|p| !p.owner_references().is_empty());
        let alive: Vec<Pod> = owned.filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
        let first = alive.iter().any(|p| p.uid() == first.uid());
        Ok((alive.len() == 1 && (first || pods.get_opt(&free.name_any()).await?.is_none())).then_some(()))
    };
    cluster.until("one pod again", one).await
}
