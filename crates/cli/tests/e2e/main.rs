//! The end-to-end suite: what PRODUCT promises, seen through the Kubernetes API alone.
//!
//! `KUBETASK_E2E_KUBECONFIG=… cargo test -p kubetask --test e2e` runs it against a cluster (1.30 or newer) on which KubeTask
//! is installed; without the variable, against `kubetask up` of this build. docs/e2e.md describes it. Nothing here may
//! rely on the embedded server: no sandbox, no fake engine, no path of this machine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod contexts;
mod human;
mod lifecycle;
mod makers;
mod world;
