//! [`TestCluster`]: an embedded Kubernetes with KubeTask on it, in this process.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, ResourceExt};
use kubetask_api::{Task, TaskPhase};
use kubetask_embedded::{Embedded, EmbeddedConfig};
use kubetask_engine::fake::FakeEngine;
use kubetask_engine::spec::ContainerSpec;
use kubetask_operator::{Operator, OperatorConfig, install};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::faults::Faults;
use crate::requests::Requests;
use crate::waiting::{WAIT, until};

/// How a test's cluster is set up.
#[derive(Default)]
pub struct TestConfig {
    /// How its operator is set up.
    pub operator: OperatorConfig,
    /// What harms the operator's requests.
    pub faults: Option<Faults>,
    /// Leaves the operator to the test; see [`TestCluster::start_operator`].
    pub without_operator: bool,
}

/// An embedded Kubernetes with KubeTask on it, in this process.
pub struct TestCluster {
    directory: TempDir,
    engine: FakeEngine,
    embedded: Embedded,
    operator: Option<Operator>,
    config: TestConfig,
    requests: Requests,
}

impl TestCluster {
    /// Starts one with the operator.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(TestConfig::default()).await
    }

    /// Starts one.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn with(config: TestConfig) -> anyhow::Result<Self> {
        // RUST_LOG shows what everybody says; the first cluster of a process sets it up.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let directory = tempfile::tempdir()?;
        let engine = FakeEngine::new();
        let embedded = embedded(directory.path(), &engine).await?;
        let client = embedded.client("testkit");
        install::definitions(&client, "testkit").await.context("install the definitions")?;
        let namespace: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::default_namespaced(client);
        // Pods are refused before this one is there.
        until(&namespace, "default", "there", |account| account.is_some()).await?;
        let requests = Requests::default();
        let mut cluster = Self { directory, engine, embedded, operator: None, config, requests };
        if !cluster.config.without_operator {
            cluster.start_operator();
        }
        Ok(cluster)
    }

    /// The scripted engine: what containers do.
    #[must_use]
    pub fn engine(&self) -> &FakeEngine {
        &self.engine
    }

    /// Where everything is kept.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A client for the test itself; its requests are not counted and nothing harms them.
    #[must_use]
    pub fn client(&self) -> Client {
        self.embedded.client("testkit")
    }

    /// What the operator asked of the API.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Starts an operator, if none runs.
    pub fn start_operator(&mut self) {
        if self.operator.is_none() {
            let mut client = self.embedded.client("kubetask");
            if let Some(faults) = &self.config.faults {
                client = faults.of(client);
            }
            let client = self.requests.of(client);
            self.operator = Some(kubetask_operator::start(client, self.config.operator.clone()));
        }
    }

    /// Ends the operator as SIGTERM does.
    pub async fn stop_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.shutdown().await;
        }
    }

    /// Ends the operator as SIGKILL does: wherever it is.
    pub fn kill_operator(&mut self) {
        drop(self.operator.take());
    }

    /// Ends everything and starts it again over the same directory and the same containers.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn restart(mut self) -> anyhow::Result<Self> {
        let had_operator = self.operator.is_some();
        self.stop_operator().await;
        let Self { directory, engine, embedded: old, config, requests, .. } = self;
        old.shutdown().await;
        let embedded = embedded(directory.path(), &engine).await?;
        let mut cluster = Self { directory, engine, embedded, operator: None, config, requests };
        if had_operator {
            cluster.start_operator();
        }
        Ok(cluster)
    }

    /// Ends everything.
    pub async fn shutdown(mut self) {
        self.stop_operator().await;
        self.embedded.shutdown().await;
    }

    /// The API of a kind in the namespace `default`.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::default_namespaced(self.client())
    }

    /// Creates the objects of a YAML text, or makes them as it says.
    ///
    /// # Errors
    /// When the text is wrong, or the server refuses an object.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for document in kubetask_yaml::read_all(yaml, kubetask_yaml::Limits::default())? {
            let object: DynamicObject = serde_json::from_value(document.value)?;
            let types = object.types.clone().context("apiVersion and kind are missing")?;
            let kind = GroupVersionKind::try_from(&types)?;
            let (resource, capabilities) = kube::discovery::pinned_kind(&self.client(), &kind).await?;
            let api = self.dynamic(&object, &resource, &capabilities.scope);
            let params = PatchParams::apply("testkit").force();
            let name = object.name_any();
            let made = api.patch(&name, &params, &Patch::Apply(&object)).await;
            applied.push(made.with_context(|| format!("apply {} {name}", types.kind))?);
        }
        Ok(applied)
    }

    fn dynamic(
        &self,
        object: &DynamicObject,
        resource: &ApiResource,
        scope: &kube::discovery::Scope,
    ) -> Api<DynamicObject> {
        match (scope, &object.metadata.namespace) {
            (kube::discovery::Scope::Cluster, _) => Api::all_with(self.client(), resource),
            (_, None) => Api::default_namespaced_with(self.client(), resource),
            (_, Some(namespace)) => Api::namespaced_with(self.client(), namespace, resource),
        }
    }

    /// Merge-patches an object of the namespace `default`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn patch<K>(&self, name: &str, patch: serde_json::Value) -> anyhow::Result<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.with_context(|| format!("patch {name}"))
    }

    /// A Task of the namespace `default`.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn task(&self, name: &str) -> anyhow::Result<Task> {
        self.api::<Task>().get(name).await.with_context(|| format!("get Task {name}"))
    }

    /// Waits until a Task of the namespace `default` is in that phase.
    ///
    /// # Errors
    /// When it is not after [`WAIT`].
    pub async fn wait_for_phase(&self, name: &str, phase: TaskPhase) -> anyhow::Result<Task> {
        self.wait_for_task(name, phase.as_str(), |task| task.phase() == phase).await
    }

    /// Waits until a Task of the namespace `default` has that reason in its status.
    ///
    /// # Errors
    /// When it has not after [`WAIT`].
    pub async fn wait_for_reason(&self, name: &str, reason: &str) -> anyhow::Result<Task> {
        let has = |task: &Task| task.status.as_ref().and_then(|s| s.reason.as_deref()) == Some(reason);
        self.wait_for_task(name, reason, has).await
    }

    /// Waits until a Task of the namespace `default` is as wished.
    ///
    /// # Errors
    /// When it is not after [`WAIT`].
    pub async fn wait_for_task(
        &self,
        name: &str,
        what: &str,
        wished: impl Fn(&Task) -> bool + Send + Sync,
    ) -> anyhow::Result<Task> {
        let found = until(&self.api::<Task>(), name, what, |task| task.is_some_and(&wished)).await?;
        found.context("gone")
    }

    /// The containers that ran a Task's agent, in order.
    #[must_use]
    pub fn agents(&self, task: &str) -> Vec<ContainerSpec> {
        let is_its = |spec: &ContainerSpec| spec.env.iter().any(|(name, value)| name == "TASK_NAME" && value == task);
        self.engine.started().into_iter().filter(is_its).collect()
    }

    /// Waits until a Task's agent has started for the `nth` time (from 1).
    ///
    /// # Errors
    /// When it has not after [`WAIT`].
    pub async fn wait_for_agent(&self, task: &str, nth: usize) -> anyhow::Result<ContainerSpec> {
        // The engine tells nobody when something starts; the Pod's status would, but later.
        let started = async {
            loop {
                if let Some(spec) = self.agents(task).into_iter().nth(nth - 1) {
                    return spec;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT, started).await.with_context(|| format!("start {nth} of the agent of {task}"))
    }

    /// What a container sees at a path.
    ///
    /// # Errors
    /// When nothing is mounted there.
    pub fn file(&self, container: &ContainerSpec, path: &str) -> anyhow::Result<String> {
        let host = container.mounts.iter().rev().find_map(|mount| {
            let rest = Path::new(path).strip_prefix(&mount.target).ok()?;
            Some(if rest.as_os_str().is_empty() { mount.source.clone() } else { mount.source.join(rest) })
        });
        let host = host.with_context(|| format!("{path} is not mounted"))?;
        std::fs::read_to_string(&host).with_context(|| format!("{path} ({})", host.display()))
    }

    /// Waits until an object is as wished; `None` where it is not there.
    ///
    /// # Errors
    /// When it is not after [`WAIT`].
    pub async fn wait_for<K>(
        &self,
        api: &Api<K>,
        name: &str,
        what: &str,
        wished: impl Fn(Option<&K>) -> bool + Send + Sync,
    ) -> anyhow::Result<Option<K>>
    where
        K: kube::Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        until(api, name, what, wished).await
    }
}

async fn embedded(directory: &Path, engine: &FakeEngine) -> anyhow::Result<Embedded> {
    let config = EmbeddedConfig { engines: vec![Arc::new(engine.clone())], ..EmbeddedConfig::new(directory) };
    Embedded::start(config).await.context("start the embedded Kubernetes")
}
