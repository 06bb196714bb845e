//! Integration tests: recorded behaviour of a Kubernetes API server, and laws that must hold for any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod apply;
mod fixture;
mod laws;
mod patches;
mod recorded;
mod strategic;
mod tracking;
