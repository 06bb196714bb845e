//! Tests of whole decisions: Jobs as people see them, and what holds for every plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod cluster;
mod fixtures;
mod jobs;
mod lifecycle;
mod properties;
mod security;
mod simulation;
mod truth;
mod waiting;
mod world;
