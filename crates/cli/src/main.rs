//! The `kubetask` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubetask::main()
}
