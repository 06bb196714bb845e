//! Talking to a process in a task's pod: streams, terminal, exit code. The same for every engine, because everything
//! goes through the Kubernetes API.

mod raw;
mod session;
pub mod target;

pub use raw::RawTerminal;
pub(crate) use session::has_terminal;
pub use session::{Ended, Session, exec, run, run_engine};
