//! How fast the operator turns Tasks into Jobs, and what a Task costs it: `cargo bench -p kubetask --bench operator`.
//!
//! API server and operator share this process but not a runtime: the operator talks TLS over loopback like in a
//! cluster, and its CPU time is that of its own threads. No node and no job controller run: only the operator works.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on must stop")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use kubetask_api::Task;
use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_operator::OperatorConfig;
use serde_json::json;

const TASKS: usize = 3000;
const OPERATOR: &str = "operator";

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let server_runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name("server").enable_all().build().unwrap();
    let operator_runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name(OPERATOR).enable_all().build().unwrap();
    let (_server, local, remote) = server_runtime.block_on(serve(dir.path()));
    server_runtime.block_on(create_tasks(&local));

    let client = operator_runtime.block_on(async { Client::try_from(remote) }).unwrap();
    let started = Instant::now();
    let before = cpu_time(OPERATOR);
    let operator = {
        let _runtime = operator_runtime.enter();
        kubetask_operator::start(client, OperatorConfig::default())
    };
    server_runtime.block_on(wait_for_jobs(&local));
    let time = started.elapsed();
    // The last status patches belong to the work too.
    std::thread::sleep(Duration::from_millis(300));
    let cpu = cpu_time(OPERATOR) - before;
    operator_runtime.block_on(operator.shutdown());
    let rate = TASKS as f64 / time.as_secs_f64();
    println!("{:<45} {rate:>8.0} /s    (≥ 500 /s)", "Tasks to Jobs, each with a ConfigMap");
    let each = cpu.as_secs_f64() * 1000.0 / TASKS as f64;
    println!("{:<45} {each:>8.2} ms    (≤ 0.5 ms)", "operator CPU per Task");
}

async fn serve(dir: &std::path::Path) -> (Server, Client, kube::Config) {
    const TOKEN: &str = "a-token-for-the-benchmark-and-nothing-else";
    let store = kubetask_store::Store::open(dir.join("store"), kubetask_store::Options::default()).unwrap();
    let pki = Arc::new(Pki::load_or_create(&dir.join("pki"), &[]).unwrap());
    let auth = AuthConfig { tokens: vec![(TOKEN.to_owned(), User::admin("operator"))], service_account_key: None };
    let api = ApiServer::new(Config { auth, ..Config::new(store) }).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(api.clone(), pki.clone(), listener, ServeOptions::default()).unwrap();
    let local = Client::new(api.service_as(User::admin("bench"), "bench"), "default");
    let controllers = kubetask_controllers::start(local.clone(), kubetask_controllers::Options::default());
    let definitions: Api<CustomResourceDefinition> = Api::all(local.clone());
    for crd in kubetask_api::crds() {
        definitions.create(&PostParams::default(), &crd).await.unwrap();
        let established = kube::runtime::wait::conditions::is_crd_established();
        kube::runtime::wait::await_condition(definitions.clone(), &crd.name_any(), established).await.unwrap();
    }
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(local.clone());
    while namespaces.get_opt("default").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    controllers.shutdown().await;
    let mut remote = kube::Config::new(format!("https://{}", server.address()).parse().unwrap());
    let ca = pem(pki.ca_pem());
    remote.root_cert = Some(vec![ca]);
    remote.auth_info.token = Some(TOKEN.to_owned().into());
    (server, local, remote)
}

/// The DER bytes of the one certificate in a PEM text.
fn pem(text: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
}

async fn create_tasks(client: &Client) {
    let agents: Api<kubetask_api::Agent> = Api::default_namespaced(client.clone());
    let agent = json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
        "spec": {"serviceAccountName": "default", "command": ["true"]},
    });
    agents.patch("a", &PatchParams::apply("bench"), &Patch::Apply(agent)).await.unwrap();
    let tasks: Api<Task> = Api::default_namespaced(client.clone());
    for i in 0..TASKS {
        let task =
            json!({"metadata": {"name": format!("t-{i}")}, "spec": {"agentRef": "a", "prompt": "x".repeat(500)}});
        tasks.create(&PostParams::default(), &serde_json::from_value(task).unwrap()).await.unwrap();
    }
}

async fn wait_for_jobs(client: &Client) {
    let jobs: Api<Job> = Api::default_namespaced(client.clone());
    let started = Instant::now();
    loop {
        let list = jobs.list_metadata(&ListParams::default().limit(1)).await.unwrap();
        let there = list.items.len() + usize::try_from(list.metadata.remaining_item_count.unwrap_or(0)).unwrap();
        if there == TASKS {
            return;
        }
        if started.elapsed() > Duration::from_secs(120) {
            panic!("{there} of {TASKS} Jobs after two minutes");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// CPU time of this process's threads of that name.
fn cpu_time(name: &str) -> Duration {
    let mut ticks = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        if head.split_once('(').is_some_and(|(_, thread_name)| thread_name == name) {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            // utime and stime, fields 14 and 15 of proc(5), in hundredths of a second.
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    Duration::from_millis(ticks * 10)
}
