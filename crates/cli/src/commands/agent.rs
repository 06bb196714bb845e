//! `kubetask agent`: Agents for well-known programs, ready to use.

pub(super) mod catalog;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use self::catalog::{KNOWN, Known, Wanted};
use super::{apply, get};
use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::manifest::Manifest;
use crate::output::{Output, print_table};

/// Arguments of `kubetask agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask agent list
  ANTHROPIC_API_KEY=… kubetask agent add claude
  kubetask run --agent claude --repo \"fix the failing test\"
  kubetask agent show gemini --image registry.example.com/gemini:1 | kubectl apply -f -")]
pub struct AgentArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the programs that are known, and whether they are installed here
    List,
    /// Print the manifest of an Agent
    Show(WantedArgs),
    /// Create or renew an Agent, and a Secret with its key
    Add(AddArgs),
}

#[derive(Debug, Args)]
struct WantedArgs {
    /// Which program: see `kubetask agent list`
    #[arg(value_name = "PROGRAM")]
    program: String,
    /// Name of the Agent [default: the program's]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The container image that has the program; clusters, and --runtime other than Local, need one
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Which engine of `kubetask up` runs it
    #[arg(long, value_name = "ENGINE")]
    runtime: Option<Runtime>,
    /// A Secret that has the key for the model [default: PROGRAM-key]
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Environment variable for it, NAME=VALUE, or NAME to pass on this one's; may be given several times
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    wanted: WantedArgs,
    /// It needs no key
    #[arg(long, conflicts_with = "secret")]
    no_key: bool,
}

/// An engine of the embedded node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Runtime {
    Local,
    Docker,
    Kubernetes,
}

/// Runs the command.
///
/// # Errors
/// When the program is not known, has no key, or the server says no.
pub async fn run(args: AgentArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    match args.what {
        What::List => list(output),
        What::Show(args) => {
            let known = known(&args.program)?;
            let wanted = wanted(known, &args)?;
            get::print_value(&known.agent(&wanted), get::Format::Yaml, output).map(|()| exit_codes::OK)
        }
        What::Add(args) => add(args, global, output).await,
    }
}

fn list(output: Output) -> CommandResult {
    let headers = ["PROGRAM", "TITLE", "KEY", "HERE", "INSTALL"].map(str::to_owned);
    let rows = KNOWN.iter().map(|known| {
        let here = if on_path(known.program).is_some() { "yes" } else { "no" };
        [known.name, known.title, known.key, here, known.install].map(str::to_owned).to_vec()
    });
    print_table(&headers, &rows.collect::<Vec<_>>()).iter().for_each(|line| output.data(line));
    Ok(exit_codes::OK)
}

fn known(program: &str) -> CommandResult<&'static Known> {
    catalog::find(program).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        CommandError::usage(format!("{program:?} is not known here; known are {}", names.join(", ")))
            .hint("any program can be an Agent: see docs/agent.md")
    })
}

fn wanted(known: &Known, args: &WantedArgs) -> CommandResult<Wanted> {
    let runtime = args.runtime.and_then(|runtime| runtime.to_possible_value()).map(|value| value.get_name().to_owned());
    let needs_image = args.runtime.is_some_and(|runtime| runtime != Runtime::Local);
    if needs_image && args.image.is_none() {
        return Err(no_image(known));
    }
    Ok(Wanted {
        name: args.name.clone().unwrap_or_else(|| known.name.to_owned()),
        image: args.image.clone(),
        runtime,
        secret: Some(args.secret.clone().unwrap_or_else(|| format!("{}-key", known.name))),
        env: args.env.iter().map(|entry| super::run::variable(entry)).collect::<CommandResult<_>>()?,
    })
}

fn no_image(known: &Known) -> CommandError {
    CommandError::usage(format!("a container needs an image that has {}", known.program)).hint("--image names it")
}

async fn add(args: AddArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let known = known(&args.wanted.program)?;
    let mut wanted = wanted(known, &args.wanted)?;
    let mut objects = Vec::new();
    if args.no_key {
        wanted.secret = None;
    } else if args.wanted.secret.is_none() {
        let key = std::env::var(known.key).ok().filter(|key| !key.is_empty()).ok_or_else(|| {
            CommandError::usage(format!("{} is not set: {} needs a key for its model", known.key, known.title))
                .hint("set it, or name a Secret that has it with --secret, or say --no-key")
        })?;
        objects.push(known.secret(wanted.secret.as_deref().unwrap_or_default(), &key));
    }
    objects.push(known.agent(&wanted));
    let connection = connect::connect(global, Need::Store).await?;
    let result = create(&connection, known, &wanted, objects, output).await;
    connection.close().await;
    result?;
    let local = wanted.image.is_none();
    if local && on_path(known.program).is_none() {
        output.warn(format!("{} is not on the PATH of this machine: {}", known.program, known.install));
    }
    output.say(format!("  kubetask run --agent {} --repo \"…\"", wanted.name));
    Ok(exit_codes::OK)
}

async fn create(
    connection: &Connection,
    known: &Known,
    wanted: &Wanted,
    objects: Vec<Value>,
    output: Output,
) -> CommandResult<()> {
    if connection.cluster && wanted.image.is_none() {
        return Err(no_image(known));
    }
    let manifests = objects.into_iter().map(|object| Manifest::made("kubetask agent add", object)).collect();
    apply::apply_all(connection, manifests, false, false, output).await
}

/// Where a program is that would be found by its name.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
