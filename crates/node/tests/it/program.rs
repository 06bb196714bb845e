//! A whole program with the local engine, killed with SIGKILL while a pod runs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::world::PATIENCE;

/// The example `cluster`, which cargo builds together with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples/cluster");
    assert!(program.exists(), "{} is missing: run `cargo build -p kubetask-node --example cluster`", program.display());
    program
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(directory: &Path) -> (Running, Client) {
    let mut child = Command::new(program()).arg(directory).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let running = Running(child);
    let line = tokio::task::spawn_blocking(move || BufReader::new(stdout).lines().next());
    tokio::time::timeout(PATIENCE, line).await.unwrap().unwrap().expect("it ended").unwrap();
    let kubeconfig = Kubeconfig::read_from(directory.join("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    (running, Client::try_from(config).unwrap())
}

async fn wait(pods: &Api<Pod>, name: &str, like: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let pod = serde_json::to_value(pods.get(name).await.unwrap()).unwrap();
        if like(&pod) {
            return pod;
        }
        assert!(began.elapsed() < PATIENCE * 2, "still waiting: {pod:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_finds_its_pods_again() {
    let directory = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let (first, client) = start(&directory.path().join("data")).await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let script = "echo once >> /shared/starts; for i in $(seq 1 60); do echo line $i; sleep 0.05; done; echo -n done > /dev/termination-log; exit 7";
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "s", "hostPath": {"path": shared.path()}}],
        "containers": [{"name": "main", "image": "any:1", "command": ["sh", "-c", script], "volumeMounts": [{"name": "s", "mountPath": "/shared"}]}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let began = Instant::now();
    loop {
        match pods.create(&PostParams::default(), &pod).await {
            Ok(_) => break,
            // The default service account is made by a controller.
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = wait(&pods, "p", |pod| pod["status"]["phase"] == "Running").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Drop kills with SIGKILL.
    drop(first);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_second, client) = start(&directory.path().join("data")).await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let after = wait(&pods, "p", |pod| pod["status"]["phase"] == "Failed").await;
    let terminated = &after["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["message"]), (&json!(7), &json!("done")));
    let running = &before["status"]["containerStatuses"][0]["state"]["running"];
    assert_eq!(terminated["startedAt"], running["startedAt"], "the same run");
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(std::fs::read_to_string(shared.path().join("starts")).unwrap(), "once\n");
    let log = pods.logs("p", &LogParams::default()).await.unwrap();
    let expect: String = (1..=60).map(|line| format!("line {line}\n")).collect();
    assert_eq!(log, expect, "every line once");
}
