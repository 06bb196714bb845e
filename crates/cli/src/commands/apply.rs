//! `kubetask apply`: create or change objects from manifests, all or nothing as far as the server can tell beforehand.

use clap::Args;
use serde_json::Value;

use crate::args::GlobalArgs;
use crate::connect::{self, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::manifest::{check, load, order};
use crate::output::Output;

/// Field manager of what people apply.
pub const FIELD_MANAGER: &str = "kubetask-cli";

/// Arguments of `kubetask apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Manifest: a file, a directory, a URL, or - for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub filename: Vec<String>,
    /// Only check: send everything to the server, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(args: ApplyArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let mut manifests = load::load(&args.filename)?;
    order::sort(&mut manifests);
    let connection = connect::connect(global, Need::Store).await?;
    let waiting = connection.local.is_some();
    let result = apply_all(&connection, manifests, args.dry_run, global.namespace.is_some(), output).await;
    connection.close().await;
    result?;
    if waiting && !args.dry_run {
        output.warn("no KubeTask server is running: the objects are stored, and wait for `kubetask up`");
    }
    Ok(exit_codes::OK)
}

/// Checks everything, then sends it. `namespace_given`: the namespace was named on the command line, and manifests may not
/// name another.
///
/// # Errors
/// When something is wrong; nothing is sent then.
pub(super) async fn apply_all(
    connection: &connect::Connection,
    manifests: Vec<crate::manifest::Manifest>,
    dry_run: bool,
    namespace_given: bool,
    output: Output,
) -> CommandResult<()> {
    let client = &connection.client;
    let checked = check::check(client, manifests, &connection.namespace, namespace_given, FIELD_MANAGER).await?;
    for item in &checked {
        if dry_run {
            output.data(&format!("{} checked (dry run)", item.title()));
            continue;
        }
        match check::send(client, item, FIELD_MANAGER, false).await? {
            Ok(object) => output.data(&format!("{} applied", name_of(item, &object))),
            Err(status) => {
                return Err(CommandError::failure(format!("{}: {}", item.title(), status.message)));
            }
        }
    }
    Ok(())
}

fn name_of(item: &check::Checked, object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    item.resource.object_name(name)
}
