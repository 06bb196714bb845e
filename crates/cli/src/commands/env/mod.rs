//! `kubetask env`: environments that stay, to run commands in. They need no server: this program talks to the engine.

mod copy;
mod record;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kubetask_engine::EngineError;
use kubetask_engine::traits::ExecSpec;

use crate::args::GlobalArgs;
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::interact::{self, Ended, Session};
use crate::output::{Output, print_table};
use crate::paths::DataDir;
use crate::settings::Backend;
use record::{Environments, Record};

/// Arguments of `kubetask env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EnvCommand,
}

/// The commands of `kubetask env`.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Start an environment and wait until it runs
    Start(Box<StartArgs>),
    /// Run a command in an environment
    Exec(ExecArgs),
    /// Copy files between this machine and an environment
    Cp(CpArgs),
    /// List environments
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// End environments
    Stop(StopArgs),
}

/// Arguments of `kubetask env start`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask env start --name dev --workspace .
  kubetask env start --engine docker --image rust:1 --git https://github.com/me/project
  kubetask env start --engine kubernetes --image agent:1 --pvc workspace --timeout 2m")]
pub struct StartArgs {
    /// Name of the environment [default: a new one]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it runs [default: runner.backend of the configuration, else local]
    #[arg(long, value_name = "ENGINE", value_enum)]
    pub engine: Option<Backend>,
    /// Its image; the local engine uses this machine's programs instead
    #[arg(long, value_name = "IMAGE", default_value = "")]
    pub image: String,
    /// An environment variable; may be given several times
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A directory of this machine as /workspace; a cluster gets a copy of it
    #[arg(long, value_name = "DIR", group = "space")]
    pub workspace: Option<PathBuf>,
    /// A PersistentVolumeClaim (and a path in it) as /workspace
    #[arg(long, value_name = "CLAIM[/PATH]", group = "space")]
    pub pvc: Option<String>,
    /// A directory of the machine that runs it as /workspace
    #[arg(long, value_name = "PATH", group = "space")]
    pub host_path: Option<PathBuf>,
    /// A repository that is cloned into /workspace; the image needs git
    #[arg(long, value_name = "URL[#REF]")]
    pub git: Option<String>,
    /// Numeric user to run as [default: the image's]
    #[arg(long, value_name = "UID")]
    pub user: Option<u32>,
    /// How long it may take until it runs
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = crate::duration::parse)]
    pub timeout: Duration,
    /// What keeps it alive [default: a shell that waits]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `kubetask env exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask env exec dev -- make test
  kubetask env exec -it --user 0 dev -- sh")]
pub struct ExecArgs {
    /// Pass standard input to the command
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Numeric user to run as [default: the environment's]
    #[arg(short, long, value_name = "UID")]
    pub user: Option<u32>,
    /// Directory to run in [default: the environment's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// An environment variable; may be given several times
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Name of the environment
    #[arg(value_name = "ENVIRONMENT")]
    pub name: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", required = true)]
    pub command: Vec<String>,
}

/// Arguments of `kubetask env cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask env cp src/ dev:/workspace/src
  kubetask env cp dev:/workspace/report.md .
The environment needs `tar`. A source directory is copied with its content.")]
pub struct CpArgs {
    /// From: a path, or ENVIRONMENT:PATH
    #[arg(value_name = "FROM")]
    pub from: String,
    /// To: a path, or ENVIRONMENT:PATH
    #[arg(value_name = "TO")]
    pub to: String,
}

/// Arguments of `kubetask env list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Another format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Formats of `kubetask env list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
    /// Names only.
    Name,
}

/// Arguments of `kubetask env stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Names of environments
    #[arg(value_name = "ENVIRONMENT", required_unless_present = "all")]
    pub names: Vec<String>,
    /// All environments
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// How long they may take to end by themselves
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::duration::parse)]
    pub grace: Duration,
}

/// Runs the command.
///
/// # Errors
/// When the engine is not there, or refuses.
pub async fn run(args: EnvArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let environments = Environments::of(&DataDir::resolve(global.data_dir.as_deref())?);
    match args.command {
        EnvCommand::Start(args) => start::run(*args, global, &environments, output).await,
        EnvCommand::Exec(args) => exec(args, &environments, output).await,
        EnvCommand::Cp(args) => copy::run(&args, &environments, output).await,
        EnvCommand::List(args) => list(&args, &environments, output).await,
        EnvCommand::Stop(args) => stop(args, &environments, output).await,
    }
}

/// `NAME=VALUE`.
fn variables(words: &[String]) -> CommandResult<Vec<(String, String)>> {
    let pair = |word: &String| {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CommandError::usage(format!("{word:?}: write NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

/// What an engine says, for the user.
fn said(name: &str, error: &EngineError) -> CommandError {
    match error {
        EngineError::NotFound(_) => CommandError::failure(format!("environment {name:?} does not run any more"))
            .hint(format!("`kubetask env stop {name}` forgets it")),
        EngineError::Invalid(_) | EngineError::Start(_) => CommandError::failure(format!("{name}: {}", chain(error))),
        other => CommandError::failure(chain(other)),
    }
}

async fn exec(args: ExecArgs, environments: &Environments, output: Output) -> CommandResult {
    if args.tty && args.stdin && !interact::has_terminal() {
        return Err(CommandError::usage("-t: standard input is no terminal").hint("leave -t out"));
    }
    let record = environments.get(&args.name)?;
    let engine = environments.engine(record.engine, record.settings().kubernetes())?;
    let spec = ExecSpec {
        command: args.command,
        env: variables(&args.env)?,
        user: args.user,
        tty: args.tty,
        stdin: args.stdin,
        working_dir: args.workdir,
    };
    let session = engine.exec(&record.id(), &spec).await.map_err(|error| said(&args.name, &error))?;
    let wanted = Session { stdin: args.stdin, tty: args.tty, detachable: false };
    Ok(match interact::run_engine(session, wanted, output).await? {
        Ended::Code(code) => code,
        Ended::Detached => exit_codes::OK,
    })
}

/// In words what became of an environment.
async fn state(record: &Record, environments: &Environments) -> String {
    let ask = async {
        let engine =
            environments.engine(record.engine, record.settings().kubernetes()).map_err(|e| e.lines.join(" "))?;
        match engine.inspect(&record.id()).await {
            Ok(state) => Ok(match state.exit {
                None => "Running".to_owned(),
                Some(exit) => format!("Ended ({})", exit.error.unwrap_or_else(|| format!("exit code {}", exit.code))),
            }),
            Err(EngineError::NotFound(_)) => {
                let all = engine.list(None).await.unwrap_or_default();
                let waiting = all.iter().any(|state| state.id == record.id() && state.exit.is_none());
                Ok(if waiting { "Pending" } else { "Gone" }.to_owned())
            }
            Err(error) => Err(chain(&error)),
        }
    };
    ask.await.unwrap_or_else(|error| format!("Unknown ({error})"))
}

async fn list(args: &ListArgs, environments: &Environments, output: Output) -> CommandResult {
    let all = environments.all()?;
    if args.output == Some(Format::Name) {
        for record in &all {
            output.data(&record.name);
        }
        return Ok(exit_codes::OK);
    }
    let states = futures::future::join_all(all.iter().map(|record| state(record, environments))).await;
    if args.output == Some(Format::Json) {
        let items = all.iter().zip(&states).map(|(record, state)| {
            let mut value = serde_json::to_value(record).unwrap_or_default();
            value["state"] = state.clone().into();
            value
        });
        output.data(&serde_json::Value::from(items.collect::<Vec<_>>()).to_string());
        return Ok(exit_codes::OK);
    }
    if all.is_empty() {
        output.say("there are no environments");
        return Ok(exit_codes::OK);
    }
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .zip(states)
        .map(|(record, state)| {
            let since = record.created.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
            vec![record.name, record.engine.name().to_owned(), state, since, record.image]
        })
        .collect();
    for line in print_table(&["NAME", "ENGINE", "STATE", "SINCE", "IMAGE"].map(str::to_owned), &rows) {
        output.data(&line);
    }
    Ok(exit_codes::OK)
}

async fn stop(args: StopArgs, environments: &Environments, output: Output) -> CommandResult {
    let records = if args.all {
        environments.all()?
    } else {
        args.names.iter().map(|name| environments.get(name)).collect::<CommandResult<_>>()?
    };
    for record in records {
        end(&record, environments, args.grace).await?;
        output.say(format!("environment {} stopped", record.name));
    }
    Ok(exit_codes::OK)
}

/// Ends an environment and forgets it.
async fn end(record: &Record, environments: &Environments, grace: Duration) -> CommandResult<()> {
    let engine = environments.engine(record.engine, record.settings().kubernetes())?;
    match engine.stop(&record.id(), grace).await {
        Ok(_) | Err(EngineError::NotFound(_)) => {}
        Err(error) => return Err(said(&record.name, &error)),
    }
    engine.remove(&record.id()).await.map_err(|error| said(&record.name, &error))?;
    environments.forget(&record.name)
}
