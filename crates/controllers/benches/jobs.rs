//! How quickly Jobs get their Pods, on a durable store, in-process: the time from creating one Job to its Pod being seen
//! by a watch, and how many Jobs a second get theirs when many are created at once.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Client, ResourceExt};
use kubetask_apiserver::{ApiServer, Config, User};
use kubetask_store::Store;
use serde_json::json;

const ONE_BY_ONE: usize = 200;
const AT_ONCE: usize = 3000;

fn job(name: &str) -> Job {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "template": { "spec": {
            "containers": [{ "name": "main", "image": "i", "command": ["sh", "-c", "true"] }],
            "restartPolicy": "Never", "automountServiceAccountToken": false,
        } } },
    }))
    .unwrap()
}

#[tokio::main]
async fn main() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store"), kubetask_store::Options::default()).unwrap();
    let server = ApiServer::new(Config::new(store)).unwrap();
    let client = |name: &str| Client::new(server.service_as(User::admin(name), name), "default");
    let controllers = kubetask_controllers::start(client("kube-controller-manager"), Default::default());
    let client = client("bench");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    while accounts.get_opt("default").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let events = pods.watch(&WatchParams::default(), "0").await.unwrap();
    pin_mut!(events);

    let mut latencies = Vec::new();
    for n in 0..ONE_BY_ONE {
        jobs.create(&PostParams::default(), &job(&format!("one-{n}"))).await.unwrap();
        let created = Instant::now();
        while !matches!(events.next().await, Some(Ok(WatchEvent::Added(pod))) if pod.name_any().starts_with(&format!("one-{n}-")))
        {
        }
        latencies.push(created.elapsed());
    }
    latencies.sort();
    println!(
        "job created -> pod seen: p50 {:?}, p99 {:?}",
        latencies[ONE_BY_ONE / 2],
        latencies[ONE_BY_ONE * 99 / 100]
    );

    let started = Instant::now();
    let creating = tokio::spawn(async move {
        let all = futures::stream::iter(0..AT_ONCE);
        all.for_each_concurrent(32, |n| {
            let jobs = jobs.clone();
            async move { drop(jobs.create(&PostParams::default(), &job(&format!("many-{n}"))).await.unwrap()) }
        })
        .await;
        started.elapsed()
    });
    let mut seen = 0;
    while seen < AT_ONCE {
        if let Some(Ok(WatchEvent::Added(pod))) = events.next().await {
            seen += usize::from(pod.name_any().starts_with("many-"));
        }
    }
    let took = started.elapsed();
    let rate = AT_ONCE as f64 / took.as_secs_f64();
    println!(
        "{AT_ONCE} jobs at once: created in {:?}, all pods in {took:?} ({rate:.0} jobs/s)",
        creating.await.unwrap()
    );
    controllers.shutdown().await;
}
