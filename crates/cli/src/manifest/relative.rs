//! `url: .` in a Repository context: a checkout on this machine, named relative to where the command runs.
//!
//! The API takes absolute URLs only; the command line turns a path into one, because only it knows the directory.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Manifest;

/// Turns the relative repository URLs of a Task, Agent, Batch or CronTask into `file://` URLs.
///
/// `.` is the git checkout around the working directory; `./x` and `../x` are relative to the manifest's directory.
///
/// # Errors
/// A line for the user when there is no such directory, or no directory to be relative to.
pub fn resolve(manifest: &mut Manifest, base: Option<&Path>) -> Result<(), String> {
    if !manifest.api_version().starts_with("kubetask.io/") {
        return Ok(());
    }
    let mut found = Vec::new();
    collect(&manifest.object, String::new(), String::new(), &mut found);
    for (pointer, field) in found {
        let Some(slot) = manifest.object.pointer_mut(&pointer) else { continue };
        let given = slot.as_str().unwrap_or_default().to_owned();
        let url = absolute(&given, base);
        match url {
            Ok(url) => *slot = Value::String(url),
            Err(why) => return Err(format!("{}: {field}: {why}", manifest.locate(&field))),
        }
    }
    Ok(())
}

fn collect(value: &Value, pointer: String, field: String, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let below = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                if key == "repository"
                    && let Some(Value::String(url)) = member.get("url")
                    && is_relative(url)
                {
                    found.push((format!("{pointer}/{escaped}/url"), format!("{below}.url")));
                }
                collect(member, format!("{pointer}/{escaped}"), below, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{pointer}/{index}"), format!("{field}[{index}]"), found);
            }
        }
        _ => {}
    }
}

fn is_relative(url: &str) -> bool {
    url == "." || url == ".." || url.starts_with("./") || url.starts_with("../")
}

fn absolute(given: &str, base: Option<&Path>) -> Result<String, String> {
    let directory = if given == "." {
        let here = std::env::current_dir().map_err(|e| format!("no working directory: {e}"))?;
        checkout_around(&here).ok_or_else(|| format!("{} is not inside a git checkout", here.display()))?
    } else {
        let base = base.ok_or("a relative path means nothing in a manifest from a URL")?;
        base.join(given).canonicalize().map_err(|e| format!("{}: {e}", base.join(given).display()))?
    };
    let path = directory.to_str().ok_or_else(|| format!("{} is not UTF-8", directory.display()))?;
    Ok(format!("file://{path}"))
}

/// The nearest directory above that holds `.git` (a directory, or a file in a worktree).
#[must_use]
pub fn checkout_around(start: &Path) -> Option<PathBuf> {
    let start = start.canonicalize().ok()?;
    start.ancestors().find(|directory| directory.join(".git").exists()).map(Path::to_owned)
}
