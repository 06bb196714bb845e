//! `kubetask status`: whether the embedded server runs, and where.

use clap::{Args, ValueEnum};

use crate::args::GlobalArgs;
use crate::connect::find_running;
use crate::error::CommandResult;
use crate::exit_codes;
use crate::output::Output;
use crate::paths::DataDir;

/// Arguments of `kubetask status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Formats of `kubetask status`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
}

/// Runs the command. Exit code 1 when no server runs.
///
/// # Errors
/// When there is no data directory to look in.
pub fn run(args: &StatusArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    let running = find_running(&data_dir);
    match (args.output, &running) {
        (Some(Format::Json), _) => output.data(
            &serde_json::json!({
                "running": running.is_some(),
                "server": running,
                "dataDir": data_dir.root(),
                "kubeconfig": data_dir.kubeconfig(),
            })
            .to_string(),
        ),
        (None, Some(info)) => {
            output.data(&format!("running   pid {}, version {}, since {}", info.pid, info.version, info.started_at));
            output.data(&format!("server    {}", info.server));
            output.data(&format!("data      {}", data_dir.root().display()));
            output.data(&format!("kubectl   export KUBECONFIG={}", data_dir.kubeconfig().display()));
        }
        (None, None) => {
            output.data("not running");
            output.data(&format!("data      {}", data_dir.root().display()));
        }
    }
    Ok(if running.is_some() { exit_codes::OK } else { exit_codes::FAILURE })
}
