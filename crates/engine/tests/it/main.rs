//! Integration tests of the engines.
//!
//! * [`conformance`]: what every engine must do; one list of cases, run against each engine.
//! * [`docker`]: what only the Docker engine promises: images, and surviving crashes of either side.
//! * [`kubernetes`]: what only the Kubernetes engine promises, against another embedded Kubernetes over TLS, or any cluster.
//! * [`rights`]: what the Kubernetes engine may do in a cluster, and does.
//! * [`local`]: what only the local engine promises: its sandbox, and surviving crashes.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod docker;
mod kubernetes;
mod local;
mod rights;
mod router;
mod world;
