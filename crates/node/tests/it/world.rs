//! A small cluster in the test's process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use kubetask_apiserver::{ApiServer, Config, User};
use kubetask_engine::spec::ContainerId;
use kubetask_engine::{EngineRouter, FakeEngine};
use kubetask_node::{Node, NodeConfig, NodeHandle};
use kubetask_store::{Options, Store};
use serde_json::{Value, json};

/// Longest time a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) engine: FakeEngine,
    pub(crate) root: tempfile::TempDir,
    node: Option<NodeHandle>,
}

impl World {
    /// An API server without controllers, and no node yet.
    pub(crate) async fn without_node() -> Self {
        let store = Store::in_memory(Options::default()).unwrap();
        let api = ApiServer::new(Config::new(store)).unwrap();
        let client = Client::new(api.service_as(User::admin("test"), "test"), "default");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in ["default", "kube-node-lease"] {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            match namespaces.create(&PostParams::default(), &namespace).await {
                Err(kube::Error::Api(error)) if error.code == 409 => {}
                other => drop(other.unwrap()),
            }
        }
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), "default");
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = accounts.create(&PostParams::default(), &account).await;
        Self { client, engine: FakeEngine::new(), root: tempfile::tempdir().unwrap(), node: None }
    }

    /// The same with a node.
    pub(crate) async fn new() -> Self {
        let mut world = Self::without_node().await;
        world.start_node().await;
        world
    }

    pub(crate) fn config(&self) -> NodeConfig {
        let engines = EngineRouter::new(vec![Arc::new(self.engine.clone())]);
        NodeConfig::new(self.client.clone(), "n1", self.root.path().join("node"), Arc::new(engines))
    }

    pub(crate) async fn start_node(&mut self) {
        self.start_node_with(self.config()).await;
    }

    pub(crate) async fn start_node_with(&mut self, config: NodeConfig) {
        self.node = Some(Node::start(config).await.unwrap());
    }

    pub(crate) async fn stop_node(&mut self) {
        self.node.take().unwrap().shutdown().await;
    }

    pub(crate) fn router(&self) -> axum::Router {
        self.node.as_ref().unwrap().router()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["automountServiceAccountToken"] = json!(false);
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "main", "image": "i:1"}]);
        }
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    pub(crate) async fn config_map(&self, name: &str, data: Value) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap();
        if api.get_opt(name).await.unwrap().is_some() {
            api.replace(name, &PostParams::default(), &map).await.unwrap();
        } else {
            api.create(&PostParams::default(), &map).await.unwrap();
        }
    }

    /// Waits until the pod is as `like` says.
    pub(crate) async fn wait(&self, name: &str, like: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let pod = serde_json::to_value(self.pods().get_opt(name).await.unwrap()).unwrap();
            if like(&pod) {
                return pod;
            }
            assert!(began.elapsed() < PATIENCE, "still waiting: {pod:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Value {
        self.wait(name, |pod| pod["status"]["phase"] == phase).await
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(grace)).await.unwrap();
    }

    pub(crate) async fn gone(&self, name: &str) {
        self.wait(name, Value::is_null).await;
    }

    /// Reasons of the events of a pod, once there are `count`.
    pub(crate) async fn events(&self, pod: &str, count: usize) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let began = Instant::now();
        loop {
            let params = ListParams::default().fields(&format!("involvedObject.name={pod}"));
            let mut events = api.list(&params).await.unwrap().items;
            events.sort_by_key(|event| event.metadata.name.clone());
            if events.len() >= count {
                let text = |event: Event| {
                    format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
                };
                return events.into_iter().map(text).collect();
            }
            assert!(began.elapsed() < PATIENCE, "still waiting for {count} events: {events:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn id(pod: &Pod, container: &str, attempt: u32) -> ContainerId {
    ContainerId(format!("{}-{container}-{attempt}", pod.metadata.uid.as_deref().unwrap()))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
