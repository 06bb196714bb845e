//! `kubetask exec`: a command beside a task's agent, in its container.

use clap::Args;

use crate::args::GlobalArgs;
use crate::connect::{self, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::interact::{self, Ended, Session, target};
use crate::output::Output;

/// Arguments of `kubetask exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask exec fix-tests -- git status
  kubetask exec -it fix-tests -- sh")]
pub struct ExecArgs {
    /// Pass standard input to the command
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// The container [default: the agent's]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Name of the task, or pod/NAME
    #[arg(value_name = "TASK")]
    pub name: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", required = true)]
    pub command: Vec<String>,
}

/// Runs the command; ends with the code of the command in the container.
///
/// # Errors
/// When the task does not run, or the command cannot be started.
pub async fn run(args: ExecArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    if args.tty && args.stdin && !interact::has_terminal() {
        return Err(CommandError::usage("-t: standard input is no terminal").hint("leave -t out"));
    }
    let connection = connect::connect(global, Need::Everything).await?;
    let result = async {
        let target = target::find(&connection, &args.name, args.container.as_deref()).await?;
        let session = Session { stdin: args.stdin, tty: args.tty, detachable: false };
        interact::exec(&target, &args.command, session, output).await
    }
    .await;
    connection.close().await;
    Ok(match result? {
        Ended::Code(code) => code,
        Ended::Detached => exit_codes::OK,
    })
}
