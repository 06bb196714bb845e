//! The node against a real API server in the same process: with the scripted engine, and, as a whole program that is
//! killed and started again, with the local engine.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails may panic")]

mod claims;
mod kubelet;
mod lifecycle;
mod program;
mod restart;
mod scheduling;
mod world;
