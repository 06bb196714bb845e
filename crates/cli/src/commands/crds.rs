//! `kubetask crds`: the custom resource definitions, for `kubectl apply -f -`.

use clap::Args;

use crate::error::CommandResult;
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask crds`.
#[derive(Debug, Args)]
pub struct CrdsArgs {}

/// Runs the command.
///
/// # Errors
/// None.
pub fn run(output: Output) -> CommandResult {
    output.raw(kubetask_api::crds_yaml().as_bytes());
    Ok(exit_codes::OK)
}
