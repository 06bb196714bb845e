use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kubetask_engine::fake::Script;
use serde_json::{Value, json};

use crate::world::World;

fn unschedulable(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "Unschedulable")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_registers_itself() {
    let world = World::new().await;
    world.create("p", json!({"restartPolicy": "Never"})).await;
    world.phase("p", "Succeeded").await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = serde_json::to_value(nodes.get("n1").await.unwrap()).unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["status"]["conditions"][3]["reason"], "KubeletReady");
    assert!(node["status"]["allocatable"]["cpu"].is_string());
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    let mut tries = 0;
    while leases.get_opt("n1").await.unwrap().is_none() {
        tries += 1;
        assert!(tries < 200, "no lease");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Deleted by mistake: it comes back.
    nodes.delete("n1", &Default::default()).await.unwrap();
    let mut tries = 0;
    while nodes.get_opt("n1").await.unwrap().is_none() {
        tries += 1;
        assert!(tries < 200, "the node did not come back");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_do_not_fit_wait_and_are_told_why() {
    let world = World::new().await;
    world.create("p", json!({"nodeSelector": {"disk": "fast"}, "restartPolicy": "Never"})).await;
    let pod = world.wait("p", unschedulable).await;
    let condition = pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "PodScheduled")
        .unwrap()
        .clone();
    let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, \
                   preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(condition["message"], message);
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(world.events("p", 1).await, [format!("FailedScheduling: {message}")]);
    // The node gets the label: the pod runs.
    let nodes: Api<Node> = Api::all(world.client.clone());
    let patch = json!({"metadata": {"labels": {"disk": "fast"}}});
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    world.phase("p", "Succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_made_is_given_away() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let nodes: Api<Node> = Api::all(world.client.clone());
    let big = |cpu: usize| json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1", "resources": {"requests": {"cpu": cpu.to_string()}}}]});
    let cpus = std::thread::available_parallelism().unwrap().get();
    world.create("first", big(cpus)).await;
    world.phase("first", "Running").await;
    world.create("second", big(1)).await;
    let pod = world.wait("second", unschedulable).await;
    assert!(pod.to_string().contains("1 Insufficient cpu"), "{pod:#}");
    world.delete("first", 1).await;
    world.phase("second", "Running").await;
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_schedulers_are_left_alone() {
    let world = World::new().await;
    world.create("other", json!({"schedulerName": "mine"})).await;
    world.create("gated", json!({"schedulingGates": [{"name": "x.test/wait"}]})).await;
    world.create("ours", json!({"restartPolicy": "Never"})).await;
    world.phase("ours", "Succeeded").await;
    for name in ["other", "gated"] {
        let pod = world.wait(name, |_| true).await;
        assert_eq!(pod["spec"]["nodeName"], Value::Null, "{name}");
    }
    assert_eq!(world.engine.started().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_name_its_node() {
    let world = World::new().await;
    world.create("p", json!({"nodeName": "n1", "restartPolicy": "Never"})).await;
    world.phase("p", "Succeeded").await;
    world.create("q", json!({"nodeName": "n2", "restartPolicy": "Never"})).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.engine.started().len(), 1);
}
