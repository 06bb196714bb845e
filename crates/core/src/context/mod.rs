//! Contexts become files.
//!
//! [`resolve`](fn@resolve) takes an Agent's and a Task's contexts in order and what they refer to, and says what must be stored
//! (in an owned ConfigMap, and in an owned Secret for everything that includes Secret content), where it is mounted,
//! and what an init container has to fetch first ([`fetch`]).

mod aggregate;
mod conflicts;
pub mod fetch;
mod resolve;

pub use aggregate::aggregate;
pub use resolve::{Checkout, DirMount, DirSource, FileMount, HeaderSecret, Resolved, Store, resolve};

/// Where a Task's prompt goes.
pub const PROMPT_PATH: &str = "/workspace/task.md";
/// The workspace volume's mount path.
pub const WORKSPACE: &str = "/workspace";
/// The most that the data of one ConfigMap or Secret may weigh.
pub const OBJECT_MAX: usize = 1024 * 1024;
