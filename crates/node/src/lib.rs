//! The kubelet's stand-in: runs the pods of one node through container engines.

mod claims;
mod config;
mod driver;
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
mod scheduler;
mod server;
mod shared;
mod sources;
mod system;
mod view;
mod volumes;

pub use config::{ENGINE_ANNOTATION, NETWORK_ANNOTATION, NodeConfig, NodeError};
pub use node::{Node, NodeHandle};
