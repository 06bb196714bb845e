//! `kubetask install`: KubeTask's operator in a cluster, from the same source as the Helm chart.

mod cluster;
mod values;

use clap::Args;
use kubetask_core::deploy::{self, NAMESPACE, Release, Values};
use serde_json::Value;

pub use cluster::{FIELD_MANAGER, KINDS, Outcome, apply, check, prune};
pub(super) use cluster::{api, found, remove, title_of};

use crate::args::GlobalArgs;
use crate::connect;
use crate::duration;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// Arguments of `kubetask install`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask install --context my-cluster
  kubetask install -o yaml | kubectl apply --server-side -f -
  kubetask install --context my-cluster --set replicas=3 --wait")]
pub struct InstallArgs {
    /// Choices in YAML, as values of the Helm chart; may be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    pub values: Vec<String>,
    /// One choice, e.g. replicas=3; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Only check: send everything to the server, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the manifests in this format, and talk to no cluster
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["dry_run", "wait"])]
    pub output: Option<Format>,
    /// Wait until the operator is ready
    #[arg(long)]
    pub wait: bool,
    /// Longest time to wait
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "3m")]
    pub timeout: std::time::Duration,
}

/// How manifests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A YAML stream.
    Yaml,
    /// A JSON list.
    Json,
}

/// Runs the command.
///
/// # Errors
/// When a value is wrong, or the cluster refuses an object.
pub async fn run(args: InstallArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let values = values::read(&args.values, &args.set)?;
    let namespace = global.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let release = Release::by_command(&namespace, crate::version::short());
    if let Some(format) = args.output {
        output.raw(render(&values, &release, format)?.as_bytes());
        return Ok(exit_codes::OK);
    }
    let client = client(global).await?;
    check(&client).await?;
    let outcome = apply(&client, &values, &release, args.dry_run).await?;
    for object in &outcome.applied {
        output.data(&format!("{object} {}", if args.dry_run { "checked (dry run)" } else { "applied" }));
    }
    if args.dry_run {
        return Ok(exit_codes::OK);
    }
    for object in prune(&client, &outcome).await? {
        output.data(&format!("{object} deleted"));
    }
    if args.wait {
        cluster::wait(&client, &release, args.timeout).await?;
        output.say("the operator is ready");
    }
    Ok(exit_codes::OK)
}

/// A client of the cluster that was named. This machine's own server has the operator in it: there is nothing to install.
///
/// # Errors
/// When none was named.
pub(super) async fn client(global: &GlobalArgs) -> CommandResult<kube::Client> {
    let named = connect::cluster(global).await?;
    named.map(|(client, _)| client).ok_or_else(|| {
        CommandError::usage("which cluster? Name it with --context or --kubeconfig")
            .hint("KubeTask's own server on this machine has the operator in it already")
    })
}

/// The manifests as text, definitions first.
///
/// # Errors
/// When they cannot be written.
pub fn render(values: &Values, release: &Release, format: Format) -> CommandResult<String> {
    let objects: Vec<Value> = all_objects(values, release);
    if format == Format::Json {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        return Ok(serde_json::to_string_pretty(&list)? + "\n");
    }
    let mut out = format!("# KubeTask {}: the operator and its definitions.\n", release.version);
    for object in &objects {
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(object).map_err(|e| CommandError::failure(e.to_string()))?);
    }
    Ok(out)
}

/// Namespace, definitions, and the rest, in the order in which `kubectl apply` takes them.
#[must_use]
pub fn all_objects(values: &Values, release: &Release) -> Vec<Value> {
    let mut objects = deploy::objects(values, release);
    if values.crds.install {
        let at = usize::from(values.namespace.create);
        objects.splice(at..at, kubetask_api::crds_json());
    }
    objects
}
