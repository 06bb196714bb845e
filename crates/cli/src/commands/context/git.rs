//! Clones a repository with the machine's `git`.
//!
//! The repository is hostile input: no hooks, no templates and no configuration of the user's run, and only the
//! transports that a context may name are allowed. Credentials go through `GIT_ASKPASS` and `GIT_SSH_COMMAND`, so that
//! they stand neither in an argument nor in the checkout's configuration.

mod beside;
mod work;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kubetask_core::context::fetch::{GIT_ENV, GitJob};

pub(super) use self::beside::Beside;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;

/// Where the credentials are, for this program when git runs it to ask.
const ASKPASS_ENV: &str = "KUBETASK_ASKPASS";
/// How often a clone is tried before the Task fails.
const ATTEMPTS: u32 = 3;

pub(super) fn run() -> CommandResult {
    let text = std::env::var(GIT_ENV).map_err(|_| CommandError::usage(format!("{GIT_ENV} is not set")))?;
    let job: GitJob = serde_json::from_str(&text).map_err(|e| CommandError::usage(format!("{GIT_ENV}: {e}")))?;
    let mut attempt = 1;
    loop {
        match clone(&job) {
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                std::thread::sleep(std::time::Duration::from_secs(1 << attempt));
                attempt += 1;
            }
            Err(why) => return Err(CommandError::failure(format!("cannot clone {}: {why}", shown(&job.url)))),
            Ok(()) => return Ok(exit_codes::OK),
        }
    }
}

/// What to answer when `git` asks for a user name or password; from the mounted credentials.
pub(super) fn askpass() -> Option<String> {
    let directory = PathBuf::from(std::env::var_os(ASKPASS_ENV)?);
    let question = std::env::args().next_back().unwrap_or_default().to_lowercase();
    let read = |key: &str| std::fs::read_to_string(directory.join(key)).ok().map(|text| text.trim_end().to_owned());
    if question.starts_with("username") {
        Some(read("username").unwrap_or_else(|| "x-access-token".to_owned()))
    } else {
        read("password").or_else(|| read("token")).or(Some(String::new()))
    }
}

/// In `.git` as long as the checkout is not complete: an attempt that failed half way is no checkout to be left alone.
const UNFINISHED: &str = "kubetask-unfinished";

fn clone(job: &GitJob) -> Result<(), String> {
    let path = Path::new(&job.path);
    std::fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let unfinished = path.join(".git").join(UNFINISHED);
    if path.join(".git").exists() && !unfinished.exists() {
        // The workspace was kept from an attempt before: what is in it is the user's.
        return keep(job);
    }
    git(job, &["init", "--quiet", "--initial-branch=main", "--template="])?;
    std::fs::write(&unfinished, "").map_err(|e| format!("{}: {e}", unfinished.display()))?;
    // What an attempt before has left of it.
    let _ = git(job, &["remote", "remove", "origin"]);
    git(job, &["remote", "add", "origin", &job.url])?;
    check_out(job)?;
    if let Some(bundle) = &job.work {
        work::put_on_top(job, bundle).map_err(|why| format!("the work that was carried along: {why}"))?;
    }
    std::fs::remove_file(&unfinished).map_err(|e| format!("{}: {e}", unfinished.display()))?;
    keep(job)
}

/// Keeps how the checkout is, where the agent's changes are wanted later.
fn keep(job: &GitJob) -> Result<(), String> {
    let Some(own) = &job.base else { return Ok(()) };
    let head = git(job, &["rev-parse", "--verify", "--quiet", "HEAD"]).map(|output| output.stdout).unwrap_or_default();
    Beside::new(Path::new(own), Path::new(&job.path))?.keep(String::from_utf8_lossy(&head).trim())
}

/// What an init container does for such a job.
#[cfg(test)]
pub(crate) fn clone_for_tests(url: &str, ref_: Option<&str>, path: &Path, work: &Path) -> Result<(), String> {
    let text = |path: &Path| path.display().to_string();
    let (ref_, work) = (ref_.map(str::to_owned), Some(text(work)));
    clone(&GitJob { url: url.to_owned(), ref_, path: text(path), depth: 1, credentials: None, work, base: None })
}

fn check_out(job: &GitJob) -> Result<(), String> {
    let wanted = job.ref_.as_deref().unwrap_or("HEAD");
    let depth = format!("--depth={}", job.depth);
    let fetch = |reference: &str, shallow: bool| {
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        if shallow && job.depth > 0 {
            arguments.push(&depth);
        }
        arguments.extend(["origin", reference]);
        git(job, &arguments)
    };
    if let Err(first) = fetch(wanted, true) {
        // Many servers give a commit only as a part of a branch's history.
        if !is_commit(wanted) {
            return Err(first);
        }
        fetch("+refs/heads/*:refs/remotes/origin/*", false).map_err(|_| first)?;
        git(job, &["checkout", "--quiet", "--force", "--detach", wanted])?;
        return Ok(());
    }
    let branch = match &job.ref_ {
        Some(reference) => is_branch(job, reference).then(|| reference.clone()),
        None => default_branch(job),
    };
    match branch {
        Some(branch) => {
            git(job, &["checkout", "--quiet", "--force", "-B", &branch, "FETCH_HEAD"])?;
            git(job, &["update-ref", &format!("refs/remotes/origin/{branch}"), "FETCH_HEAD"])?;
        }
        None => {
            git(job, &["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"])?;
        }
    }
    Ok(())
}

fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 7..=64) && reference.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_branch(job: &GitJob, reference: &str) -> bool {
    git(job, &["ls-remote", "--exit-code", "--heads", "origin", &format!("refs/heads/{reference}")]).is_ok()
}

/// The branch that the remote's HEAD names.
fn default_branch(job: &GitJob) -> Option<String> {
    let answer = git(job, &["ls-remote", "--symref", "origin", "HEAD"]).ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("ref: "))?;
    line.strip_prefix("ref: refs/heads/")?.split_whitespace().next().map(str::to_owned)
}

fn git(job: &GitJob, arguments: &[&str]) -> Result<Output, String> {
    let config = config()?;
    let mut command = isolated(config.path());
    command.arg("-C").arg(&job.path).args(arguments);
    if let Some(directory) = &job.credentials {
        authenticate(&mut command, Path::new(directory))?;
    }
    answer(&mut command).map_err(|why| why.replace(&job.url, &shown(&job.url)))
}

/// git, without the configuration of anybody but us, and without a person to ask.
fn isolated(config: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", config)
        .env("LC_ALL", "C")
        .env_remove(GIT_ENV)
        .stdin(Stdio::null());
    command
}

/// What git answers; when it fails, its word for why.
fn answer(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no git on this machine; install it".to_owned(),
        _ => format!("cannot run git: {e}"),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // The first fatal line says what is wrong; what follows is advice.
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("fatal: ")).or_else(|| lines().next_back()).unwrap_or("git failed");
    Err(line.trim_start_matches("fatal: ").to_owned())
}

/// The only configuration git reads, in a file: what stands in arguments or variables does not reach the second git
/// process that reads a local repository.
fn config() -> Result<tempfile::NamedTempFile, String> {
    const CONFIG: &str = "[safe]\n\tdirectory = *\n[core]\n\thooksPath = /dev/null\n[credential]\n\thelper =\n\
        [advice]\n\tdetachedHead = false\n[protocol]\n\tallow = never\n[protocol \"https\"]\n\tallow = always\n\
        [protocol \"http\"]\n\tallow = always\n[protocol \"ssh\"]\n\tallow = always\n[protocol \"git\"]\n\tallow = always\n\
        [protocol \"file\"]\n\tallow = always\n";
    let mut file = tempfile::NamedTempFile::new().map_err(|e| format!("cannot create a temporary file: {e}"))?;
    file.write_all(CONFIG.as_bytes()).map_err(|e| format!("{}: {e}", file.path().display()))?;
    Ok(file)
}

fn authenticate(command: &mut Command, directory: &Path) -> Result<(), String> {
    let key = directory.join("ssh-privatekey");
    if key.exists() {
        let known = directory.join("known_hosts");
        let hosts = if known.exists() {
            format!("-o UserKnownHostsFile={} -o StrictHostKeyChecking=yes", known.display())
        } else {
            "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=accept-new".to_owned()
        };
        command
            .env("GIT_SSH_COMMAND", format!("ssh -i {} -o IdentitiesOnly=yes -o BatchMode=yes {hosts}", key.display()));
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    command.env("GIT_ASKPASS", program).env(ASKPASS_ENV, directory);
    Ok(())
}

/// A URL without user information.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            format!("{scheme}://{}/{path}", authority.rsplit('@').next().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

fn is_passing(why: &str) -> bool {
    ["Could not resolve", "timed out", "Connection reset", "early EOF", "HTTP 5", "HTTP 429", "unexpected disconnect"]
        .iter()
        .any(|mark| why.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let script = "git init -q -b trunk . && git config user.email a@example.test && git config user.name a \
            && echo one > f && git add f && git commit -qm one && git tag v1 && echo two > f && git commit -qam two \
            && git checkout -q -b side && echo side > f && git commit -qam side && git checkout -q trunk";
        let status = Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).status().unwrap();
        assert!(status.success());
        dir
    }

    fn check(reference: Option<&str>, depth: i32, content: &str, branch: Option<&str>, commits: usize) {
        let upstream = upstream();
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join("repo");
        let job = GitJob {
            url: format!("file://{}", upstream.path().display()),
            ref_: reference.map(str::to_owned),
            path: path.display().to_string(),
            depth,
            credentials: None,
            work: None,
            base: None,
        };
        clone(&job).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("f")).unwrap().trim(), content);
        let head = git(&job, &["rev-parse", "--abbrev-ref", "HEAD"]).unwrap();
        assert_eq!(String::from_utf8(head.stdout).unwrap().trim(), branch.unwrap_or("HEAD"));
        let count = git(&job, &["rev-list", "--count", "HEAD"]).unwrap();
        assert_eq!(String::from_utf8(count.stdout).unwrap().trim(), commits.to_string());
        // A second attempt leaves the checkout alone.
        std::fs::write(path.join("f"), "edited").unwrap();
        clone(&job).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("f")).unwrap(), "edited");
    }

    #[test]
    fn clones_head_branches_tags_and_commits() {
        check(None, 1, "two", Some("trunk"), 1);
        check(None, 0, "two", Some("trunk"), 2);
        check(Some("side"), 1, "side", Some("side"), 1);
        check(Some("v1"), 1, "one", None, 1);
    }

    #[test]
    fn clones_a_commit_by_its_hash() {
        let upstream = upstream();
        let hash = Command::new("git").args(["rev-parse", "v1"]).current_dir(upstream.path()).output().unwrap();
        let hash = String::from_utf8(hash.stdout).unwrap().trim().to_owned();
        for reference in [hash.clone(), hash[..10].to_owned()] {
            let target = tempfile::tempdir().unwrap();
            let job = GitJob {
                url: format!("file://{}", upstream.path().display()),
                ref_: Some(reference),
                path: target.path().join("r").display().to_string(),
                depth: 1,
                credentials: None,
                work: None,
                base: None,
            };
            clone(&job).unwrap();
            assert_eq!(std::fs::read_to_string(target.path().join("r/f")).unwrap().trim(), "one");
        }
    }

    #[test]
    fn an_attempt_that_failed_half_way_is_made_again() {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join("repo");
        let upstream = upstream();
        let away = target.path().join("away");
        let mut job = GitJob {
            url: format!("file://{}", away.display()),
            ref_: None,
            path: path.display().to_string(),
            depth: 1,
            credentials: None,
            work: None,
            base: None,
        };
        clone(&job).unwrap_err();
        assert!(path.join(".git").exists());
        job.url = format!("file://{}", upstream.path().display());
        clone(&job).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("f")).unwrap().trim(), "two");
    }

    #[test]
    fn what_is_not_there_is_named_without_secrets() {
        let job = GitJob {
            url: "https://user:secret@127.0.0.1:1/x.git".to_owned(),
            ref_: None,
            path: tempfile::tempdir().unwrap().path().join("r").display().to_string(),
            depth: 1,
            credentials: None,
            work: None,
            base: None,
        };
        let why = clone(&job).unwrap_err();
        assert!(!why.contains("secret"), "{why}");
    }
}
