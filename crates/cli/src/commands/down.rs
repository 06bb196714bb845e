//! `kubetask down`: end the embedded server. Agents go on; the next server finds them again.

use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::args::GlobalArgs;
use crate::connect::find_running;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;
use crate::paths::DataDir;

/// Arguments of `kubetask down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// How long to wait for the server to end
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::duration::parse)]
    pub timeout: Duration,
}

/// Runs the command.
///
/// # Errors
/// When the server does not end.
pub fn run(args: &DownArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    let Some((info, pid)) = find_running(&data_dir).and_then(|info| Pid::from_raw(info.pid).map(|pid| (info, pid)))
    else {
        output.say("not running");
        return Ok(exit_codes::OK);
    };
    kill_process(pid, Signal::TERM)
        .map_err(|e| CommandError::failure(format!("cannot signal the server (pid {}): {e}", info.pid)))?;
    let start = Instant::now();
    while test_kill_process(pid).is_ok() {
        if start.elapsed() > args.timeout {
            return Err(CommandError::failure(format!("the server (pid {}) is still shutting down", info.pid)));
        }
        // Nothing tells of the end of a process that is not our child; pidfds need a newer kernel than some have.
        std::thread::sleep(Duration::from_millis(20));
    }
    output.say(format!("stopped (pid {}); agents that run go on", info.pid));
    Ok(exit_codes::OK)
}
