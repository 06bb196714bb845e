//! The `kubetask` binary as people use it: real processes, a real store, real sandboxes.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agents;
mod bad_input;
mod changes;
mod cli;
mod clients;
mod conformance;
mod controller;
mod convert;
mod crash;
mod cron;
mod daemon;
mod deploy;
mod docker;
mod dockerd;
mod engines;
mod env;
mod examples;
mod interact;
mod kubectl;
mod leaks;
mod machine;
mod other_cluster;
mod pages;
mod python;
mod run;
mod rust_client;
mod server;
mod streams;
