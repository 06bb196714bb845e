//! YAML as Kubernetes reads it.
//!
//! kubectl and the API server turn YAML into JSON by YAML **1.1** rules (`yes` is a boolean, `0400` is 256), through
//! `sigs.k8s.io/yaml`. This crate does the same, and remembers where each field stood so that an error can name a
//! line. Input is hostile: depth, size and alias expansion are limited.
//!
//! Data flow: text → parser events → [`read`] → [`Document`]s of JSON values; plain scalars go through [`scalar`].

mod error;
mod read;
mod scalar;

pub use error::{Error, ErrorKind};
pub use read::{Document, Limits, Position, Positions, read_all, read_one};
