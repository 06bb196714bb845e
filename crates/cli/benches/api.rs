//! The embedded API server under a cluster's load: `cargo bench -p kubetask --bench api`.
//!
//! Everything runs against real processes of the release binary, over TLS. `KUBETASK_BENCH=apply,many` picks some of:
//! apply, strategic, watchers, watchers-h1, many. Method and figures: `docs/benchmarks.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on must stop")]

#[expect(dead_code, reason = "shared; not every benchmark needs all of it")]
mod harness;
#[path = "harness/watching.rs"]
mod watching;

use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::json;

use harness::{Server, Target, load, own_cpu, report};
use watching::{Ages, Http1, Http2};

/// Objects that the patches are for.
const TEMPLATES: usize = 1000;
const PATCHES: usize = 10_000;
const WATCHERS: usize = 1000;
/// Watches on one HTTP/2 connection: what one process with informers has.
const STREAMS: usize = 20;
const WRITES_PER_SECOND: usize = 500;
const WRITES: usize = 5_000;
const MANY: usize = 100_000;

fn main() {
    let all = "apply,strategic,watchers,watchers-h1,many";
    let wanted = std::env::var("KUBETASK_BENCH").unwrap_or_else(|_| all.to_owned());
    let wants = |name: &str| wanted.split(',').any(|w| w == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if wants("apply") || wants("strategic") {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = Server::start(&dir);
        runtime.block_on(load(&server, TEMPLATES, template));
        if wants("apply") {
            runtime.block_on(load(&server, TEMPLATES, apply));
            patches(&runtime, &server, "server-side apply, TLS, 32 connections", apply);
        }
        if wants("strategic") {
            patches(&runtime, &server, "strategic merge patch, TLS, 32 connections", strategic);
        }
    }
    for (name, http2) in [("watchers", true), ("watchers-h1", false)] {
        if wants(name) {
            let dir = tempfile::tempdir().unwrap();
            let (server, _) = Server::start(&dir);
            runtime.block_on(watchers(&server, http2));
        }
    }
    if wants("many") {
        many(&runtime);
    }
}

fn patches(runtime: &tokio::runtime::Runtime, server: &Server, what: &str, make: harness::Make) {
    let before = server.cpu();
    let (rate, _) = runtime.block_on(load(server, PATCHES, make));
    let each = (server.cpu() - before).as_secs_f64() * 1e6 / PATCHES as f64;
    println!("{what:<45} {rate:>8.0} /s    {each:.0} µs of the server's processor time each   (≥ 2000 /s)");
}

/// A Pod template of an ordinary size (1.2 KiB as JSON).
fn manifest(i: usize, value: usize) -> serde_json::Value {
    let container = |name: &str, value: usize| {
        json!({"name": name, "image": format!("registry.example.test/{name}:1"), "command": ["sh", "-c", "serve"],
            "env": [{"name": "A", "value": value.to_string()}, {"name": "B", "value": "b"}],
            "ports": [{"containerPort": 8080, "protocol": "TCP", "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    };
    json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": format!("t-{}", i % TEMPLATES),
        "labels": {"app": "bench"}}, "template": {"metadata": {"labels": {"app": "bench"}}, "spec": {
        "containers": [container("main", value), container("side", 0)],
        "volumes": [{"name": "data", "emptyDir": {}}]}}})
}

fn template(i: usize) -> (&'static str, String, Option<String>, u16) {
    ("POST", "/api/v1/namespaces/default/podtemplates".to_owned(), Some(manifest(i, 0).to_string()), 201)
}

fn apply(i: usize) -> (&'static str, String, Option<String>, u16) {
    let query = "fieldManager=bench&force=true#application/apply-patch+yaml";
    let path = format!("/api/v1/namespaces/default/podtemplates/t-{}?{query}", i % TEMPLATES);
    ("PATCH", path, Some(manifest(i, i).to_string()), 200)
}

fn strategic(i: usize) -> (&'static str, String, Option<String>, u16) {
    let path =
        format!("/api/v1/namespaces/default/podtemplates/t-{}#application/strategic-merge-patch+json", i % TEMPLATES);
    let patch = json!({"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "A", "value": format!("s{i}")}, {"name": "C", "value": "c"}]}]}}});
    ("PATCH", path, Some(patch.to_string()), 200)
}

/// Many watchers of one kind, and writes to it at a steady rate: how long a change takes from being sent to each.
async fn watchers(server: &Server, http2: bool) {
    let target = Target::of(server);
    let started = Instant::now();
    let mut readers = Vec::new();
    let path = "/api/v1/namespaces/default/configmaps?watch=1&labelSelector=app%3Dbench&resourceVersion=0";
    for _ in 0..WATCHERS / if http2 { STREAMS } else { 1 } {
        if http2 {
            let ages = (0..STREAMS).map(|_| Ages::new(started, WRITES)).collect();
            readers.push(tokio::spawn(Http2::open(&target, path, ages, WRITES).await.read()));
        } else {
            readers.push(tokio::spawn(Http1::open(&target, path, Ages::new(started, WRITES), WRITES).await.read()));
        }
    }
    // The load of a warm-up is not measured: the watchers have all got something then.
    let next = AtomicUsize::new(0);
    let mut connections = futures::future::join_all((0..16).map(|_| target.connect())).await;
    let answers = std::sync::Mutex::new(Vec::new());
    let begun = Instant::now();
    let (before, own) = (server.cpu(), own_cpu());
    let writers = connections.iter_mut().map(|connection| async {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= WRITES {
                return;
            }
            let due = begun + Duration::from_secs_f64(i as f64 / WRITES_PER_SECOND as f64);
            tokio::time::sleep_until(due.into()).await;
            let (method, path) = if i < 100 {
                ("POST", "/api/v1/namespaces/default/configmaps".to_owned())
            } else {
                ("PUT", format!("/api/v1/namespaces/default/configmaps/w-{}", i % 100))
            };
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w-{}", i % 100),
                "labels": {"app": "bench"}}, "data": {"sent": format!("at {} .", started.elapsed().as_micros())}});
            let sent = Instant::now();
            let status = target.request(connection, method, &path, Some(body.to_string())).await;
            assert!(status == 200 || status == 201, "{method} {path}: {status}");
            answers.lock().unwrap().push(u32::try_from(sent.elapsed().as_micros()).unwrap());
        }
    });
    futures::future::join_all(writers).await;
    let written = begun.elapsed();
    let all = WRITES * WATCHERS;
    let read = tokio::time::timeout(Duration::from_secs(300), futures::future::join_all(readers)).await;
    let cpu = server.cpu() - before;
    let own = own_cpu() - own;
    let rss = server.rss_mib();
    let mut times: Vec<u32> =
        read.expect("events are missing").into_iter().flat_map(Result::unwrap).flat_map(|ages| ages.ages).collect();
    assert_eq!(times.len(), all, "some events came twice");
    times.sort_unstable();
    let mut answers = answers.into_inner().unwrap();
    answers.sort_unstable();
    let of = |times: &[u32], q: f64| f64::from(times[((times.len() - 1) as f64 * q) as usize]) / 1000.0;
    let at = |q| of(&times, q);
    let how = if http2 { "20 a connection" } else { "each its own" };
    println!(
        "{:<45} {:>8.1} ms    p50 {:.1}, p90 {:.1}, max {:.1}, {:.0} writes/s, {:.2} µs a delivery ({:.2} to read it), {rss:.0} MiB  (p99 ≤ 20 ms)",
        format!("p99 to 1,000 watchers ({how})"),
        at(0.99),
        at(0.5),
        at(0.9),
        at(1.0),
        WRITES as f64 / written.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / all as f64,
        own.as_secs_f64() * 1e6 / all as f64,
    );
    println!(
        "{:<45} {:>8.1} ms    p50 {:.1}, p90 {:.1}, max {:.1}",
        "  p99 of the writes' own answers",
        of(&answers, 0.99),
        of(&answers, 0.5),
        of(&answers, 0.9),
        of(&answers, 1.0)
    );
}

/// A store with many objects: how soon a server over it answers, and how much memory it takes.
fn many(runtime: &tokio::runtime::Runtime) {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, _) = Server::start(&dir);
    runtime.block_on(load(&server, MANY, object));
    let bytes = runtime.block_on(list_bytes(&server));
    let mib = bytes as f64 / f64::from(1 << 20);
    let ratio = |rss: f64| format!("{:.2} × {mib:.0} MiB of JSON", rss / mib);
    println!(
        "{:<45} {:>8.1} MiB   {}",
        "100,000 objects, just written: memory",
        server.rss_mib(),
        ratio(server.rss_mib())
    );
    assert!(stop(&mut server).success());
    drop(server);
    let mut times = Vec::new();
    let mut last = None;
    let mut cpu = Duration::ZERO;
    for _ in 0..5 {
        drop(last.take());
        let (server, start) = Server::start(&dir);
        times.push(start.ready.as_secs_f64());
        cpu = server.cpu();
        last = Some(server);
    }
    report("100,000 objects: exec to /readyz", &mut times, "≤ 2 s");
    println!("{:<45} {:>8.1} ms    of processor time, to the operator's start", "", cpu.as_secs_f64() * 1000.0);
    let server = last.unwrap();
    std::thread::sleep(Duration::from_secs(3));
    println!("{:<45} {:>8.1} MiB   {}   (≤ 3 ×)", "100,000 objects: memory", server.rss_mib(), ratio(server.rss_mib()));
    runtime.block_on(list_bytes(&server));
    println!(
        "{:<45} {:>8.1} MiB   {}",
        "100,000 objects: memory after a list",
        server.rss_mib(),
        ratio(server.rss_mib())
    );
}

fn object(i: usize) -> (&'static str, String, Option<String>, u16) {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{i}")},
        "data": {"key": "x".repeat(1024)}});
    ("POST", "/api/v1/namespaces/default/configmaps".to_owned(), Some(body.to_string()), 201)
}

async fn list_bytes(server: &Server) -> usize {
    let target = Target::of(server);
    let mut connection = target.connect().await;
    let request = hyper::Request::get("/api/v1/namespaces/default/configmaps")
        .header("host", &target.address)
        .header("authorization", format!("Bearer {}", target.token))
        .body(http_body_util::Full::new(bytes::Bytes::new()))
        .unwrap();
    let mut body = connection.send_request(request).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
    }
    bytes
}

/// Ends the server as an operator does.
fn stop(server: &mut Server) -> ExitStatus {
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    server.child.wait().unwrap()
}
