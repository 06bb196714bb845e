//! `kubetask context`: what the init containers of a Task's pod run to bring repositories and
//! remote files in, and to tell what became of repositories.
//!
//! What they are told is plain data made by `kubetask_core::context::fetch`; secrets come as mounted files or environment
//! variables and never stand on a command line.

mod changes;
mod fetch;
mod git;

#[cfg(test)]
pub(crate) use git::clone_for_tests;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::error::CommandResult;

/// Arguments of `kubetask context`.
#[derive(Debug, Args)]
pub struct ContextArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Clone the repository that the environment variable KUBETASK_CONTEXT describes
    Git,
    /// Wait for the agent's end, and tell what it changed in the repositories that KUBETASK_CONTEXT describes
    Changes,
    /// Fetch and assemble the files of a plan
    Fetch {
        /// The plan, as JSON
        plan: PathBuf,
    },
}

/// Answers git's question for a user name or password, on stdout.
pub fn answer() {
    if let Some(answer) = git::askpass() {
        println!("{answer}");
    }
}

/// Runs the command.
///
/// # Errors
/// When something cannot be fetched; the message ends up in the Task's status.
pub fn run(args: &ContextArgs) -> CommandResult {
    let result = match &args.what {
        What::Git => git::run(),
        What::Changes => changes::run(),
        What::Fetch { plan } => fetch::run(plan),
    };
    if let Err(error) = &result {
        // The termination message is how the operator, and so the user, hears of it.
        let _ = std::fs::write("/dev/termination-log", error.lines.join("; "));
    }
    result
}
