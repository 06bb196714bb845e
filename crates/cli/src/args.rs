//! The command line: global options and the list of commands. Each command's own options live in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Run AI-agent tasks: on this machine with nothing else installed, or on a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "kubetask", version = crate::version::short(), long_version = crate::version::long(), max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "Without --context or --kubeconfig, commands talk to KubeTask's own server on this machine.")]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Namespace; default: the context's own, or "default"
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Use this context of the kubeconfig: a real cluster instead of the server on this machine
    #[arg(long, global = true, value_name = "NAME", env = "KUBETASK_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
    /// Use this kubeconfig: a real cluster instead of the server on this machine
    #[arg(long, global = true, value_name = "FILE", env = "KUBETASK_KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Use kubectl's current context: set when kubectl calls.
    #[arg(skip)]
    pub current_context: bool,
    /// Directory of the embedded server's store, logs and keys [default: $XDG_DATA_HOME/kubetask]
    #[arg(long, global = true, value_name = "DIR", env = "KUBETASK_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tell more of what happens inside; twice for still more (on stderr)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: ColorChoice,
}

/// When to use colour: `auto`, `always`, `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run tasks and follow them to the end
    Run(commands::run::RunArgs),
    /// Start the embedded server
    Up(Box<commands::up::UpArgs>),
    /// Stop the embedded server; running agents go on
    Down(commands::down::DownArgs),
    /// Run the operator alone, for a cluster (what its Deployment runs)
    Controller(Box<commands::controller::ControllerArgs>),
    /// Tell whether the embedded server runs, and where
    Status(commands::status::StatusArgs),
    /// Print the path, or the content, of the embedded server's kubeconfig
    Kubeconfig(commands::kubeconfig::KubeconfigArgs),
    /// Agents for well-known programs, ready to use
    Agent(commands::agent::AgentArgs),
    /// Create or change objects from manifests
    Apply(commands::apply::ApplyArgs),
    /// List objects
    Get(commands::get::GetArgs),
    /// Show one object with everything that explains it
    Describe(commands::describe::DescribeArgs),
    /// Print what a task's agent wrote
    Logs(commands::logs::LogsArgs),
    /// Show what a task's agent changed in its repositories, or apply it here
    Changes(commands::changes::ChangesArgs),
    /// Wait until tasks end, or meet a condition
    Wait(commands::wait::WaitArgs),
    /// End a running task's agent; its log stays
    Stop(commands::stop::StopArgs),
    /// Scheduled tasks: run now, suspend, resume, show what comes
    Cron(commands::cron::CronArgs),
    /// Batches: run, pause, resume, run again what failed
    Batch(commands::batch::BatchArgs),
    /// Hold tasks back, or let them pause
    Suspend(commands::steer::SuspendArgs),
    /// Let suspended tasks go on
    Resume(commands::steer::SuspendArgs),
    /// Run a task that has ended once more
    Retry(commands::steer::RetryArgs),
    /// Environments that stay, to run commands in, on any engine
    Env(commands::env::EnvArgs),
    /// Run a command beside a task's agent, in its container
    Exec(commands::exec::ExecArgs),
    /// Connect to the streams of a task's agent
    Attach(commands::attach::AttachArgs),
    /// Copy files between this machine and a task's container
    Cp(commands::cp::CpArgs),
    /// Watch and steer tasks on the terminal
    Top(commands::top::TopArgs),
    /// Delete objects
    Delete(commands::delete::DeleteArgs),
    /// Install the operator into a cluster, or upgrade it
    Install(commands::install::InstallArgs),
    /// Remove the operator from a cluster
    Uninstall(commands::uninstall::UninstallArgs),
    /// Print the custom resource definitions
    Crds(commands::crds::CrdsArgs),
    /// Turn manifests of the older API (WorkspaceConfig) into today's
    Convert(commands::convert::ConvertArgs),

    /// Print a completion script for a shell
    Completion(commands::completion::CompletionArgs),
    /// Print the version
    Version(commands::version::VersionArgs),
    /// Prepare a task's contexts (runs inside the task's pod)
    #[command(hide = true)]
    Context(commands::context::ContextArgs),
    /// Run a task's agent on another cluster (what relays run)
    #[command(hide = true)]
    Relay(commands::relay::RelayArgs),
}
