//! `kubetask context changes`: waits until the agent has ended, then tells what it changed. The patch goes to the log, the
//! numbers to the termination message, where the operator finds them.

use std::io::Write;
use std::path::Path;

use kubetask_api::task::RepositoryChanges;
use kubetask_core::context::fetch::{ChangesJob, ChangesOf, GIT_ENV};
use kubetask_core::task::ChangesSaid;
use tokio::signal::unix::{SignalKind, signal};

use super::git::Beside;
use crate::commands::changes::sections;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;

/// The most that patches may have in all. A kubelet rotates a container's log at 10 MiB, each line with its time, and
/// shows no more than the last file (`containerLogMaxSize`).
const PATCHES_MAX: u64 = 4 << 20;

pub(super) fn run() -> CommandResult {
    let text = std::env::var(GIT_ENV).map_err(|_| CommandError::usage(format!("{GIT_ENV} is not set")))?;
    let job: ChangesJob = serde_json::from_str(&text).map_err(|e| CommandError::usage(format!("{GIT_ENV}: {e}")))?;
    wait_for_the_end()?;
    let mut said = ChangesSaid::default();
    let mut left = PATCHES_MAX;
    let mut out = std::io::stdout().lock();
    for repository in &job.repositories {
        let (changes, patch) = look(repository, left);
        left = left.saturating_sub(patch.len() as u64);
        sections::write(&mut out, &changes, &patch)?;
        said.changes.push(changes);
    }
    out.flush()?;
    let _ = std::fs::write("/dev/termination-log", said.into_message());
    Ok(exit_codes::OK)
}

/// A sidecar is asked to end when the containers beside it have ended.
fn wait_for_the_end() -> CommandResult<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

fn look(repository: &ChangesOf, most: u64) -> (RepositoryChanges, String) {
    let mut changes = RepositoryChanges { path: repository.path.clone(), ..RepositoryChanges::default() };
    let found = Beside::new(Path::new(&repository.base), Path::new(&repository.path)).and_then(|beside| {
        changes.commit = beside.commit();
        beside.difference(&repository.exclude, most)
    });
    match found {
        Ok(found) => {
            (changes.files, changes.insertions, changes.deletions) = (found.files, found.insertions, found.deletions);
            changes.bytes = i64::try_from(found.patch.len()).unwrap_or(i64::MAX);
            (changes, found.patch)
        }
        Err(why) => {
            changes.message = Some(why.chars().take(512).collect());
            (changes, String::new())
        }
    }
}
