//! `kubetask cp`: files between this machine and a task's container, as a tar stream through `exec`.
//!
//! The archive goes through a temporary file, so its size is bounded by the disk and never by memory. What comes from an
//! agent is hostile: nothing is unpacked outside the directory that was named.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::interact::target::{self, Target};
use crate::output::Output;

/// Arguments of `kubetask cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubetask cp fix-tests:/workspace/report.md .
  kubetask cp notes/ fix-tests:/workspace/notes
The container needs `tar`. A source directory is copied with its content.")]
pub struct CpArgs {
    /// From: a path, or TASK:PATH
    #[arg(value_name = "FROM")]
    pub from: String,
    /// To: a path, or TASK:PATH
    #[arg(value_name = "TO")]
    pub to: String,
    /// The container [default: the agent's]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
}

/// A place in a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remote<'a> {
    /// Whose container.
    pub(super) task: &'a str,
    /// Where in it.
    pub(super) path: &'a str,
}

/// Runs a command in a container with a file as its input or output.
pub(super) trait Tar {
    /// What it is called.
    fn name(&self) -> &str;
    /// Runs it to its end, which must be a good one.
    async fn tar(&self, command: &[String], input: Option<File>, output: Option<&mut File>) -> CommandResult<()>;
}

/// `TASK:PATH`; everything else is a local path. A local file with a colon can be written as `./a:b`.
pub(super) fn remote(text: &str) -> Option<Remote<'_>> {
    let (task, path) = text.split_once(':')?;
    let named = task.strip_prefix("pod/").or_else(|| task.strip_prefix("task/")).unwrap_or(task);
    (!named.is_empty() && !named.contains('/') && !named.starts_with('.') && !path.is_empty())
        .then_some(Remote { task, path })
}

/// Runs the command.
///
/// # Errors
/// When something is not there, or cannot be written.
pub async fn run(args: CpArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let both = (remote(&args.from), remote(&args.to));
    if matches!(both, (None, None) | (Some(_), Some(_))) {
        return Err(CommandError::usage("one of FROM and TO must be TASK:PATH, the other a path on this machine"));
    }
    let connection = connect::connect(global, Need::Everything).await?;
    let result = copy(&connection, both, &args).await;
    connection.close().await;
    let what = result?;
    output.say(format!("copied {what} to {}", args.to));
    Ok(exit_codes::OK)
}

async fn copy(
    connection: &Connection,
    both: (Option<Remote<'_>>, Option<Remote<'_>>),
    args: &CpArgs,
) -> CommandResult<String> {
    let find = |task| target::find(connection, task, args.container.as_deref());
    match both {
        (Some(from), _) => {
            let target = find(from.task).await?;
            download(&target, from.path, Path::new(&args.to)).await
        }
        (None, Some(to)) => {
            let target = find(to.task).await?;
            upload(&target, Path::new(&args.from), to.path).await
        }
        (None, None) => Err(CommandError::usage("nothing to copy")),
    }
}

pub(super) async fn download(target: &impl Tar, from: &str, to: &Path) -> CommandResult<String> {
    let from = from.trim_end_matches('/');
    let (parent, name) = split(from)?;
    let mut archive = tempfile::tempfile()?;
    let command = ["tar", "-cf", "-", "-C", parent, "--", name].map(str::to_owned);
    target.tar(&command, None, Some(&mut archive)).await?;
    archive.rewind()?;
    // Into a directory under its own name, or as the new name.
    let (into, as_name) = match (to.is_dir(), to.file_name()) {
        (true, _) => (to.to_owned(), name.into()),
        (false, Some(file)) => (to.parent().map(Path::to_owned).unwrap_or_default(), PathBuf::from(file)),
        (false, None) => return Err(CommandError::usage(format!("{}: no such directory", to.display()))),
    };
    let into = if into.as_os_str().is_empty() { PathBuf::from(".") } else { into };
    unpack(archive, Path::new(name), &into, &as_name)?;
    Ok(format!("{}:{from}", target.name()))
}

/// Unpacks an archive whose entries all lie under `name`, under another name; anything else is refused.
fn unpack(archive: impl Read, name: &Path, into: &Path, as_name: &Path) -> CommandResult<()> {
    let wrong =
        |what: &dyn std::fmt::Display| CommandError::failure(format!("the archive is not what was asked for: {what}"));
    let staging = tempfile::Builder::new()
        .prefix(".kubetask-cp-")
        .tempdir_in(into)
        .map_err(|e| CommandError::failure(format!("{}: {e}", into.display())))?;
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_mtime(true);
    for entry in archive.entries().map_err(|e| wrong(&e))? {
        let mut entry = entry.map_err(|e| wrong(&e))?;
        let path = entry.path().map_err(|e| wrong(&e))?.into_owned();
        let clean = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !clean || !path.starts_with(name) {
            return Err(wrong(&format!("it has {}", path.display())));
        }
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            // Devices and pipes are of no use here.
            continue;
        }
        if !entry.unpack_in(staging.path()).map_err(|e| CommandError::failure(format!("{}: {e}", path.display())))? {
            return Err(wrong(&format!("it has {}", path.display())));
        }
    }
    let made = staging.path().join(name);
    if std::fs::symlink_metadata(&made).is_err() {
        return Err(wrong(&"it is empty"));
    }
    let target = into.join(as_name);
    put(&made, &target).map_err(|e| CommandError::failure(format!("{}: {e}", target.display())))
}

/// Moves into place; a directory that is there already is filled up.
fn put(from: &Path, to: &Path) -> std::io::Result<()> {
    let is_real_dir = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    if is_real_dir(from) && is_real_dir(to) {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            put(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    std::fs::rename(from, to)
}

pub(super) async fn upload(target: &impl Tar, from: &Path, to: &str) -> CommandResult<String> {
    let there = std::fs::metadata(from).map_err(|e| CommandError::usage(format!("{}: {e}", from.display())))?;
    let own = from.canonicalize()?;
    let own = own.file_name().and_then(|n| n.to_str());
    let own = own.ok_or_else(|| CommandError::usage(format!("{}: has no name that can be sent", from.display())))?;
    // Into a directory under its own name, or as the new name.
    let is_dir = to.ends_with('/') || target.tar(&["test", "-d", to].map(str::to_owned), None, None).await.is_ok();
    let (parent, name) = if is_dir { (to.trim_end_matches('/'), own) } else { split(to)? };
    let parent = if parent.is_empty() { "/" } else { parent };
    let mut builder = tar::Builder::new(tempfile::tempfile()?);
    // A link is sent as a link: what it points to may be none of the agent's business.
    builder.follow_symlinks(false);
    let packed = if there.is_dir() {
        builder.append_dir_all(name, from)
    } else {
        builder.append_path_with_name(from.canonicalize()?, name)
    };
    packed.map_err(|e| CommandError::failure(format!("{}: {e}", from.display())))?;
    let mut archive = builder.into_inner()?;
    archive.rewind()?;
    // Whose a file is here means nothing there.
    let command = ["tar", "-xf", "-", "--no-same-owner", "-C", parent].map(str::to_owned);
    target.tar(&command, Some(archive), None).await?;
    Ok(from.display().to_string())
}

/// Parent and name of a path in a container.
fn split(path: &str) -> CommandResult<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    if name.is_empty() || name == ".." || name == "." {
        return Err(CommandError::usage(format!("{path:?}: name a file or a directory")));
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

/// Gives a file to a process, and tells its end. The process may end first: its exit code tells why.
pub(super) async fn feed(mut file: File, mut stdin: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = file.read(&mut buffer) {
        if stdin.write_all(buffer.get(..n).unwrap_or_default()).await.is_err() {
            break;
        }
    }
    let _ = stdin.shutdown().await;
}

/// Takes what a process says, into a file where one is given.
pub(super) async fn take(mut stdout: impl AsyncRead + Unpin, mut sink: Option<&mut File>) -> CommandResult<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = stdout.read(&mut buffer).await {
        if let Some(file) = &mut sink {
            file.write_all(buffer.get(..n).unwrap_or_default())?;
        }
    }
    Ok(())
}

impl Tar for Target {
    fn name(&self) -> &str {
        &self.pod
    }

    async fn tar(&self, command: &[String], input: Option<File>, output: Option<&mut File>) -> CommandResult<()> {
        let target = self;
        let params =
            AttachParams::default().container(&target.container).stdin(input.is_some()).stdout(true).stderr(true);
        let process = target.pods.exec(&target.pod, command, &params).await;
        let mut process = process.map_err(|e| target.said(&e))?;
        let status = process.take_status();
        let stdin = process.stdin();
        let feed = async {
            if let (Some(file), Some(stdin)) = (input, stdin) {
                // Some servers end the process's input only at the very end; tar knows its end by itself.
                feed(file, stdin).await;
            }
        };
        let stdout = process.stdout();
        let take = async {
            match stdout {
                Some(stdout) => take(stdout, output).await,
                None => Ok(()),
            }
        };
        let stderr = process.stderr();
        let complain = async {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                // Enough for a person; the rest is not kept.
                let _ = stderr.take(4 << 10).read_to_end(&mut text).await;
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let ((), taken, complaint) = tokio::join!(feed, take, complain);
        taken?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => {
                process.join().await.map_err(|e| CommandError::failure(chain(&e)))?;
                Ok(())
            }
            Some(_) if !complaint.is_empty() => Err(CommandError::failure(complaint)),
            Some(status) => {
                Err(CommandError::failure(status.message.unwrap_or_default())
                    .hint("the container needs `tar` for this"))
            }
            None => Err(CommandError::failure("the connection to the pod was lost")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!(remote("t:/a"), Some(Remote { task: "t", path: "/a" }));
        assert_eq!(remote("pod/p:x"), Some(Remote { task: "pod/p", path: "x" }));
        for local in ["a", "./t:/a", "/tmp/t:a", "t:", ":a", "dir/t:a"] {
            assert_eq!(remote(local), None, "{local}");
        }
        assert_eq!(split("/a/b").unwrap(), ("/a", "b"));
        assert_eq!(split("/b").unwrap(), ("/", "b"));
        assert_eq!(split("b").unwrap(), (".", "b"));
        assert!(split("/").is_err() && split("a/..").is_err());
    }

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // The library refuses to write what it is asked to refuse to read.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_unpacked_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("in");
        std::fs::create_dir(&into).unwrap();
        let unpack =
            |entries: &[(&str, &str)]| unpack(archive(entries).as_slice(), Path::new("d"), &into, Path::new("e"));
        for evil in ["d/../../out", "/etc/passwd", "other", "../out"] {
            assert!(unpack(&[("d/good", "x"), (evil, "x")]).is_err(), "{evil}");
            assert!(!dir.path().join("out").exists() && !into.join("e").exists(), "{evil}");
        }
        unpack(&[("d/good", "x")]).unwrap();
        assert_eq!(std::fs::read_to_string(into.join("e/good")).unwrap(), "x");
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("in");
        std::fs::create_dir(&into).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "d/link", dir.path()).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        builder.append_data(&mut file, "d/link/out", &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        assert!(super::unpack(bytes.as_slice(), Path::new("d"), &into, Path::new("e")).is_err());
        assert!(!dir.path().join("out").exists());
    }
}
