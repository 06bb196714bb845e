//! An embedded Kubernetes API server.
//!
//! **Purpose.** Kubernetes' wire behaviour over an embedded store, for kubectl and every client library.
//!
//! **Main type.** [`ApiServer`]: cheap to clone. [`ApiServer::handle`] answers one request; [`ApiServer::router`] is the same
//! as an axum router, [`ApiServer::service_as`] as a tower service for an in-process `kube::Client`, and
//! [`Server`] puts TLS in front of it.
//!
//! **Data flow.** request → [`request`] (path, query, media types) → [`auth`] (who, and may they) → [`handlers`] (one
//! generic handler per verb over the rows of [`registry`]) → [`object`] (bytes with the resourceVersion baked in) → store.
//! Reads go the other way and send stored bytes as they are.
//!
//! The server knows kinds only as table rows or CustomResourceDefinitions. It knows nothing of what its users build.

pub mod auth;
mod bootstrap;
mod discovery;
mod handlers;
mod kubelet;
mod local;
mod object;
mod print;
mod registry;
mod reply;
mod request;
mod selectors;
mod server;
mod status;
mod strategy;
mod text;
mod tls;

pub use auth::{AuthConfig, User};
pub use kubelet::KubeletService;
pub use local::LocalService;
pub use server::{ApiServer, Config, Limits, StartError, VersionInfo};
pub use tls::{ClientIdentity, GivenFiles, OWN_NAME, Pki, PkiError, ServeOptions, Server};
