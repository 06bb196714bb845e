//! How an embedded Kubernetes is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kubetask_apiserver::GivenFiles;
use kubetask_engine::{ContainerEngine, KubernetesOptions};
use kubetask_store::Permit;

/// What shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// API server, controllers and node.
    Full,
    /// Only the API server, for a look at stored objects: nothing happens by itself, and there are no logs.
    Passive,
}

/// Names and certificates of the server.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Host names and addresses for the certificate that is made, besides the usual ones.
    pub names: Vec<String>,
    /// Certificates that somebody else made.
    pub given: GivenFiles,
}

/// How an embedded Kubernetes is set up.
pub struct EmbeddedConfig {
    /// Directory for everything it keeps; created with mode 0700.
    pub data_dir: PathBuf,
    /// What shall run.
    pub mode: Mode,
    /// Where to serve the API over TLS; `None` serves it only in this process. Port 0 takes the port of last time if
    /// it is free, else any.
    pub listen: Option<SocketAddr>,
    /// Name of the one node.
    pub node_name: String,
    /// The program that keeps containers (`__shim`) and that containers of KubeTask's own image run.
    pub program: PathBuf,
    /// Container engines, the first is the default; none: local, Docker and Kubernetes.
    pub engines: Vec<Arc<dyn ContainerEngine>>,
    /// The engine of pods that ask for none: `local`, `docker` or `kubernetes`.
    pub default_engine: String,
    /// Whether all pods run by the default engine, whatever they ask for.
    pub only_default_engine: bool,
    /// The cluster of the `kubernetes` engine.
    pub kubernetes: KubernetesOptions,
    /// Names and certificates of the server.
    pub tls: TlsConfig,
    /// Where something besides the lock of the store says who may write: it is asked before each commit, and a file
    /// system without locks is taken as it is.
    pub permit: Option<Permit>,
    /// Files and directories of this machine that containers must not see, besides the data directory.
    pub hide: Vec<PathBuf>,
    /// Version shown by the API and the node.
    pub version: String,
    /// Commit shown by the API.
    pub commit: String,
}

impl EmbeddedConfig {
    /// A full one in this directory, not listening.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            mode: Mode::Full,
            listen: None,
            node_name: "local".to_owned(),
            // What was started stays reachable under this name even when the file is replaced by a newer one.
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
            engines: Vec::new(),
            default_engine: "local".to_owned(),
            only_default_engine: false,
            kubernetes: KubernetesOptions::default(),
            tls: TlsConfig::default(),
            permit: None,
            hide: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: String::new(),
        }
    }
}
