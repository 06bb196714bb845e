//! As a kubectl plugin: called `kubectl-kubetask`, the command belongs to kubectl, and so does the choice of the cluster.

use std::ffi::OsStr;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use crate::args::{Cli, Command};

/// The name under which kubectl finds a plugin `kubetask`; it is what `kubectl kubetask` runs.
const NAME: &str = "kubectl-kubetask";

/// Whether the program was called by that name.
pub(crate) fn is_called_by_kubectl(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == NAME)
}

/// Parses the command line; help speaks of `kubectl kubetask` where it was called that way.
pub(crate) fn parse(plugin: bool) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if plugin {
        command = command
            .bin_name("kubectl kubetask")
            .after_help("Without --context or --kubeconfig, commands talk to kubectl's current context.");
    }
    let mut cli = Cli::from_arg_matches(&command.try_get_matches()?)?;
    if plugin && !is_local(&cli.command) && cli.global.context.is_none() && cli.global.kubeconfig.is_none() {
        cli.global.current_context = true;
    }
    Ok(cli)
}

/// The embedded server is of this machine, whoever calls.
fn is_local(command: &Command) -> bool {
    matches!(command, Command::Up(_) | Command::Down(_) | Command::Status(_) | Command::Kubeconfig(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let called = |program: &str| is_called_by_kubectl(Some(OsStr::new(program)));
        assert!(called("kubectl-kubetask") && called("/usr/local/bin/kubectl-kubetask"));
        assert!(!called("kubetask") && !called("/kubectl-kubetask/kubetask") && !is_called_by_kubectl(None));
    }
}
