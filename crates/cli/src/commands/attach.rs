//! `kubetask attach`: the streams of a task's agent itself.

use clap::Args;

use crate::args::GlobalArgs;
use crate::connect::{self, Need};
use crate::error::CommandResult;
use crate::exit_codes;
use crate::interact::{self, Ended, Session, target};
use crate::output::Output;

/// Arguments of `kubetask attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without -i, Ctrl-C leaves the agent alone. With -it, Ctrl-] does; Ctrl-C goes to the agent.
`kubetask logs -f` shows what was written before, too.")]
pub struct AttachArgs {
    /// Pass standard input to the agent
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// The agent has a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// The container [default: the agent's]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Name of the task, or pod/NAME
    #[arg(value_name = "TASK")]
    pub name: String,
}

/// Runs the command; ends when the agent ends or the user leaves. Kubernetes does not tell the agent's exit code here.
///
/// # Errors
/// When the task does not run.
pub async fn run(args: AttachArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let result = async {
        let target = target::find(&connection, &args.name, args.container.as_deref()).await?;
        let session = Session { stdin: args.stdin, tty: args.tty, detachable: args.stdin && args.tty };
        let params = kube::api::AttachParams::default()
            .container(&target.container)
            .stdin(args.stdin)
            .stdout(true)
            .stderr(!args.tty)
            .tty(args.tty);
        let process = target.pods.attach(&target.pod, &params).await.map_err(|e| target.said(&e))?;
        interact::run(process, session, output).await
    }
    .await;
    connection.close().await;
    Ok(match result? {
        Ended::Code(code) => code,
        Ended::Detached => {
            output.say("left; the agent goes on");
            exit_codes::OK
        }
    })
}
