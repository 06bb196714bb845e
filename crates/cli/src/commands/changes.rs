//! `kubetask changes`: what a task's agent changed in its repositories; as a patch, in numbers, or applied to a checkout.

pub(super) mod sections;

use std::path::{Path, PathBuf};

use clap::Args;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kubetask_api::Task;
use kubetask_api::task::RepositoryChanges;
use kubetask_core::task::CHANGES_CONTAINER;

use self::sections::Section;
use super::logs;
use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::git::{git, git_with};
use crate::output::{Output, TerminalFilter, plain_text};

/// Arguments of `kubetask changes`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask changes run-7xk2f
  kubetask changes run-7xk2f --apply
  kubetask changes run-7xk2f --apply=../other-checkout
  kubectl logs POD -c changes | git apply")]
pub struct ChangesArgs {
    /// Name of the task
    #[arg(value_name = "TASK")]
    pub name: String,
    /// Only how many files and lines
    #[arg(long, conflicts_with = "apply")]
    pub stat: bool,
    /// Apply them to this git checkout [default: the one around the working directory]; all of them, or none
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub apply: Option<PathBuf>,
    /// Only the repository at this path of the agent's container
    #[arg(long, value_name = "PATH")]
    pub repository: Option<String>,
}

/// The most of a log that is read: more than any patch that is kept.
pub(super) const LOG_MAX: u64 = 16 << 20;

/// Runs the command.
///
/// # Errors
/// When the task is not there, has not ended, or collects nothing; and when a patch does not fit.
pub async fn run(args: ChangesArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let result = changes(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn changes(args: &ChangesArgs, connection: &Connection, output: Output) -> CommandResult {
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let task = tasks.get(&args.name).await?;
    if args.stat {
        let wanted = collected(&task)?.iter().filter(|c| args.repository.as_ref().is_none_or(|path| *path == c.path));
        wanted.for_each(|changes| output.data(&line(changes)));
        return Ok(exit_codes::OK);
    }
    let mut all = fetch(connection, &task).await?;
    if let Some(path) = &args.repository {
        all.retain(|section| section.changes.path == *path);
        if all.is_empty() {
            return Err(CommandError::usage(format!("no changes of a repository at {path} were collected")));
        }
    }
    if let Some(directory) = &args.apply {
        return apply(&args.name, &all, directory, output).map(|()| exit_codes::OK);
    }
    for section in &all {
        if let Some(message) = &section.changes.message {
            output.warn(format!("{}: {}", section.changes.path, plain_text(message)));
        }
        show(&section.patch, output);
    }
    Ok(exit_codes::OK)
}

/// What the status says was collected.
fn collected(task: &Task) -> CommandResult<&[RepositoryChanges]> {
    let name = task.metadata.name.as_deref().unwrap_or_default();
    let changes = task.status.as_ref().map(|status| status.changes.as_slice()).unwrap_or_default();
    if !task.phase().is_finished() {
        let why = format!("task {name:?} has not ended ({}): changes are collected when it has", task.phase());
        return Err(CommandError::failure(why).hint(format!("`kubetask wait {name}` waits for its end")));
    }
    if changes.is_empty() {
        return Err(CommandError::failure(format!("no changes of task {name:?} were collected"))
            .hint("set collectChanges: true in a Repository context; `kubetask run --repo` does so"));
    }
    Ok(changes)
}

/// Reads the patches of a Task that has ended.
///
/// # Errors
/// When there are none, or the log is not whole.
pub(super) async fn fetch(connection: &Connection, task: &Task) -> CommandResult<Vec<Section>> {
    let counted = collected(task)?.len();
    let name = task.metadata.name.as_deref().unwrap_or_default();
    let gone = || CommandError::failure(format!("the pod of task {name:?} is gone, and with it the patch"));
    let pod = logs::latest_pod(connection, task).await?.ok_or_else(gone)?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = LogParams { container: Some(CHANGES_CONTAINER.to_owned()), ..LogParams::default() };
    let stream = logs::open(&pods, &pod, &params).await?;
    let mut log = Vec::new();
    std::pin::pin!(stream.take(LOG_MAX)).read_to_end(&mut log).await?;
    let log = String::from_utf8(log).map_err(|_| CommandError::failure("the log is not UTF-8"))?;
    let all = sections::read(&log).map_err(|why| CommandError::failure(format!("task {name:?}: {why}")))?;
    if all.len() < counted {
        return Err(CommandError::failure(format!("the patch of task {name:?} is lost: its pod could not tell it")));
    }
    Ok(all)
}

/// Applies the one patch among them to the checkout around a directory; all of it, or nothing.
///
/// # Errors
/// When there are several, or when it does not fit.
pub(super) fn apply(task: &str, all: &[Section], directory: &Path, output: Output) -> CommandResult<()> {
    let [section] = all else {
        let paths: Vec<&str> = all.iter().map(|section| section.changes.path.as_str()).collect();
        return Err(CommandError::usage(format!("task {task:?} changed several repositories: {}", paths.join(", ")))
            .hint("--repository=PATH says which"));
    };
    if let Some(message) = &section.changes.message {
        return Err(CommandError::failure(format!("{}: {message}", section.changes.path)));
    }
    if section.patch.is_empty() {
        output.say("nothing was changed");
        return Ok(());
    }
    let top = git(directory, &["rev-parse", "--show-toplevel"]).map_err(|why| {
        CommandError::usage(format!("{}: {why}", directory.display())).hint("--apply=DIR names a git checkout")
    })?;
    let top = Path::new(&top);
    git_with(top, &["apply", "--binary", "--whitespace=nowarn", "-"], &[], &section.patch).map_err(|why| {
        let mut error = CommandError::failure(format!("the changes do not fit {}; nothing was changed", top.display()));
        error.lines.extend(why.lines().take(20).map(|line| line.trim_start_matches("error: ").to_owned()));
        error.hint(format!("`kubetask changes {task} | git apply --3way` merges them"))
    })?;
    output.say(format!("applied to {}: {}", top.display(), numbers(&section.changes)));
    Ok(())
}

/// A repository's changes in a line.
pub(crate) fn line(changes: &RepositoryChanges) -> String {
    match &changes.message {
        Some(message) => format!("{}: {}", plain_text(&changes.path), plain_text(message)),
        None => format!("{}: {}", plain_text(&changes.path), numbers(changes)),
    }
}

fn numbers(changes: &RepositoryChanges) -> String {
    match changes.files {
        0 => "no changes".to_owned(),
        1 => format!("1 file, +{} -{}", changes.insertions, changes.deletions),
        files => format!("{files} files, +{} -{}", changes.insertions, changes.deletions),
    }
}

/// Prints a patch: as it is into a pipe, harmless and in colour on a terminal.
fn show(patch: &str, output: Output) {
    if !output.stdout_is_terminal {
        return output.raw(patch.as_bytes());
    }
    let p = output.palette;
    let mut filter = TerminalFilter::default();
    for line in patch.split_inclusive('\n') {
        let color = match line.as_bytes() {
            [b'+', ..] => p.green,
            [b'-', ..] => p.red,
            [b'@', b'@', ..] => p.cyan,
            _ if line.starts_with("diff --git ") => p.bold,
            _ => "",
        };
        output.raw(color.as_bytes());
        output.raw(&filter.filter(line.as_bytes()));
        output.raw(if color.is_empty() { b"" } else { p.reset.as_bytes() });
    }
}
