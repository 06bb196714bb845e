//! A kube-rs client over TLS: creates a Task, watches it to its end, reads its log.

use futures::StreamExt;
use kube::api::{Api, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kubetask_api::{Task, TaskPhase};
use serde_json::json;

use crate::machine::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_client_creates_and_watches_a_task() {
    let machine = Machine::up();
    let kubeconfig = Kubeconfig::read_from(machine.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();

    let agents: Api<kubetask_api::Agent> = Api::default_namespaced(client.clone());
    let agent = json!({
        "metadata": {"name": "default"},
        "spec": {"serviceAccountName": "default", "command": ["cat", "/workspace/task.md"]},
    });
    agents.create(&PostParams::default(), &serde_json::from_value(agent).unwrap()).await.unwrap();
    let tasks: Api<Task> = Api::default_namespaced(client.clone());
    let mut changes = std::pin::pin!(watcher::watch_object(tasks.clone(), "rust"));
    let task = json!({"metadata": {"name": "rust"}, "spec": {"prompt": "from Rust\n"}});
    tasks.create(&PostParams::default(), &serde_json::from_value(task).unwrap()).await.unwrap();

    let mut phases = Vec::new();
    let end = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while let Some(change) = changes.next().await {
            if let Some(task) = change.unwrap() {
                if phases.last() != Some(&task.phase()) {
                    phases.push(task.phase());
                }
                if task.phase().is_finished() {
                    return task;
                }
            }
        }
        unreachable!("the watch does not end");
    })
    .await
    .unwrap();
    assert_eq!(phases.last(), Some(&TaskPhase::Completed), "{phases:?}");
    let pod = end.status.unwrap().pod_name.unwrap();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(client);
    assert_eq!(pods.logs(&pod, &LogParams::default()).await.unwrap(), "from Rust\n");
}
