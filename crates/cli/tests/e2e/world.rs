//! The cluster under test, and a namespace of its own for each test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use kubetask_api::{Task, TaskPhase};
use serde_json::{Value, json};

/// How long anything may take: clusters pull images.
pub(crate) const WAIT: Duration = Duration::from_secs(180);

/// The shell image of the agents. Only clusters use it.
fn image() -> String {
    std::env::var("KUBETASK_E2E_IMAGE").unwrap_or_else(|_| "busybox:1.37".to_owned())
}

/// `kubetask up` of this build, shared by the tests that run at a time.
struct Up {
    directory: tempfile::TempDir,
    child: Child,
}

static UP: Mutex<Weak<Up>> = Mutex::new(Weak::new());

impl Up {
    fn shared() -> Arc<Self> {
        let mut shared = UP.lock().unwrap();
        if let Some(up) = shared.upgrade() {
            return up;
        }
        let directory = tempfile::Builder::new().prefix("kt-e2e").tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubetask"));
        command.arg("up").arg("--data-dir").arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while !directory.path().join("server.json").exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "`kubetask up` does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let up = Arc::new(Self { directory, child });
        *shared = Arc::downgrade(&up);
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // The tests have deleted their namespaces, and with them every container.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A namespace of the cluster.
pub(crate) struct World {
    pub client: Client,
    pub namespace: String,
    up: Option<Arc<Up>>,
}

impl World {
    /// Makes the namespace, with the service account that the Agents name.
    pub(crate) async fn new(test: &str) -> Self {
        let given = std::env::var_os("KUBETASK_E2E_KUBECONFIG").map(PathBuf::from);
        let up = if given.is_none() { Some(Up::shared()) } else { None };
        let path = given.or_else(|| Some(up.as_ref()?.directory.path().join("kubeconfig"))).unwrap();
        let options = KubeConfigOptions { context: std::env::var("KUBETASK_E2E_CONTEXT").ok(), ..Default::default() };
        let config =
            kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path).unwrap(), &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("kubetask-e2e-{test}-"));
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        let world = Self { client, namespace, up };
        let account = world.api::<ServiceAccount>();
        let there = await_condition(account, "default", |account: Option<&ServiceAccount>| account.is_some());
        tokio::time::timeout(WAIT, there).await.unwrap().unwrap();
        world
    }

    /// Deletes the namespace, and waits until it is gone where the server ends with the test.
    pub(crate) async fn done(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = namespaces.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
        if self.up.is_some() {
            let uid = namespace.left().and_then(|n| n.metadata.uid).unwrap_or_default();
            let gone = await_condition(namespaces, &self.namespace, kube::runtime::wait::conditions::is_deleted(&uid));
            tokio::time::timeout(WAIT, gone).await.unwrap().unwrap();
        }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies an object of KubeTask's kinds.
    pub(crate) async fn ours(&self, kind: &str, name: &str, spec: Value) {
        self.apply(
            json!({"apiVersion": "kubetask.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}),
        )
        .await;
    }

    /// An Agent that runs a shell script.
    pub(crate) async fn agent(&self, name: &str, script: &str, more: Value) {
        let mut spec = json!({"agentImage": image(), "serviceAccountName": "default", "command": ["sh", "-c", script]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.ours("Agent", name, spec).await;
    }

    pub(crate) async fn apply(&self, object: Value) {
        let text = |field: &str| object[field].as_str().unwrap().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let (resource, _) =
            kube::discovery::pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, &kind)).await.unwrap();
        let resource: ApiResource = resource;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object)).await.unwrap();
    }

    pub(crate) async fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        self.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})).await;
    }

    pub(crate) async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        self.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})).await;
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.api::<Task>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until a Task is as wished.
    #[track_caller]
    pub(crate) fn task<'a>(
        &'a self,
        name: &'a str,
        what: &'a str,
        wished: impl Fn(&Task) -> bool + Send + Sync + 'a,
    ) -> impl Future<Output = Task> + 'a {
        let api = self.api::<Task>();
        async move {
            let found = await_condition(api.clone(), name, move |task: Option<&Task>| task.is_some_and(&wished));
            match tokio::time::timeout(WAIT, found).await {
                Ok(task) => task.unwrap().unwrap(),
                Err(_) => panic!("task {name} is not {what}: {:?}", api.get(name).await.map(|t| t.status)),
            }
        }
    }

    pub(crate) async fn phase(&self, name: &str, phase: TaskPhase) -> Task {
        self.task(name, phase.as_str(), move |task| task.phase() == phase).await
    }

    pub(crate) async fn reason(&self, name: &str, reason: &str) -> Task {
        self.task(name, reason, move |task| reason_of(task) == reason).await
    }

    /// What a Task's agent wrote.
    pub(crate) async fn log(&self, task: &Task) -> String {
        let pod = task.status.as_ref().unwrap().pod_name.clone().unwrap();
        self.api::<Pod>().logs(&pod, &LogParams::default()).await.unwrap()
    }
}

pub(crate) fn reason_of(task: &Task) -> &str {
    task.status.as_ref().and_then(|s| s.reason.as_deref()).unwrap_or_default()
}
