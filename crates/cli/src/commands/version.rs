//! `kubetask version`.

use clap::{Args, ValueEnum};

use crate::error::CommandResult;
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Formats of `kubetask version`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
}

/// Runs the command.
///
/// # Errors
/// None.
pub fn run(args: &VersionArgs, output: Output) -> CommandResult {
    match args.output {
        None => output.data(&format!("kubetask {}", crate::version::long())),
        Some(Format::Json) => output.data(
            &serde_json::json!({"version": crate::version::short(), "gitCommit": crate::version::commit()}).to_string(),
        ),
    }
    Ok(exit_codes::OK)
}
