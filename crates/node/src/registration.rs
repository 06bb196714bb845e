//! The Node object and its Lease.
//!
//! Written when they differ from what they should be, and the Lease now and then: an idle node is idle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use crate::config::NodeConfig;
use crate::shared::Shared;
use crate::system;

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a Lease holds, and how often it is renewed.
const LEASE: (i32, Duration) = (40, Duration::from_secs(15));

/// What the node offers to pods.
pub(crate) fn allocatable(config: &NodeConfig) -> BTreeMap<String, Quantity> {
    let quantities = [
        ("cpu", system::cpus().to_string()),
        ("memory", format!("{}Ki", system::memory_kib())),
        ("pods", config.max_pods.to_string()),
    ];
    quantities.into_iter().map(|(name, value)| (name.to_owned(), Quantity(value))).collect()
}

/// The Node as it should be.
pub(crate) fn node(config: &NodeConfig, now: Timestamp) -> Node {
    let name = &config.name;
    let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", system::architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", system::architecture()),
    ];
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let resources = allocatable(config);
    Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(NodeStatus {
            capacity: Some(resources.clone()),
            allocatable: Some(resources),
            addresses: Some(vec![address("InternalIP", config.address.to_string()), address("Hostname", name.clone())]),
            conditions: Some(vec![
                condition(
                    "MemoryPressure",
                    "False",
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ]),
            daemon_endpoints: Some(NodeDaemonEndpoints::default()),
            node_info: Some(NodeSystemInfo {
                architecture: system::architecture().to_owned(),
                boot_id: system::boot_id(),
                container_runtime_version: format!(
                    "{}://{}",
                    config.engines.names().join("+"),
                    env!("CARGO_PKG_VERSION")
                ),
                kernel_version: system::kernel(),
                kube_proxy_version: String::new(),
                kubelet_version: config.version.clone(),
                machine_id: system::machine_id(),
                operating_system: "linux".to_owned(),
                os_image: system::os_image(),
                system_uuid: system::machine_id(),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }),
    }
}

/// Creates or corrects the Node.
///
/// # Errors
/// Those of the API server.
async fn register(api: &Api<Node>, config: &NodeConfig) -> Result<Node, kube::Error> {
    let wanted = node(config, Timestamp::now());
    match api.get_opt(&config.name).await? {
        None => api.create(&PostParams::default(), &wanted).await?,
        Some(found) => {
            let known = found.metadata.labels.unwrap_or_default();
            let labels = wanted.metadata.labels.clone().unwrap_or_default();
            if labels.iter().any(|(key, value)| known.get(key) != Some(value)) {
                let patch = json!({"metadata": {"labels": labels}});
                api.patch(&config.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            return write_status(api, config, &wanted).await;
        }
    };
    // A status that came with a create is not taken by every server.
    write_status(api, config, &wanted).await
}

async fn write_status(api: &Api<Node>, config: &NodeConfig, wanted: &Node) -> Result<Node, kube::Error> {
    api.patch_status(&config.name, &PatchParams::default(), &Patch::Merge(json!({"status": wanted.status}))).await
}

/// Keeps the Node registered and shows it to the scheduler, until the node ends.
pub(crate) async fn run(shared: Arc<Shared>, current: watch::Sender<Option<Arc<Node>>>) {
    let api: Api<Node> = Api::all(shared.client());
    let name = &shared.config.name;
    let mut wait = Duration::from_millis(50);
    loop {
        match register(&api, &shared.config).await {
            Ok(node) => {
                current.send_replace(Some(Arc::new(node)));
                break;
            }
            Err(error) => tracing::warn!(%error, "node not registered; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let stream = watcher(api.clone(), only).default_backoff();
    pin_mut!(stream);
    let mut uid = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => {
                if node.metadata.uid != uid {
                    uid.clone_from(&node.metadata.uid);
                }
                current.send_replace(Some(Arc::new(node)));
            }
            Ok(watcher::Event::Delete(_)) => {
                tracing::warn!("the Node object was deleted; registering again");
                if let Err(error) = register(&api, &shared.config).await {
                    tracing::warn!(%error, "node not registered");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "watch of the node"),
        }
    }
}

/// Renews the Lease until the node ends.
pub(crate) async fn renew(client: Client, name: String, mut current: watch::Receiver<Option<Arc<Node>>>) {
    let api: Api<Lease> = Api::namespaced(client, LEASE_NAMESPACE);
    loop {
        let owner = current.borrow_and_update().as_ref().and_then(|node| {
            Some(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: node.metadata.uid.clone()?,
                ..OwnerReference::default()
            })
        });
        if let Some(owner) = owner
            && let Err(error) = renew_once(&api, &name, owner).await
        {
            tracing::debug!(%error, "node lease not renewed");
        }
        if current.borrow().is_none() {
            if current.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::time::sleep(LEASE.1).await;
    }
}

async fn renew_once(api: &Api<Lease>, name: &str, owner: OwnerReference) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE.0}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(error)) if error.code == 404 => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(LEASE.0),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}
