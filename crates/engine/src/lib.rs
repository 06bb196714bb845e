//! Container engines: one interface, several ways to run a container.
//!
//! * [`spec`]: what to run, as data.
//! * [`traits`]: the [`ContainerEngine`] interface.
//! * [`local`]: containers as sandboxed processes of this machine, without any daemon or image.
//! * [`docker`]: containers of a Docker Engine, or of Podman.
//! * [`kubernetes`]: containers as Pods of a cluster.
//! * [`router`]: several engines behind names that can be stored.
//! * [`fake`]: an engine that follows a script, for the tests of whoever uses an engine.
//! * [`image`]: recognition of KubeTask's own image.
//!
//! A library of its own: it knows nothing of Tasks, nor of the Pods whose containers a node runs with it.

use std::ffi::OsString;
use std::process::ExitCode;

mod check;
mod control;
mod dir;
pub mod docker;
pub mod fake;
pub mod image;
mod input;
pub mod kubernetes;
pub mod local;
mod log;
mod resume;
pub mod router;
mod runtime;
mod sandbox;
mod shim;
pub mod spec;
mod sys;
pub mod traits;

pub use docker::DockerEngine;
pub use fake::FakeEngine;
pub use image::OWN_IMAGE_REPOSITORY;
pub use kubernetes::{KubernetesEngine, KubernetesOptions};
pub use local::{LocalEngine, LocalOptions};
pub use router::EngineRouter;
pub use traits::{ContainerEngine, EngineError};

/// First argument with which a program is a shim and must call [`shim_main`] at once, before it does anything else (no
/// threads, no runtime).
pub const SHIM_ARGUMENT: &str = "__shim";

/// What a program started with [`SHIM_ARGUMENT`] does: it keeps one container of the [`LocalEngine`] and ends with it.
/// `args` are all arguments of the process, its name included.
pub fn shim_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    shim::main(args.skip(2))
}
