//! Sends files into a Pod that waits for them.

use std::fs::File;
use std::io::Seek as _;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::pod::{FILES, FILES_AT};
use super::session;
use crate::traits::{EngineError, Result};

/// Sends everything; then the container starts. Doing it again does no harm.
pub(super) async fn send(api: &Api<Pod>, pod: &str, files: Vec<(String, PathBuf)>) -> Result<()> {
    let packed = tokio::task::spawn_blocking(move || pack(&files)).await;
    let packed = packed.map_err(|error| EngineError::Start(format!("packing files was interrupted: {error}")))??;
    // Whose a file is here means nothing there.
    let script = format!("tar -xf - --no-same-owner -C {FILES_AT} && : > {FILES_AT}/.complete");
    let command = ["sh", "-c", &script].map(str::to_owned);
    let (code, said) = session::feed(api, pod, FILES, &command, tokio::fs::File::from_std(packed)).await?;
    match code {
        0 => Ok(()),
        code => Err(EngineError::Start(format!(
            "the files could not be sent (the image needs sh and tar for it): {} (exit code {code})",
            said.trim()
        ))),
    }
}

/// An archive in a temporary file, so that its size is bounded by the disk and never by memory.
fn pack(files: &[(String, PathBuf)]) -> Result<File> {
    let failed = |path: &PathBuf, error: &std::io::Error| {
        // As every engine says it where a source is missing.
        EngineError::Start(format!("cannot mount {}: {error}", path.display()))
    };
    let io = |step: &str, source| EngineError::Io { step: step.to_owned(), source };
    let mut builder = tar::Builder::new(tempfile::tempfile().map_err(|error| io("create a temporary file", error))?);
    // A link is sent as a link: what it points to may be none of the container's business.
    builder.follow_symlinks(false);
    for (name, path) in files {
        let real = path.canonicalize().map_err(|error| failed(path, &error))?;
        let added = match real.is_dir() {
            true => append(&mut builder, name, &real),
            false => builder.append_path_with_name(&real, name),
        };
        added.map_err(|error| failed(path, &error))?;
    }
    let mut file = builder.into_inner().map_err(|error| io("pack files", error))?;
    file.rewind().map_err(|error| io("pack files", error))?;
    Ok(file)
}

/// Adds a directory with everything in it but sockets, which mean nothing elsewhere.
fn append(builder: &mut tar::Builder<File>, name: &str, directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    builder.append_dir(name, directory)?;
    let mut open = vec![(PathBuf::from(name), directory.to_owned())];
    while let Some((name, directory)) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, name.join(entry.file_name()));
            if kind.is_dir() {
                builder.append_dir(&name, entry.path())?;
                open.push((name, entry.path()));
            } else if kind.is_file() || kind.is_symlink() {
                builder.append_path_with_name(entry.path(), name)?;
            } else if !kind.is_socket() {
                tracing::debug!(path = %entry.path().display(), "not sent: neither a file nor a directory");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let space = dir.path().join("space");
        std::fs::create_dir_all(space.join("deep/er")).unwrap();
        std::fs::write(space.join("deep/er/file"), "x").unwrap();
        std::os::unix::fs::symlink("../gone", space.join("deep/link")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(space.join("socket")).unwrap();
        let files = [("0".to_owned(), space.clone()), ("1".to_owned(), space.join("deep/er/file"))];
        let mut archive = tar::Archive::new(pack(&files).unwrap());
        let mut names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        names.sort();
        assert_eq!(names, ["0", "0/deep", "0/deep/er", "0/deep/er/file", "0/deep/link", "1"]);
        let missing = [("0".to_owned(), dir.path().join("none"))];
        assert!(pack(&missing).unwrap_err().to_string().contains("none: No such file"));
    }
}
