//! The controllers against our own API server, in-process. What runs Pods here is [`kubelet`], which does what a Pod's
//! annotation says.

mod crd;
mod gc;
mod job;
mod kubelet;
mod namespace;

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Resource};
use kubetask_apiserver::{ApiServer, Config, User};
use kubetask_controllers::{Handle, Options};
use kubetask_store::Store;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster in memory.
struct Cluster {
    client: Client,
    controllers: Handle,
    _kubelet: tokio::task::JoinHandle<()>,
}

impl Cluster {
    async fn start() -> Result<Cluster> {
        // With RUST_LOG=kubetask_controllers=debug a test tells what happened.
        let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
        let store = Store::in_memory(kubetask_store::Options::default())?;
        let server = ApiServer::new(Config::new(store))?;
        let client = |name: &str| Client::new(server.service_as(User::admin(name), name), "default");
        let options = Options { root_ca: Some("the root".to_owned()), ..Options::default() };
        let controllers = kubetask_controllers::start(client("kube-controller-manager"), options);
        let kubelet = tokio::spawn(kubelet::run(client("kubelet")));
        let cluster = Cluster { client: client("test"), controllers, _kubelet: kubelet };
        // No Pod can be created before its namespace has its account.
        let accounts = cluster.api::<ServiceAccount>();
        cluster.until("the default account", async |_| Ok(accounts.get_opt("default").await?)).await?;
        Ok(cluster)
    }

    fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn api<K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn maps(&self) -> Api<ConfigMap> {
        self.api()
    }

    fn custom(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.test", "v1", kind), plural);
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, what: &str, look: impl AsyncFn(&Cluster) -> Result<Option<T>>) -> Result<T> {
        let started = tokio::time::Instant::now();
        loop {
            if let Some(found) = look(self).await? {
                return Ok(found);
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_gone<K>(&self, api: &Api<K>, name: &str) -> Result<()>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        self.until(&format!("{name} to go"), async |_| Ok(api.get_opt(name).await?.is_none().then_some(()))).await
    }
}

async fn create<K>(api: &Api<K>, body: Value) -> Result<K>
where
    K: Clone + DeserializeOwned + serde::Serialize + Debug,
{
    let object: K = serde_json::from_value(body.clone())?;
    api.create(&PostParams::default(), &object).await.with_context(|| format!("creating {body}"))
}

fn uid<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}
