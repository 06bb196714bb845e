//! `kubetask controller` with many Tasks, measured from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kubetask_api::Task;
use serde_json::json;

const ADDRESS: &str = "127.0.0.1:18099";

/// A controller, which ends with the benchmark.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Controller {
    fn start(kubeconfig: &str) -> Self {
        let child = Command::new(super::program::program())
            .args(["controller", "--kubeconfig", kubeconfig, "--leader-elect=false", "--log-format", "json"])
            .args(["--metrics-bind-address", ADDRESS, "--health-probe-bind-address", ADDRESS])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn get(path: &str) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(ADDRESS) {
            let _ = write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n");
            let _ = stream.read_to_string(&mut text);
        }
        text
    }

    /// The sum of a metric's values.
    fn metric(start: &str) -> f64 {
        let text = Self::get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The most memory it has had so far, in MiB.
    fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
    }

    fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(600), "not in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }
}

/// Measures and tells.
pub(super) fn run() {
    let finished: usize = std::env::var("KUBETASK_BENCH_FINISHED").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let (_server, local, remote) = runtime.block_on(super::serve(dir.path()));
    let kubeconfig = write_kubeconfig(dir.path(), &remote);
    runtime.block_on(create(&local, 10_000, false));
    let controller = Controller::start(&kubeconfig);
    let took = Controller::wait("10,000 Jobs", || Controller::metric("kubetask_jobs_created_total") >= 10_000.0);
    std::thread::sleep(Duration::from_secs(2));
    println!("{:<45} {:>8.0} MiB   (≤ 80 MiB)", "peak memory with 10,000 Tasks", controller.peak());
    println!("{:<45} {:>8.1} s", "10,000 Tasks to Jobs", took.as_secs_f64());
    drop(controller);
    drop(_server);

    let dir = tempfile::tempdir().unwrap();
    let (_server, local, remote) = runtime.block_on(super::serve(dir.path()));
    let kubeconfig = write_kubeconfig(dir.path(), &remote);
    runtime.block_on(create(&local, finished, true));
    let started = Instant::now();
    let controller = Controller::start(&kubeconfig);
    Controller::wait("ready", || Controller::get("/readyz").contains(" 200 "));
    let ready = started.elapsed();
    let all = f64::from(u32::try_from(finished).unwrap());
    Controller::wait("all looked at", || Controller::metric("kubetask_reconciles_total") >= all);
    let looked = started.elapsed();
    println!("{:<45} {:>8.2} s     (≤ 5 s)", format!("ready with {finished} finished Tasks"), ready.as_secs_f64());
    println!("{:<45} {:>8.2} s", "all of them looked at", looked.as_secs_f64());
    println!("{:<45} {:>8.0} MiB", "peak memory", controller.peak());
    std::thread::sleep(Duration::from_secs(2));
    let before = Controller::metric("process_cpu_seconds_total");
    std::thread::sleep(Duration::from_secs(20));
    let idle = (Controller::metric("process_cpu_seconds_total") - before) / 20.0 * 1000.0;
    println!("{:<45} {idle:>8.2} ms/s  (nothing)", "CPU while nothing happens");
}

fn write_kubeconfig(dir: &std::path::Path, config: &kube::Config) -> String {
    use base64::Engine;
    let ca = config.root_cert.as_ref().and_then(|all| all.first()).unwrap();
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encode(ca));
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": config.cluster_url.to_string().trim_end_matches('/'),
            "certificate-authority-data": encode(pem.as_bytes())}}],
        "users": [{"name": "u", "user": {"token": super::TOKEN}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let path = dir.join("kubeconfig");
    std::fs::write(&path, text.to_string()).unwrap();
    path.display().to_string()
}

/// Creates Tasks; finished ones as an operator leaves them.
async fn create(client: &Client, count: usize, finished: bool) {
    super::create_tasks_of(client, 0).await;
    let tasks: Api<Task> = Api::default_namespaced(client.clone());
    let one = |i: usize| {
        let tasks = tasks.clone();
        async move {
            let name = format!("t-{i}");
            let task = json!({"metadata": {"name": name}, "spec": {"agentRef": "a", "prompt": "x".repeat(500)}});
            tasks.create(&PostParams::default(), &serde_json::from_value(task).unwrap()).await.unwrap();
            if finished {
                let now = kubetask_api_time();
                let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason, "message": "the agent ended with exit code 0", "lastTransitionTime": now});
                let status = json!({"status": {
                    "phase": "Completed", "reason": "Completed", "message": "the agent ended with exit code 0",
                    "agent": "a", "jobName": format!("{name}-123456"), "podName": format!("{name}-123456-abcde"),
                    "startTime": now, "completionTime": now, "exitCode": 0, "attempts": 1, "result": "y".repeat(300),
                    "conditions": [condition("Accepted", "Accepted"), condition("ContextsResolved", "Resolved"),
                        condition("Admitted", "Admitted"), condition("Complete", "Completed")]}});
                tasks.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
            }
        }
    };
    futures::stream::iter(0..count).map(one).buffer_unordered(64).collect::<Vec<()>>().await;
}

fn kubetask_api_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
