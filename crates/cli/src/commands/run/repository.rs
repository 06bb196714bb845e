//! `kubetask run --repo`: the git checkout as a Repository context, resolved here, where the checkout is. Whoever runs the
//! Task needs no checkout of its own.
//!
//! The embedded server's node sees the directory and clones from it. A cluster does not: it gets the remote's URL and a
//! commit that the remote has. `--carry` takes the rest along. For the embedded server that is a commit in the checkout's
//! store, which no branch has; for a cluster a bundle in a Secret, which [`bundle`] makes; with `--carry=push` a branch of
//! the remote, `kubetask/TASK`.

pub(super) mod bundle;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kubetask_api::Context;
use kubetask_api::context::{RepositoryWork, SecretName};
use serde_json::json;

use crate::error::{CommandError, CommandResult};
use crate::git::{git, git_with};

/// A git checkout as it is now.
#[derive(Debug, Clone)]
pub(super) struct Checkout {
    top: PathBuf,
    /// Name and URL of the remote of the current branch.
    remote: Option<(String, String)>,
    /// The current branch.
    branch: Option<String>,
    commit: String,
    /// How many files differ from the commit, untracked ones among them.
    changes: usize,
    /// The newest commit of the current history that the remote has.
    pushed: Option<String>,
}

/// What becomes of a checkout: the context, and what the user should know.
#[derive(Debug)]
pub(super) struct Resolved {
    pub context: Context,
    pub warnings: Vec<String>,
    /// Work that the context refers to; it has to be on the server before the Task.
    pub bundle: Option<Vec<u8>>,
}

/// How work that the remote does not have reaches a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carry {
    /// In a Secret beside the Task.
    Bundle,
    /// As a branch of the remote.
    Push,
}

/// Looks at the checkout around a directory.
///
/// # Errors
/// When there is none, or it has no commit.
pub(super) fn look(directory: &Path) -> CommandResult<Checkout> {
    let top = git(directory, &["rev-parse", "--show-toplevel"]).map_err(|why| {
        CommandError::usage(format!("--repo {}: {why}", directory.display())).hint("--repo=DIR names a git checkout")
    })?;
    let top = PathBuf::from(top);
    let commit = git(&top, &["rev-parse", "--verify", "HEAD^{commit}"])
        .map_err(|_| CommandError::usage(format!("{}: the checkout has no commit yet", top.display())))?;
    let branch = git(&top, &["symbolic-ref", "--short", "-q", "HEAD"]).ok();
    let name = branch
        .as_ref()
        .and_then(|branch| git(&top, &["config", &format!("branch.{branch}.remote")]).ok())
        .filter(|name| name != ".")
        .unwrap_or_else(|| "origin".to_owned());
    // As git would use it: with the user's `url.….insteadOf`.
    let remote = git(&top, &["remote", "get-url", &name]).ok().map(|url| (name.clone(), url));
    let changes = git(&top, &["status", "--porcelain"]).map(|text| text.lines().count()).unwrap_or(0);
    let remotes = format!("refs/remotes/{name}/");
    let pushed = remote.as_ref().and_then(|_| pushed(&top, &remotes));
    Ok(Checkout { top, remote, branch, commit, changes, pushed })
}

/// The newest commit of HEAD's history that a branch of the remote has, as far as the checkout knows.
fn pushed(top: &Path, remotes: &str) -> Option<String> {
    let there = git(top, &["for-each-ref", "--count=1", "--format=%(objectname)", remotes]).ok()?;
    if there.is_empty() {
        return None;
    }
    let glob = format!("--remotes={}", remotes.trim_start_matches("refs/remotes/").trim_end_matches('/'));
    // The oldest commit that the remote has not; the newest that it has is its parent.
    let missing = git(top, &["rev-list", "--topo-order", "--reverse", "HEAD", "--not", &glob]).ok()?;
    match missing.lines().next() {
        None => git(top, &["rev-parse", "HEAD"]).ok(),
        Some(oldest) => git(top, &["rev-parse", "--verify", "-q", &format!("{oldest}^")]).ok(),
    }
}

impl Checkout {
    /// The context for a server that sees this machine's directories.
    ///
    /// # Errors
    /// When the work cannot be carried.
    pub(super) fn here(&self, carry: bool) -> CommandResult<Resolved> {
        let mut warnings = Vec::new();
        let commit = match (self.changes, carry) {
            (0, _) => self.commit.clone(),
            (_, true) => self.snapshot()?,
            (changes, false) => {
                warnings.push(format!("{} not part of it; --carry takes them along", uncommitted(changes)));
                self.commit.clone()
            }
        };
        let top = self.top.to_str().filter(|top| !top.contains(char::is_whitespace)).ok_or_else(|| {
            CommandError::usage(format!(
                "{}: a path with blanks cannot stand in a Repository's URL",
                self.top.display()
            ))
        })?;
        Ok(Resolved { context: self.context(&format!("file://{top}"), &commit)?, warnings, bundle: None })
    }

    /// The context for a server that sees the remote only.
    ///
    /// # Errors
    /// When there is no remote that it could see, or the work cannot be carried.
    pub(super) fn elsewhere(&self, carry: Option<Carry>, task: &str) -> CommandResult<Resolved> {
        let shown = self.top.display();
        let (name, url) = self.remote.as_ref().ok_or_else(|| {
            CommandError::usage(format!("{shown}: the checkout has no remote, and a cluster does not see this machine"))
                .hint("`git remote add origin URL`, then push")
        })?;
        let (url, had_secret) = without_password(url);
        if url.starts_with('/') || url.starts_with('.') || url.starts_with("file:") {
            return Err(CommandError::usage(format!(
                "{shown}: the remote {name} is a directory of this machine: {url}"
            ))
            .hint("a cluster needs a remote that it can reach"));
        }
        let mut warnings = Vec::new();
        if had_secret {
            warnings.push(format!(
                "the password in the URL of {name} is not passed on; name a Secret in the Repository context's credentials"
            ));
        }
        let all_there = self.pushed.as_ref() == Some(&self.commit);
        let wanted = carry.filter(|_| self.changes > 0 || !all_there);
        if wanted == Some(Carry::Push) {
            let commit = if self.changes > 0 { self.snapshot()? } else { self.commit.clone() };
            let branch = format!("kubetask/{task}");
            git(&self.top, &["push", "--quiet", name, &format!("{commit}:refs/heads/{branch}")])
                .map_err(|why| CommandError::failure(format!("cannot push the work to carry: {why}")))?;
            warnings.push(format!("pushed your work to {name} as branch {branch}"));
            return Ok(Resolved { context: self.context(&url, &commit)?, warnings, bundle: None });
        }
        let Some(pushed) = &self.pushed else {
            return Err(CommandError::usage(format!("{shown}: nothing of this history is at the remote {name}"))
                .hint("push it, or let --carry=push do so"));
        };
        if wanted == Some(Carry::Bundle) {
            let work = (self.changes > 0).then(|| self.snapshot()).transpose()?;
            let bundle = bundle::make(self, pushed, work.as_deref())?;
            let mut context = self.context(&url, pushed)?;
            if let Some(repository) = &mut context.repository {
                let secret_ref = SecretName { name: bundle::secret_name(task) };
                repository.work = Some(RepositoryWork { secret_ref });
            }
            return Ok(Resolved { context, warnings, bundle: Some(bundle) });
        }
        if !all_there {
            let on = self.branch.as_deref().unwrap_or("HEAD");
            warnings.push(format!(
                "{on} has commits that {name} does not have; the agent gets {}. Push them, or use --carry",
                pushed.get(..12).unwrap_or(pushed)
            ));
        }
        if self.changes > 0 {
            warnings.push(format!("{} not part of it; --carry takes them along", uncommitted(self.changes)));
        }
        Ok(Resolved { context: self.context(&url, pushed)?, warnings, bundle: None })
    }

    fn context(&self, url: &str, commit: &str) -> CommandResult<Context> {
        let name = self.top.file_name().and_then(|name| name.to_str()).unwrap_or("repo");
        // A name for a directory in the container, whatever the one here is called.
        let safe: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let path = format!("/workspace/{}", safe.trim_matches('.'));
        let path = if path.ends_with('/') { "/workspace/repo".to_owned() } else { path };
        let repository = json!({"url": url, "ref": commit, "path": path, "collectChanges": true});
        Ok(serde_json::from_value(json!({"type": "Repository", "repository": repository}))?)
    }

    /// Everything that is there, ignored files excepted, as a commit on top of the current one. Index, branches and files
    /// of the checkout stay as they are.
    fn snapshot(&self) -> CommandResult<String> {
        let failed = |why: String| CommandError::failure(format!("cannot take the uncommitted work along: {why}"));
        let scratch = tempfile::tempdir()?;
        let index = scratch.path().join("index");
        let index = index.to_str().unwrap_or_default();
        let with_index = |args: &[&str]| git_with(&self.top, args, &[("GIT_INDEX_FILE", index)], "");
        with_index(&["read-tree", "HEAD"]).map_err(failed)?;
        with_index(&["add", "--all"]).map_err(failed)?;
        let tree = with_index(&["write-tree"]).map_err(failed)?;
        let who = [
            ("GIT_AUTHOR_NAME", "KubeTask"),
            ("GIT_AUTHOR_EMAIL", "kubetask@localhost"),
            ("GIT_COMMITTER_NAME", "KubeTask"),
            ("GIT_COMMITTER_EMAIL", "kubetask@localhost"),
        ];
        git_with(&self.top, &["commit-tree", &tree, "-p", &self.commit, "-m", "Uncommitted work"], &who, "")
            .map_err(failed)
    }
}

fn uncommitted(changes: usize) -> String {
    if changes == 1 { "1 uncommitted change is".to_owned() } else { format!("{changes} uncommitted changes are") }
}

/// A URL without the password that may stand in it, and whether one did. A token alone counts as one.
fn without_password(url: &str) -> (String, bool) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), false) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, host)) if scheme.starts_with("http") || user.contains(':') => {
            let keep = if scheme.starts_with("http") {
                String::new()
            } else {
                format!("{}@", user.split(':').next().unwrap_or_default())
            };
            (format!("{scheme}://{keep}{host}/{path}"), true)
        }
        _ => (url.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn passwords_stay_here() {
        let check = |url: &str, expect: &str, had: bool| assert_eq!(without_password(url), (expect.to_owned(), had));
        check("https://host/a/b.git", "https://host/a/b.git", false);
        check("https://me:s3cret@host/a", "https://host/a", true);
        check("https://ghp_token@host/a", "https://host/a", true);
        check("ssh://git@host/a", "ssh://git@host/a", false);
        check("ssh://git:pw@host/a", "ssh://git@host/a", true);
        check("git@host:a/b.git", "git@host:a/b.git", false);
    }

    /// A remote, a checkout with one pushed commit, and what git needs to know.
    pub(super) fn checkout(script: &str) -> Option<(tempfile::TempDir, Checkout)> {
        let dir = tempfile::tempdir().unwrap();
        let setup = format!(
            "set -e; git init -q --bare remote.git; git init -q -b main work; cd work; git config user.name a; \
             git config user.email a@example.test; echo 1 > f; git add .; git commit -qm one; \
             git remote add origin {0}/remote.git; git push -q -u origin main; {script}",
            dir.path().display()
        );
        let out =
            Command::new("sh").args(["-c", &setup]).current_dir(dir.path()).env("HOME", dir.path()).output().ok()?;
        if Command::new("git").arg("version").output().is_err() {
            return None;
        }
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let checkout = look(&dir.path().join("work")).unwrap();
        Some((dir, checkout))
    }

    /// As if the remote could be reached from anywhere.
    pub(super) fn reachable(mut checkout: Checkout) -> Checkout {
        checkout.remote = Some(("origin".to_owned(), "https://git.example/a.git".to_owned()));
        checkout
    }

    fn wanted(resolved: &Resolved) -> (String, String) {
        let repository = resolved.context.repository.clone().unwrap();
        (repository.url.unwrap_or_default(), repository.ref_.unwrap_or_default())
    }

    #[test]
    fn what_is_pushed_needs_no_word() {
        let Some((_dir, checkout)) = checkout("") else { return };
        let checkout = reachable(checkout);
        let resolved = checkout.elsewhere(None, "t").unwrap();
        assert_eq!(wanted(&resolved), ("https://git.example/a.git".to_owned(), checkout.commit.clone()));
        assert!(resolved.warnings.is_empty());
        assert!(checkout.here(false).unwrap().warnings.is_empty());
        assert_eq!(checkout.branch.as_deref(), Some("main"));
    }

    #[test]
    fn what_is_not_pushed_or_committed_is_said() {
        let Some((_dir, checkout)) = checkout("echo 2 > f; git commit -qam two; echo 3 > f; echo x > new") else {
            return;
        };
        let checkout = reachable(checkout);
        let resolved = checkout.elsewhere(None, "t").unwrap();
        assert_eq!(resolved.warnings.len(), 2);
        assert!(resolved.warnings[0].contains("main has commits that origin does not have"), "{resolved:?}");
        assert!(resolved.warnings[1].contains("2 uncommitted changes are not part of it"), "{resolved:?}");
        let one = git(&checkout.top, &["rev-parse", "HEAD~1"]).unwrap();
        assert_eq!(wanted(&resolved).1, one, "what the remote has");
        assert_eq!(wanted(&checkout.here(false).unwrap()).1, checkout.commit, "the node sees the commit here");
    }

    #[test]
    fn work_is_carried_and_the_checkout_stays_as_it_is() {
        let Some((dir, checkout)) = checkout("echo 2 > f; echo x > new; echo ignored > .gitignore; echo y > ignored")
        else {
            return;
        };
        let before = git(&checkout.top, &["status", "--porcelain"]).unwrap();
        let (url, commit) = wanted(&checkout.here(true).unwrap());
        assert!(url.starts_with("file:///"));
        let files = git(&checkout.top, &["ls-tree", "--name-only", &commit]).unwrap();
        assert_eq!(files.lines().collect::<Vec<_>>(), [".gitignore", "f", "new"]);
        assert_eq!(git(&checkout.top, &["status", "--porcelain"]).unwrap(), before);
        assert_eq!(git(&checkout.top, &["rev-parse", "HEAD"]).unwrap(), checkout.commit);
        // A remote that is a directory of this machine is of no use to a cluster.
        let refused = checkout.elsewhere(Some(Carry::Bundle), "t").unwrap_err();
        assert!(refused.lines[0].contains("a directory of this machine"), "{refused:?}");
        drop(dir);
    }

    #[test]
    fn without_a_checkout_or_a_remote_there_is_a_word_about_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(look(dir.path()).unwrap_err().lines[0].contains("not a git repository"));
        let Some((_dir, checkout)) = checkout("git remote remove origin") else { return };
        assert!(checkout.elsewhere(None, "t").unwrap_err().lines[0].contains("no remote"));
        checkout.here(false).unwrap();
    }
}
