//! The `kubetask` binary.

use std::process::ExitCode;

/// musl's own allocator has one lock for all threads. That of other C libraries is kept: each agent has processes of this
/// program, and in those another allocator would be most of the memory.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kubetask::main()
}
