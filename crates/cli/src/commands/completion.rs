//! `kubetask completion`: a completion script for a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CommandResult;
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    pub shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// None.
pub fn run(args: &CompletionArgs, output: Output) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kubetask", &mut script);
    output.raw(&script);
    Ok(exit_codes::OK)
}
