//! The `kubetask` binary as people use it: real processes, a real store, real sandboxes.

mod bad_input;
mod cli;
mod crash;
mod examples;
mod kubectl;
mod machine;
mod python;
mod run;
mod rust_client;
mod server;
