//! Puts work that the remote does not have on top of a fresh clone: a Git bundle with commits, and with a picture of what
//! was not committed.

use kubetask_core::context::fetch::{GitJob, WORK_REF};

use super::git;

/// Checks out what the bundle holds.
pub(super) fn put_on_top(job: &GitJob, bundle: &str) -> Result<(), String> {
    let heads = heads(job, bundle)?;
    let mut head = heads.iter().filter(|(_, name)| name != WORK_REF);
    let Some((commit, name)) = head.next() else { return Err("the bundle names no commit".to_owned()) };
    if let Err(first) = git(job, &["bundle", "unbundle", bundle]) {
        // It may lean on more of the history than was fetched.
        git(job, &["fetch", "--quiet", "--no-tags", "--unshallow", "origin"]).map_err(|_| first)?;
        git(job, &["bundle", "unbundle", bundle])?;
    }
    match name.strip_prefix("refs/heads/") {
        Some(branch) => git(job, &["checkout", "--quiet", "--force", "-B", branch, commit])?,
        None => git(job, &["checkout", "--quiet", "--force", "--detach", commit])?,
    };
    if let Some((work, _)) = heads.iter().find(|(_, name)| name == WORK_REF) {
        // Files as in the picture, the index as in the commit: what was not committed is not committed here either.
        git(job, &["read-tree", "-m", "-u", "HEAD", work])?;
        git(job, &["reset", "--quiet", "--mixed"])?;
    }
    Ok(())
}

/// Commits and their names.
fn heads(job: &GitJob, bundle: &str) -> Result<Vec<(String, String)>, String> {
    let out = git(job, &["bundle", "list-heads", bundle])?;
    let text = String::from_utf8(out.stdout).map_err(|_| "names in the bundle are not UTF-8".to_owned())?;
    let mut heads = Vec::new();
    for line in text.lines() {
        let Some((commit, name)) = line.split_once(' ') else { continue };
        // Names become arguments.
        if !super::is_commit(commit) || name.starts_with('-') {
            return Err(format!("a wrong line in the bundle: {line}"));
        }
        heads.push((commit.to_owned(), name.to_owned()));
    }
    Ok(heads)
}
