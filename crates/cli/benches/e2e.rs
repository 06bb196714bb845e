//! End-to-end figures of the binary: `cargo bench -p kubetask --bench e2e`.
//!
//! Everything runs against real processes of the release binary. `KUBETASK_BENCH=up,run` picks some of: up, rss, run,
//! submit, creates, gets, list. Method and figures: `docs/benchmarks.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on must stop")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::api::{Api, PostParams};
use kube::runtime::watcher;
use kubetask_api::Task;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

const KUBETASK: &str = env!("CARGO_BIN_EXE_kubetask");
const CONNECTIONS: usize = 32;
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

fn report(what: &str, seconds: &mut [f64], budget: &str) {
    seconds.sort_by(f64::total_cmp);
    let at = |q: f64| seconds[((seconds.len() - 1) as f64 * q) as usize] * 1000.0;
    println!(
        "{what:<45} {:>8.1} ms    min {:.1}, p90 {:.1}, max {:.1}   ({budget})",
        at(0.5),
        at(0.0),
        at(0.9),
        at(1.0)
    );
}

fn command(dir: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(KUBETASK);
    command.args(args).env("KUBETASK_DATA_DIR", dir.path().join("d")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn warm(dir: &tempfile::TempDir) {
    for _ in 0..2 {
        assert!(command(dir, &["run", "-q", "--", "true"]).status().unwrap().success());
    }
}

/// How long a start took.
struct Start {
    /// Until `/readyz` said 200 over TLS.
    ready: Duration,
    /// Until KubeTask's definitions were installed and served, and the operator was started.
    serving: Duration,
}

struct Server {
    child: Child,
    kubeconfig: PathBuf,
}

impl Server {
    /// Starts `kubetask up` and waits until it serves KubeTask's kinds.
    fn start(dir: &tempfile::TempDir) -> (Self, Start) {
        let data = dir.path().join("d");
        let info = data.join("server.json");
        let started = Instant::now();
        let child = command(dir, &["up"]).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, kubeconfig: data.join("kubeconfig") };
        let wait = |what: &dyn Fn() -> bool| {
            while !what() {
                assert!(started.elapsed() < Duration::from_secs(20), "up does not answer");
                std::thread::sleep(Duration::from_micros(300));
            }
        };
        // Written when the port is open, as a whole; one of an earlier start has the same port and key.
        wait(&|| server.kubeconfig.exists());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ready = runtime.block_on(async {
            let target = Target::of(&server);
            loop {
                if let Some(mut connection) = target.try_connect().await
                    && target.request(&mut connection, "GET", "/readyz", None).await == 200
                {
                    return started.elapsed();
                }
                assert!(started.elapsed() < Duration::from_secs(20), "up is not ready");
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
        let pid = format!("\"pid\": {},", server.child.id());
        wait(&|| std::fs::read_to_string(&info).unwrap_or_default().contains(&pid));
        (server, Start { ready, serving: started.elapsed() })
    }

    fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    async fn client(&self) -> kube::Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From sending the Task to the time that the agent's first instruction prints, one Task after the other.
async fn submit(server: &Server) -> Vec<f64> {
    let client = server.client().await;
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

/// Where the server is and how to talk to it, without a client library in the way.
#[derive(Clone)]
struct Target {
    address: String,
    token: Arc<str>,
    tls: Arc<tokio_rustls::rustls::ClientConfig>,
}

type Connection = http1::SendRequest<Full<bytes::Bytes>>;

impl Target {
    fn of(server: &Server) -> Self {
        let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
        let config = kubetask_yaml::read_one(&text, kubetask_yaml::Limits::default()).unwrap().value;
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let ca = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            text("/clusters/0/cluster/certificate-authority-data"),
        )
        .unwrap();
        let mut roots = tokio_rustls::rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let tls = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address: text("/clusters/0/cluster/server").trim_start_matches("https://").to_owned(),
            token: text("/users/0/user/token").into(),
            tls: Arc::new(tls),
        }
    }

    async fn connect(&self) -> Connection {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> Option<Connection> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    async fn request(&self, connection: &mut Connection, method: &str, path: &str, body: Option<String>) -> u16 {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body.unwrap_or_default())))
            .unwrap();
        connection.ready().await.unwrap();
        let response = connection.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        status
    }
}

/// Method, path, body and expected status of request number `i`.
type Make = fn(usize) -> (&'static str, String, Option<String>, u16);

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

/// Sends `total` requests over [`CONNECTIONS`] connections; returns the rate and the time it took.
async fn load(server: &Server, total: usize, make: Make) -> (f64, Duration) {
    let target = Target::of(server);
    let next = Arc::new(AtomicUsize::new(0));
    let connections = futures::future::join_all((0..CONNECTIONS.min(total)).map(|_| target.connect())).await;
    let started = Instant::now();
    let workers = connections.into_iter().map(|mut connection| {
        let (target, next) = (target.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= total {
                    return;
                }
                let (method, path, body, expect) = make(i);
                assert_eq!(target.request(&mut connection, method, &path, body).await, expect, "{method} {path}");
            }
        })
    });
    for worker in futures::future::join_all(workers).await {
        worker.expect("a worker failed");
    }
    let time = started.elapsed();
    (total as f64 / time.as_secs_f64(), time)
}
