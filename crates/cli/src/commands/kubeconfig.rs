//! `kubetask kubeconfig`: how kubectl and other clients reach the embedded server.

use clap::Args;

use crate::args::GlobalArgs;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;
use crate::paths::DataDir;

/// Arguments of `kubetask kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Print the content (it holds the key to the server) instead of the path
    #[arg(long)]
    pub raw: bool,
}

/// Runs the command.
///
/// # Errors
/// When no server has run here yet.
pub fn run(args: &KubeconfigArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let path = DataDir::resolve(global.data_dir.as_deref())?.kubeconfig();
    if !path.exists() {
        return Err(CommandError::failure(format!("{}: not there yet", path.display()))
            .hint("`kubetask up --detach` starts the server and writes it"));
    }
    if args.raw {
        output.raw(&std::fs::read(&path).map_err(|e| CommandError::failure(format!("{}: {e}", path.display())))?);
    } else {
        output.data(&path.display().to_string());
    }
    Ok(exit_codes::OK)
}
