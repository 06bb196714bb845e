//! The kubelet's stand-in: runs the pods of one node through container engines.
//!
//! **Purpose.** A Node object, pods as sandboxed processes or containers, their volumes, probes, logs and status, over
//! nothing but a `kube::Client` and the engines of `kubetask-engine`.
//!
//! **Main type.** [`Node::start`] gives a [`NodeHandle`]: [`NodeHandle::router`] is the kubelet's HTTP interface,
//! [`NodeHandle::shutdown`] ends the node and leaves the containers running.
//!
//! **Data flow.** watch of pods → `manager` (a pod without a node: `scheduler`) → `driver`, one task a pod, which feeds
//! the pure `machine` with events and does what it asks for: `volumes` and `env` → `record` on disk → engine → wait →
//! status. `server` reads what drivers show (`view`) and the log files (`logs`).
//!
//! **Invariants.**
//! * The machine does no I/O and knows no clock; a driver decides nothing.
//! * A container is started only after its record is on disk, and under an identity that makes a second start the same run.
//! * What may have been started is looked for after a restart, and never started on a guess.
//! * Nothing is taken for an orphan before the API server's list of pods was read to its end.
//! * Nothing polls: an idle node renews its Lease and sleeps.
//!
//! **What is not here**: pod networks (pods share the host's), volume types other than
//! configMap, secret, emptyDir, downwardAPI, projected, hostPath and persistentVolumeClaim.

mod claims;
mod config;
mod driver;
mod engines;
mod env;
mod events;
mod image;
mod logs;
mod machine;
mod manager;
mod names;
mod node;
mod objects;
mod qos;
mod quantity;
mod record;
mod registration;
mod registry;
mod scheduler;
mod server;
mod shared;
mod sources;
mod system;
mod view;
mod volumes;

pub use config::{ENGINE_ANNOTATION, NETWORK_ANNOTATION, NodeConfig, NodeError};
pub use node::{Node, NodeHandle};
