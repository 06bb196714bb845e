//! The official Python client: creates a Task and watches it.

use std::process::Command;

use crate::machine::{Machine, require};

const PROGRAM: &str = r#"
import sys
from kubernetes import client, config, watch

config.load_kube_config(sys.argv[1])
api = client.CustomObjectsApi()
at = dict(group="kubetask.io", version="v1alpha1", namespace="default")
api.create_namespaced_custom_object(plural="agents", body={
    "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
    "spec": {"serviceAccountName": "default", "command": ["cat", "/workspace/task.md"]}}, **at)
api.create_namespaced_custom_object(plural="tasks", body={
    "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": "py"},
    "spec": {"prompt": "from Python\n"}}, **at)
phases = []
for event in watch.Watch().stream(api.list_namespaced_custom_object, plural="tasks", timeout_seconds=30, **at):
    status = event["object"].get("status", {})
    phase = status.get("phase", "Pending")
    if phases[-1:] != [phase]:
        phases.append(phase)
    if phase in ("Completed", "Failed"):
        break
print(",".join(phases))
print(client.CoreV1Api().read_namespaced_pod_log(status["podName"], "default"), end="")
for pod in client.CoreV1Api().list_namespaced_pod("default").items:
    print(pod.metadata.labels["kubetask.io/task"], pod.status.phase)
try:
    api.get_namespaced_custom_object(plural="tasks", name="nope", **at)
except client.ApiException as e:
    print(e.status, e.reason)
"#;

#[test]
fn the_python_client_creates_and_watches_a_task() {
    let there =
        Command::new("python3").args(["-c", "import kubernetes"]).output().is_ok_and(|out| out.status.success());
    if !require("the Python package kubernetes", there) {
        return;
    }
    let machine = Machine::up();
    let program = machine.write("client.py", PROGRAM);
    let out = Command::new("python3").arg(program).arg(machine.kubeconfig()).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    let text = String::from_utf8(out.stdout).unwrap();
    let (phases, rest) = text.split_once('\n').unwrap();
    assert!(phases.ends_with("Completed"), "{text}");
    assert_eq!(rest, "from Python\npy Succeeded\n404 Not Found\n");
}
