//! End-to-end figures of the binary: `cargo bench -p kubetask --bench e2e`.
//!
//! Everything runs against real processes of the release binary. `KUBETASK_BENCH=up,run` picks some of: up, rss, run,
//! submit, creates, gets, list. Method and figures: `docs/benchmarks.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on must stop")]

mod harness;

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Api, PostParams};
use kube::runtime::watcher;
use kubetask_api::Task;
use serde_json::json;

use harness::{Server, Start, command, load, report};

const OBJECTS: usize = 28_000;

fn main() {
    let wanted = std::env::var("KUBETASK_BENCH").unwrap_or_else(|_| "up,rss,run,submit,creates,gets,list".to_owned());
    let wants = |name: &str| wanted.split(',').any(|w| w == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if wants("up") {
        let starts: Vec<Start> = (0..15).map(|_| Server::start(&tempfile::tempdir().unwrap()).1).collect();
        let mut times: Vec<f64> = starts.iter().map(|start| start.ready.as_secs_f64()).collect();
        report("up: exec to /readyz, empty store", &mut times, "≤ 100 ms");
        let mut times: Vec<f64> = starts.iter().map(|start| start.serving.as_secs_f64()).collect();
        report("up: exec to KubeTask's kinds served, operator on", &mut times, "no budget");
    }
    let dir = tempfile::tempdir().unwrap();
    if wants("run") {
        warm(&dir);
        let mut times: Vec<f64> = (0..20)
            .map(|_| {
                let started = Instant::now();
                assert!(command(&dir, &["run", "-q", "--", "true"]).status().unwrap().success());
                started.elapsed().as_secs_f64()
            })
            .collect();
        report("run -- true, no server running", &mut times, "≤ 150 ms");
    }
    let (server, _) = Server::start(&dir);
    if wants("rss") {
        std::thread::sleep(Duration::from_secs(3));
        println!("{:<45} {:>8.1} MiB   (≤ 40 MiB)", "up: resident memory, idle", server.rss_mib());
    }
    if wants("submit") {
        let mut times = runtime.block_on(submit(&server));
        report("submit to the agent's first instruction", &mut times, "p50 ≤ 30 ms");
    }
    if wants("creates") || wants("gets") || wants("list") {
        let (rate, _) = runtime.block_on(load(&server, OBJECTS, create));
        println!("{:<45} {rate:>8.0} /s    (≥ 8000 /s)", "ConfigMap creates of 1 KiB, durable, TLS, 32 conn");
    }
    if wants("gets") {
        let (rate, _) = runtime.block_on(load(&server, 60_000, get));
        println!("{:<45} {rate:>8.0} /s    (≥ 20000 /s)", "ConfigMap GETs of 1 KiB, TLS, 32 connections");
    }
    if wants("list") {
        let mut times: Vec<f64> = (0..10)
            .map(|_| {
                let (_, time) = runtime.block_on(load(&server, 1, list));
                time.as_secs_f64()
            })
            .collect();
        report("list of 28,000 such objects", &mut times, "≤ 200 ms");
        println!("{:<45} {:>8.1} MiB", "up: resident memory with them", server.rss_mib());
    }
}

fn warm(dir: &tempfile::TempDir) {
    for _ in 0..2 {
        assert!(command(dir, &["run", "-q", "--", "true"]).status().unwrap().success());
    }
}

async fn client(server: &Server) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(&server.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// From sending the Task to the time that the agent's first instruction prints, one Task after the other.
async fn submit(server: &Server) -> Vec<f64> {
    let client = client(server).await;
    let agents: Api<kubetask_api::Agent> = Api::default_namespaced(client.clone());
    let agent = json!({"metadata": {"name": "clock"}, "spec": {"serviceAccountName": "default",
        "command": ["date", "+%s.%N"]}});
    agents.create(&PostParams::default(), &serde_json::from_value(agent).unwrap()).await.unwrap();
    let tasks: Api<Task> = Api::default_namespaced(client.clone());
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(client);
    let mut times = Vec::new();
    for i in 0..40 {
        let name = format!("clock-{i}");
        let task = json!({"metadata": {"name": name}, "spec": {"agentRef": "clock", "prompt": "what time is it?"}});
        let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        tasks.create(&PostParams::default(), &serde_json::from_value(task).unwrap()).await.unwrap();
        let mut changes = std::pin::pin!(watcher::watch_object(tasks.clone(), &name));
        let end = loop {
            if let Some(task) = changes.next().await.unwrap().unwrap()
                && task.phase().is_finished()
            {
                break task;
            }
        };
        let log = pods.logs(&end.status.unwrap().pod_name.unwrap(), &Default::default()).await.unwrap();
        times.push(log.trim().parse::<f64>().unwrap() - sent);
    }
    times.drain(..5);
    times
}

fn create(i: usize) -> (&'static str, String, Option<String>, u16) {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{i}")},
        "data": {"key": "x".repeat(1024)}});
    ("POST", "/api/v1/namespaces/default/configmaps".to_owned(), Some(body.to_string()), 201)
}

fn get(i: usize) -> (&'static str, String, Option<String>, u16) {
    ("GET", format!("/api/v1/namespaces/default/configmaps/cm-{}", i * 7919 % OBJECTS), None, 200)
}

fn list(_: usize) -> (&'static str, String, Option<String>, u16) {
    ("GET", "/api/v1/namespaces/default/configmaps".to_owned(), None, 200)
}
