//! The kubelet's stand-in: runs the pods of one node through container engines.

#![allow(dead_code, reason = "draft")]
mod config;
mod env;
mod image;
mod machine;
mod names;
mod objects;
mod qos;
mod quantity;
mod record;

pub use config::{ENGINE_ANNOTATION, NETWORK_ANNOTATION, NodeConfig, NodeError};
