//! `kubetask delete`: remove objects, by name or as a manifest lists them.

use clap::Args;
use kube::api::{DeleteParams, ListParams};

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::manifest::load;
use crate::output::Output;
use crate::resources;

/// Arguments of `kubetask delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Kind and names, `task NAME…`, or `task/NAME…`
    #[arg(value_name = "KIND NAME", required_unless_present = "filename", conflicts_with = "filename")]
    pub targets: Vec<String>,
    /// Delete what these manifests list
    #[arg(short, long = "filename", value_name = "FILE")]
    pub filename: Vec<String>,
    /// Delete every object of the kind with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "filename")]
    pub selector: Option<String>,
    /// Delete every object of the kind
    #[arg(long, conflicts_with_all = ["filename", "selector"])]
    pub all: bool,
    /// Succeed when there is nothing to delete
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// Runs the command.
///
/// # Errors
/// When something is not there, or the server says no.
pub async fn run(args: DeleteArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    // Dependents go with what is deleted, and running agents end: that needs the controllers.
    let connection = connect::connect(global, Need::Everything).await?;
    let result = delete(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn delete(args: &DeleteArgs, connection: &Connection, output: Output) -> CommandResult {
    let client = &connection.client;
    let mut todo = Vec::new();
    if args.filename.is_empty() {
        for (kind, names) in super::get::parse_targets(&args.targets)? {
            let resource = resources::by_name(client, &kind).await?;
            let api = resource.objects(client, &connection.namespace);
            let names = match (names.is_empty(), args.all || args.selector.is_some()) {
                (false, false) => names,
                (false, true) => {
                    return Err(CommandError::usage("names cannot stand together with --all or --selector"));
                }
                (true, false) => {
                    return Err(CommandError::usage(format!("which {kind}? Give names, --selector or --all")));
                }
                (true, true) => {
                    let params = ListParams { label_selector: args.selector.clone(), ..ListParams::default() };
                    api.list_metadata(&params).await?.items.into_iter().filter_map(|o| o.metadata.name).collect()
                }
            };
            todo.extend(names.into_iter().map(|name| (resource.clone(), api.clone(), name)));
        }
    } else {
        let mut manifests = load::load(&args.filename)?;
        crate::manifest::order::sort(&mut manifests);
        for manifest in manifests.iter().rev().filter(|m| !m.metadata("name").is_empty()) {
            let resource = resources::by_kind(client, manifest.api_version(), manifest.kind()).await?;
            let own = manifest.metadata("namespace");
            let api = resource.objects(client, if own.is_empty() { &connection.namespace } else { own });
            todo.push((resource, api, manifest.metadata("name").to_owned()));
        }
    }
    if todo.is_empty() {
        output.say("nothing to delete");
    }
    let mut missing = Vec::new();
    for (resource, api, name) in todo {
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => output.data(&format!("{} deleted", resource.object_name(&name))),
            Err(kube::Error::Api(status)) if status.code == 404 => missing.push(status.message.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    if missing.is_empty() || args.ignore_not_found {
        Ok(exit_codes::OK)
    } else {
        Err(CommandError::of(exit_codes::FAILURE, missing))
    }
}
