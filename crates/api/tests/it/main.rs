//! The CRDs: as they are printed, as Kubernetes judges them, and what they accept and refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod crds;
mod docs;
mod examples;
mod rules;
mod server;
