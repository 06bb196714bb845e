//! A program that is nothing but a shim, for programs that use the local engine and cannot be one themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(kubetask_engine::SHIM_ARGUMENT) {
        return kubetask_engine::shim_main(std::env::args_os());
    }
    eprintln!("this program is started by KubeTask's local engine");
    ExitCode::from(2)
}
