//! A repository of our own beside a checkout: it keeps how the checkout was before the agent began, and tells what is
//! different now.
//!
//! The checkout belongs to the agent. Its configuration, hooks and index are not read, its objects are only borrowed
//! (gitrepository-layout, `objects/info/alternates`), and nothing is written into it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use super::{answer, config, isolated};

/// The tree of the checkout as it was.
const BASE_REF: &str = "refs/kubetask/base";
/// The commit that was checked out, as a file of ours.
const COMMIT: &str = "kubetask-commit";

/// A repository of our own beside a checkout.
pub(in crate::commands::context) struct Beside {
    own: PathBuf,
    checkout: PathBuf,
    config: NamedTempFile,
}

/// What is different.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::commands::context) struct Difference {
    /// How many files.
    pub files: i64,
    /// How many lines were added.
    pub insertions: i64,
    /// How many lines were removed.
    pub deletions: i64,
    /// The patch, for `git apply`; UTF-8.
    pub patch: String,
}

impl Beside {
    /// `own` is the directory of ours, which need not exist yet.
    pub(in crate::commands::context) fn new(own: &Path, checkout: &Path) -> Result<Self, String> {
        Ok(Self { own: own.to_owned(), checkout: checkout.to_owned(), config: config()? })
    }

    /// Keeps how the checkout is now.
    pub(in crate::commands::context) fn keep(&self, commit: &str) -> Result<(), String> {
        std::fs::create_dir_all(&self.own).map_err(|e| format!("{}: {e}", self.own.display()))?;
        self.git(&["init", "--quiet", "--template="])?;
        // With the sizes and times that git has just noted, only what differs has to be read. An attempt before may have
        // left an index that leans on more than itself.
        let index = self.own.join("index");
        let _ = std::fs::copy(self.checkout.join(".git/index"), &index);
        let tree = self.tree(&[]).or_else(|_| {
            let _ = std::fs::remove_file(&index);
            self.tree(&[])
        })?;
        self.git(&["update-ref", BASE_REF, &tree])?;
        std::fs::write(self.own.join(COMMIT), commit).map_err(|e| format!("{}: {e}", self.own.display()))
    }

    /// The commit that was checked out.
    pub(in crate::commands::context) fn commit(&self) -> Option<String> {
        std::fs::read_to_string(self.own.join(COMMIT)).ok().filter(|commit| super::is_commit(commit))
    }

    /// The checkout's files, the ignored ones excepted, as a tree.
    fn tree(&self, exclude: &[String]) -> Result<String, String> {
        let exclude: Vec<String> = exclude.iter().map(|path| format!(":(top,exclude,literal){path}")).collect();
        let mut add = vec!["add", "--all", "--ignore-errors", "--", "."];
        add.extend(exclude.iter().map(String::as_str));
        // A file that cannot be read is left as it was: the others still count.
        let added = self.git(&add);
        match self.git(&["write-tree"]) {
            Ok(tree) => Ok(tree.trim().to_owned()),
            // All was added, but what has not changed is to be had from the checkout alone.
            Err(error) => Err(added.err().unwrap_or_else(|| missing(&error))),
        }
    }

    /// What is different now, with a patch of at most so many bytes.
    pub(in crate::commands::context) fn difference(&self, exclude: &[String], most: u64) -> Result<Difference, String> {
        let now = self.tree(exclude)?;
        let stat = self.git(&["diff-tree", "-r", "-M", "--shortstat", BASE_REF, &now]).map_err(|why| missing(&why))?;
        let mut difference = counts(&stat);
        if difference.files == 0 {
            return Ok(difference);
        }
        let bytes = self.patch(&now, most)?;
        difference.patch = match String::from_utf8(bytes) {
            Ok(patch) => patch,
            // A log keeps text. Text in another encoding travels as binary files do.
            Err(_) => {
                let info = self.own.join("info");
                std::fs::create_dir_all(&info)
                    .and_then(|()| std::fs::write(info.join("attributes"), "* -diff\n"))
                    .map_err(|e| format!("{}: {e}", info.display()))?;
                let bytes = self.patch(&now, most)?;
                String::from_utf8(bytes).map_err(|_| "a file's name is not UTF-8".to_owned())?
            }
        };
        Ok(difference)
    }

    fn patch(&self, now: &str, most: u64) -> Result<Vec<u8>, String> {
        let mut command = self.command(&["diff-tree", "-r", "-p", "-M", "--binary", "--full-index", BASE_REF, now]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|e| format!("cannot run git: {e}"))?;
        let mut patch = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(most + 1).read_to_end(&mut patch),
            None => Ok(0),
        };
        let large = patch.len() as u64 > most;
        if large {
            let _ = child.kill();
        }
        let status = child.wait();
        match (read, status) {
            (Err(error), _) | (_, Err(error)) => Err(format!("cannot read what git says: {error}")),
            _ if large => Err(format!("the patch has more than {} MiB: let the agent push its work", most >> 20)),
            (_, Ok(status)) if !status.success() => Err(missing("git failed")),
            _ => Ok(patch),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = isolated(self.config.path());
        command
            .current_dir(&self.checkout)
            .args(arguments)
            .env("GIT_DIR", &self.own)
            .env("GIT_WORK_TREE", &self.checkout)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.checkout.join(".git/objects"));
        command
    }

    fn git(&self, arguments: &[&str]) -> Result<String, String> {
        let output = answer(&mut self.command(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The objects of what was there before are the checkout's, and with it they may go.
fn missing(why: &str) -> String {
    format!("cannot compare with what was there before, the checkout's objects are missing: {why}")
}

/// Numbers from git's ` 3 files changed, 10 insertions(+), 2 deletions(-)`.
fn counts(stat: &str) -> Difference {
    let mut difference = Difference::default();
    for part in stat.trim().split(", ") {
        let mut words = part.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.next().unwrap_or_default() {
            word if word.starts_with("file") => difference.files = number,
            word if word.starts_with("insertion") => difference.insertions = number,
            word if word.starts_with("deletion") => difference.deletions = number,
            _ => {}
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    fn sh(directory: &Path, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(directory).status().unwrap();
        assert!(status.success(), "{script}");
    }

    /// A checkout, what is kept of it, and a second checkout of the same commit.
    fn world(script: &str) -> (tempfile::TempDir, Beside) {
        let dir = tempfile::tempdir().unwrap();
        let user = "git config user.email a@example.test; git config user.name a";
        sh(
            dir.path(),
            &format!("git init -q -b main repo; cd repo; {user}; {script}; git add -A; git commit -qm base"),
        );
        sh(dir.path(), "git clone -q repo other");
        let beside = Beside::new(&dir.path().join("own"), &dir.path().join("repo")).unwrap();
        let head =
            Command::new("git").args(["rev-parse", "HEAD"]).current_dir(dir.path().join("repo")).output().unwrap();
        let head = String::from_utf8(head.stdout).unwrap();
        beside.keep(head.trim()).unwrap();
        assert_eq!(beside.commit().as_deref(), Some(head.trim()));
        (dir, beside)
    }

    /// What the agent did comes out in the other checkout.
    fn check(before: &str, agent: &str, counts: (i64, i64, i64)) {
        let (dir, beside) = world(before);
        let repo = dir.path().join("repo");
        sh(&repo, agent);
        let difference = beside.difference(&[], MOST).unwrap();
        assert_eq!((difference.files, difference.insertions, difference.deletions), counts);
        std::fs::write(dir.path().join("patch"), &difference.patch).unwrap();
        sh(dir.path(), "cd other; [ ! -s ../patch ] || git apply --binary --whitespace=nowarn ../patch");
        sh(dir.path(), "diff -r --exclude .git --exclude ignored repo other");
    }

    #[test]
    fn edits_new_deleted_and_renamed_files_committed_or_not() {
        let before = "echo one > a; echo two > b; mkdir d; seq 50 > d/long; echo ignored > .gitignore";
        check(before, "true", (0, 0, 0));
        check(before, "echo more >> a; rm b; echo new > 'ü name'; git mv d/long d/longer; echo x > ignored", (4, 2, 1));
        check(before, "echo more >> a; git commit -qam work; echo again >> a; git checkout -q -b side", (1, 2, 0));
        check(before, "printf 'no newline' > a; chmod +x b; ln -s a link; printf 'a\\r\\nb\\r\\n' > crlf", (4, 4, 1));
    }

    #[test]
    fn bytes_that_are_no_text() {
        check(
            "head -c 3000 /dev/urandom > blob; echo x > a",
            "head -c 3000 /dev/urandom > blob; echo y > a",
            (2, 1, 1),
        );
        check("printf 'caf\\351\\n' > latin; echo x > a", "printf 'th\\351\\n' >> latin; echo y > a", (2, 2, 1));
    }

    #[test]
    fn the_agents_configuration_is_not_used() {
        let agent = "echo '* filter=evil diff=evil' > .gitattributes; git config filter.evil.clean 'touch ../evil; cat'; \
            git config diff.evil.textconv 'touch ../evil; cat'; git config core.fsmonitor 'touch ../evil'; echo x >> a";
        let (dir, beside) = world("echo one > a");
        sh(&dir.path().join("repo"), agent);
        assert_eq!(beside.difference(&[], MOST).unwrap().files, 2);
        assert!(!dir.path().join("evil").exists());
    }

    #[test]
    fn what_is_excluded_or_too_much() {
        let (dir, beside) = world("echo one > a; mkdir s; echo s > s/kept");
        sh(&dir.path().join("repo"), "touch '*'; mkdir -p m/n; echo x > m/n/o; echo changed > s/kept; echo two > a");
        let exclude = ["*".to_owned(), "m/n".to_owned(), "s".to_owned(), "not/there".to_owned()];
        let difference = beside.difference(&exclude, MOST).unwrap();
        assert_eq!((difference.files, difference.insertions, difference.deletions), (1, 1, 1));
        assert!(difference.patch.contains("+two"), "{}", difference.patch);
        let why = beside.difference(&[], 10).unwrap_err();
        assert!(why.contains("push"), "{why}");
    }

    #[test]
    fn a_history_that_is_gone_is_said() {
        // Git reads a file again that is as young as its index, and has its object then; of an old one it has none.
        for age in ["now", "1 hour ago"] {
            let (dir, beside) = world(&format!("echo one > a; touch -d '{age}' a; echo two > b"));
            sh(&dir.path().join("repo"), "rm -rf .git; rm b");
            let why = beside.difference(&[], MOST).unwrap_err();
            assert!(why.contains("objects are missing"), "{age}: {why}");
        }
    }

    #[test]
    fn numbers_of_git() {
        let check = |text: &str, files, insertions, deletions| {
            assert_eq!(counts(text), Difference { files, insertions, deletions, patch: String::new() }, "{text}");
        };
        check(" 3 files changed, 10 insertions(+), 2 deletions(-)\n", 3, 10, 2);
        check(" 1 file changed, 1 deletion(-)\n", 1, 0, 1);
        check("", 0, 0, 0);
    }
}
