//! Container engines: one interface, several ways to run a container.
//!
//! * [`spec`]: what to run, as data.
//! * [`traits`]: the [`ContainerEngine`](traits::ContainerEngine) interface.
//!
//! A library of its own: it knows nothing of Tasks or Pods.

pub mod spec;
pub mod traits;
