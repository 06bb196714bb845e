//! `kubetask convert`: manifests of the older API in the words of this one.

use clap::Args;
use kubetask_core::convert::convert;
use serde_json::Value;

use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::manifest::source;
use crate::output::Output;

/// Arguments of `kubetask convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Manifest: a file, a directory, a URL, or - for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub filename: Vec<String>,
    /// Print nothing; end with 1 when something is of the older API
    #[arg(long)]
    pub check: bool,
}

/// Runs the command.
///
/// # Errors
/// When a manifest cannot be read or converted; then nothing is printed.
pub fn run(args: &ConvertArgs, output: Output) -> CommandResult {
    let mut text = String::new();
    let mut problems = Vec::new();
    let mut changed = 0_usize;
    for name in &args.filename {
        for source in source::read(name)? {
            let documents = match kubetask_yaml::read_all(&source.text, kubetask_yaml::Limits::default()) {
                Ok(documents) => documents,
                Err(e) => {
                    problems.push(format!("{}:{}:{}: {}", source.origin, e.line, e.column, e.kind));
                    continue;
                }
            };
            for document in documents {
                let at = format!("{}:{}", source.origin, document.start.line);
                match document_to_yaml(&document.value) {
                    Ok((yaml, differs)) => {
                        if differs {
                            changed += 1;
                            output.say(format!("{at}: {}", described(&document.value)));
                        }
                        text.push_str(&yaml);
                    }
                    Err(why) => problems.push(format!("{at}: {why}")),
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(CommandError::of(exit_codes::USAGE, problems).hint("nothing was converted"));
    }
    if args.check {
        return Ok(if changed > 0 { exit_codes::FAILURE } else { exit_codes::OK });
    }
    output.raw(text.as_bytes());
    Ok(exit_codes::OK)
}

/// What happens to an object, for people.
fn described(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/kind") {
        "WorkspaceConfig" => format!("WorkspaceConfig {:?} becomes an Agent", text("/metadata/name")),
        kind => format!("{kind} {:?}: workspaceConfigRef becomes agentRef", text("/metadata/name")),
    }
}

/// One document of the output, with what a person should look at as comments before it; and whether it was changed.
/// Lists are taken apart.
fn document_to_yaml(object: &Value) -> Result<(String, bool), String> {
    if let (Some("List"), Some(items)) =
        (object.get("kind").and_then(Value::as_str), object.get("items").and_then(Value::as_array))
    {
        let mut out = (String::new(), false);
        for item in items {
            let (text, changed) = document_to_yaml(item)?;
            out.0.push_str(&text);
            out.1 |= changed;
        }
        return Ok(out);
    }
    let converted = convert(object).map_err(|e| e.to_string())?;
    let changed = converted.object != *object;
    let mut out = String::from("---\n");
    if changed {
        out.push_str(&format!("# {}.\n", described(object)));
    }
    for note in &converted.notes {
        out.push_str(&format!("# Look at this: {}\n", note.replace('\n', " ")));
    }
    out.push_str(&serde_saphyr::to_string(&converted.object).map_err(|e| e.to_string())?);
    Ok((out, changed))
}
