//! How fast the operator turns Tasks into Jobs, and what a Task costs it: `cargo bench -p kubetask --bench operator`.
//!
//! API server and operator share this process but not a runtime: the operator talks TLS over loopback like in a
//! cluster, and its CPU time is that of its own threads. No node and no job controller run: only the operator works.
//!
//! `KUBETASK_BENCH=scale` measures `kubetask controller` as a process of its own instead: its memory with 10,000 Tasks, how
//! long it takes to start with 100,000 finished ones (`KUBETASK_BENCH_FINISHED`), and what they cost while nothing happens.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on must stop")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use kubetask_api::{CronTask, Task};
use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_operator::OperatorConfig;
use serde_json::json;

const TASKS: usize = 3000;
const CRONS: usize = 10_000;
const DUE: usize = 1_000;
const OPERATOR: &str = "operator";

#[path = "harness/program.rs"]
mod program;
#[path = "operator/scale.rs"]
mod scale;

fn main() {
    if std::env::var("KUBETASK_BENCH").is_ok_and(|what| what == "scale") {
        return scale::run();
    }
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
    drop(operator_runtime);
    drop(server_runtime);
    crons();
}

/// Ten thousand CronTasks of which a thousand are due in the same minute.
fn crons() {
    let dir = tempfile::tempdir().unwrap();
    let runtime =
        |name: &str| tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build().unwrap();
    let (server_runtime, operator_runtime) = (runtime("server"), runtime(OPERATOR));
    let (_server, local, remote) = server_runtime.block_on(serve(dir.path()));
    server_runtime.block_on(create_crons(&local));
    let client = operator_runtime.block_on(async { Client::try_from(remote) }).unwrap();
    let clock = kubetask_operator::Clock::default();
    clock.set("2027-01-01T12:00:00Z".parse().unwrap());
    let config = OperatorConfig { clock: clock.clone(), ..OperatorConfig::default() };
    let operator = {
        let _runtime = operator_runtime.enter();
        kubetask_operator::start(client, config)
    };
    server_runtime.block_on(wait_for_promises(&local));
    // What the server has, the operator's watches still have to see.
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu_time(OPERATOR);
    std::thread::sleep(Duration::from_secs(10));
    let idle = (cpu_time(OPERATOR) - before).as_secs_f64() * 100.0;
    println!("{:<45} {idle:>8.2} ms/s  (≤ 5 ms/s)", "operator CPU, 10,000 CronTasks waiting");
    // The operator looks at the clock every five seconds: early enough for it to see the minute come.
    clock.set("2027-01-01T12:29:50Z".parse().unwrap());
    let due: jiff::Timestamp = "2027-01-01T12:30:00Z".parse().unwrap();
    let mut skews = server_runtime.block_on(watch_runs(&local, &clock, due));
    skews.sort_unstable();
    let at = |index: usize| skews[index].as_secs_f64();
    println!("{:<45} {:>8.2} s     (≤ 2 s)", "1,000 runs due at once: all created after", at(skews.len() - 1));
    println!("{:<45} {:>8.2} s     (≤ 1 s)", "how late a run is created, p99", at(skews.len() * 99 / 100 - 1));
    operator_runtime.block_on(operator.shutdown());
}

async fn create_crons(client: &Client) {
    let crons: Api<CronTask> = Api::default_namespaced(client.clone());
    let create = |i: usize| {
        let crons = crons.clone();
        async move {
            let schedule = if i.is_multiple_of(CRONS / DUE) { "30 12 * * *" } else { "0 3 1 6 *" };
            let cron = json!({"metadata": {"name": format!("c-{i}")}, "spec": {
                "schedule": schedule, "catchUp": "Skip", "taskTemplate": {"spec": {"prompt": "hi"}},
            }});
            crons.create(&PostParams::default(), &serde_json::from_value(cron).unwrap()).await.unwrap();
        }
    };
    futures::stream::iter(0..CRONS).map(create).buffer_unordered(32).collect::<Vec<()>>().await;
}

/// Waits until every CronTask says when it runs next.
async fn wait_for_promises(client: &Client) {
    let crons: Api<CronTask> = Api::default_namespaced(client.clone());
    let started = Instant::now();
    loop {
        let all = crons.list(&ListParams::default()).await.unwrap();
        let promised = |c: &&CronTask| c.status.as_ref().is_some_and(|s| s.next_schedule_time.is_some());
        if all.items.iter().filter(promised).count() == CRONS {
            return;
        }
        if started.elapsed() > Duration::from_secs(240) {
            panic!("not all CronTasks have been looked at after four minutes");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How late each run's Task was seen.
async fn watch_runs(client: &Client, clock: &kubetask_operator::Clock, due: jiff::Timestamp) -> Vec<Duration> {
    let tasks: Api<kube::core::PartialObjectMeta<Task>> = Api::default_namespaced(client.clone());
    let mut seen = std::collections::HashMap::new();
    let changes = kube::runtime::watcher::watcher(tasks, kube::runtime::watcher::Config::default());
    let mut changes = std::pin::pin!(changes);
    let all = async {
        while seen.len() < DUE {
            if let Some(Ok(kube::runtime::watcher::Event::Apply(task))) = changes.next().await {
                let late = Duration::try_from(clock.now().duration_since(due)).unwrap_or_default();
                seen.entry(task.name_any()).or_insert(late);
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(90), all).await.is_err() {
        panic!("{} of {DUE} runs after a minute and a half", seen.len());
    }
    seen.into_values().collect()
}

const TOKEN: &str = "a-token-for-the-benchmark-and-nothing-else";

async fn serve(dir: &std::path::Path) -> (Server, Client, kube::Config) {
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
    create_tasks_of(client, TASKS).await;
}

/// An Agent, and so many Tasks of it.
async fn create_tasks_of(client: &Client, count: usize) {
    let agents: Api<kubetask_api::Agent> = Api::default_namespaced(client.clone());
    let agent = json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
        "spec": {"serviceAccountName": "default", "command": ["true"]},
    });
    agents.patch("a", &PatchParams::apply("bench"), &Patch::Apply(agent)).await.unwrap();
    let tasks: Api<Task> = Api::default_namespaced(client.clone());
    for i in 0..count {
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
