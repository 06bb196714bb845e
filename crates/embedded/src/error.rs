//! Why an embedded Kubernetes did not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use kubetask_engine::EngineError;
use kubetask_node::NodeError;
use kubetask_store::OpenError;

/// Why an embedded Kubernetes did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be opened; see [`OpenError::Locked`] for "somebody else runs here".
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] kubetask_apiserver::PkiError),
    /// The API server.
    #[error(transparent)]
    Api(#[from] kubetask_apiserver::StartError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No engine works here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A file or directory.
    #[error("cannot {step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
