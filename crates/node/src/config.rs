//! What a node is told at its start, and the words it knows.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kubetask_engine::EngineRouter;

/// Pod annotation that names the engine to run a pod with; `runtimeClassName` does the same.
pub const ENGINE_ANNOTATION: &str = "node.kubetask.io/engine";

/// Pod annotation: `none` cuts a pod's containers off from every network but their own loopback.
pub const NETWORK_ANNOTATION: &str = "node.kubetask.io/network";

/// Whether a pod asks to be cut off.
pub(crate) fn isolated(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(NETWORK_ANNOTATION)).is_some_and(|value| value == "none")
}

/// Engine label: the node that started a container.
pub(crate) const NODE_LABEL: &str = "node.kubetask.io/node";
/// Engine label: uid of a container's pod.
pub(crate) const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
/// Engine label: name of a container's pod.
pub(crate) const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";
/// Engine label: namespace of a container's pod.
pub(crate) const POD_NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
/// Engine label: name of a container within its pod.
pub(crate) const CONTAINER_LABEL: &str = "io.kubernetes.container.name";
/// Engine label: number of the run.
pub(crate) const ATTEMPT_LABEL: &str = "node.kubetask.io/attempt";

/// What [`Node::start`](crate::Node::start) needs.
#[derive(Clone)]
pub struct NodeConfig {
    /// Connection to the API server.
    pub client: Client,
    /// Name of the Node object; a valid DNS subdomain.
    pub name: String,
    /// Directory for everything the node keeps: records, volumes, logs, claims. Created with mode 0700.
    pub root_dir: PathBuf,
    /// Directory in memory (tmpfs) for Secrets and `medium: Memory` volumes; `None`: under `root_dir`.
    pub memory_dir: Option<PathBuf>,
    /// The engines; the first is the default.
    pub engines: Arc<EngineRouter>,
    /// Address of the node, and of its pods: they share the host's network.
    pub address: IpAddr,
    /// Greatest number of pods.
    pub max_pods: u32,
    /// Host and port of the API server for pods that mount a service account token.
    pub api_server: Option<(String, u16)>,
    /// Size in bytes at which a container's log is rotated.
    pub log_max_bytes: u64,
    /// Greatest number of log files of one run of a container.
    pub log_max_files: u32,
    /// Shown as the kubelet's version.
    pub version: String,
}

impl NodeConfig {
    /// A configuration with defaults for everything that may have one.
    pub fn new(
        client: Client,
        name: impl Into<String>,
        root_dir: impl Into<PathBuf>,
        engines: Arc<EngineRouter>,
    ) -> Self {
        Self {
            client,
            name: name.into(),
            root_dir: root_dir.into(),
            memory_dir: None,
            engines,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            max_pods: 1000,
            api_server: None,
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            version: concat!("v1.36.2-kubetask.", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A file operation failed.
    #[error("{step} {path}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The name cannot be a Node's.
    #[error("{0:?} cannot be a node's name: use lower-case letters, digits, '-' and '.'")]
    Name(String),
}
