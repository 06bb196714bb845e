//! Images: fetching and building.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use tokio::sync::mpsc;

use super::http::{Api, Body, Failure, encode, full};
use super::ignore::Ignore;
use crate::spec::PullPolicy;
use crate::traits::{BuildSpec, EngineError, ImageProgress, RegistryCredentials, Result};

/// Makes sure that `image` is here.
pub(super) async fn ensure(
    api: &Api,
    image: &str,
    policy: PullPolicy,
    credentials: &[RegistryCredentials],
    progress: Option<&mpsc::Sender<ImageProgress>>,
) -> Result<()> {
    let problem = |reason: String| EngineError::Image { image: image.to_owned(), reason };
    if policy != PullPolicy::Always {
        match api.call(Method::GET, &format!("/images/{}/json", encode_path(image)), None).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.not_found() => {}
            Err(failure) => return Err(failure.into()),
        }
        if policy == PullPolicy::Never {
            return Err(problem("it is not here, and may not be pulled".to_owned()));
        }
    }
    let (repository, tag) = split(image);
    let mut path = format!("/images/create?fromImage={}", encode(repository));
    if let Some(tag) = tag {
        path.push_str(&format!("&tag={}", encode(tag)));
    }
    // With each of the credentials, and without any where there are none, until one is good enough.
    let mut refused = None;
    let headers: Vec<Option<String>> = match credentials {
        [] => vec![None],
        all => all.iter().map(|credentials| Some(header(credentials))).collect(),
    };
    for header in headers {
        match pull(api, &path, header.as_deref(), progress).await {
            Ok(()) => return Ok(()),
            Err(Trouble::Refused(message)) => refused = Some(message),
            Err(Trouble::Other(error)) => return Err(error),
        }
    }
    Err(problem(refused.unwrap_or_default()))
}

/// Why an image was not fetched.
enum Trouble {
    /// The registry, or the daemon, says no.
    Refused(String),
    /// Anything else: trying again with other credentials helps nothing.
    Other(EngineError),
}

async fn pull(
    api: &Api,
    path: &str,
    credentials: Option<&str>,
    progress: Option<&mpsc::Sender<ImageProgress>>,
) -> std::result::Result<(), Trouble> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(credentials.map(|credentials| ("x-registry-auth", credentials)));
    let response = api.stream(Method::POST, path, full(bytes::Bytes::new()), &headers).await;
    let response = response.map_err(|failure| match failure {
        Failure::Refused { message, .. } => Trouble::Refused(message),
        gone @ Failure::Gone(_) => Trouble::Other(gone.into()),
    })?;
    let mut lines = Lines::new(response.into_body());
    while let Some(line) = lines.next().await.map_err(Trouble::Other)? {
        if let Some(error) = line["error"].as_str() {
            return Err(Trouble::Refused(error.to_owned()));
        }
        if let Some(progress) = progress {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let detail = |name: &str| line["progressDetail"][name].as_u64();
            let step = ImageProgress {
                part: text("id"),
                status: text("status"),
                done_bytes: detail("current"),
                total_bytes: detail("total"),
            };
            // Who does not listen does not hold the download up.
            let _ = progress.try_send(step);
        }
    }
    Ok(())
}

/// The daemon's form of credentials.
fn header(credentials: &RegistryCredentials) -> String {
    let (user, password) = (&credentials.username, &credentials.password);
    let text = match &credentials.identity_token {
        Some(token) => serde_json::json!({"identitytoken": token, "serveraddress": credentials.server}),
        None => serde_json::json!({"username": user, "password": password, "serveraddress": credentials.server}),
    };
    URL_SAFE.encode(text.to_string())
}

/// Builds an image; the builder's output goes to `output` line by line.
pub(super) async fn build(api: &Api, spec: &BuildSpec, output: &mpsc::Sender<String>) -> Result<()> {
    let problem = |reason: String| EngineError::Image { image: spec.image.clone(), reason };
    let mut path = format!("/build?t={}&rm=1&forcerm=1", encode(&spec.image));
    if let Some(file) = &spec.dockerfile {
        path.push_str(&format!("&dockerfile={}", encode(&file.to_string_lossy())));
    }
    if !spec.args.is_empty() {
        let args: serde_json::Map<String, Value> =
            spec.args.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
        path.push_str(&format!("&buildargs={}", encode(&Value::Object(args).to_string())));
    }
    let response = api.stream(Method::POST, &path, pack(spec), &[("content-type", "application/x-tar")]).await;
    let response = response.map_err(|failure| match failure {
        Failure::Refused { message, .. } => problem(message),
        gone @ Failure::Gone(_) => gone.into(),
    })?;
    let mut lines = Lines::new(response.into_body());
    while let Some(line) = lines.next().await? {
        if let Some(error) = line["error"].as_str() {
            return Err(problem(error.trim().to_owned()));
        }
        if let Some(text) = line["stream"].as_str().or_else(|| line["status"].as_str()) {
            for text in text.lines().filter(|text| !text.trim().is_empty()) {
                let _ = output.send(text.to_owned()).await;
            }
        }
    }
    Ok(())
}

/// The context directory as a tar stream, packed while it is sent.
fn pack(spec: &BuildSpec) -> Body {
    let context = spec.context.clone();
    let dockerfile = spec.dockerfile.clone().unwrap_or_else(|| "Dockerfile".into());
    let (sender, receiver) = mpsc::channel::<std::io::Result<bytes::Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let errors = sender.clone();
        if let Err(error) = pack_into(&context, &dockerfile, Outlet(sender)) {
            let _ = errors.blocking_send(Err(error));
        }
    });
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let part = receiver.recv().await?;
        Some((part.map(Frame::data), receiver))
    });
    http_body_util::BodyExt::boxed(StreamBody::new(frames))
}

/// Packs all that `.dockerignore` does not leave out. The build's description is sent in any case: the daemon reads it.
fn pack_into<W: std::io::Write>(context: &Path, dockerfile: &Path, outlet: W) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(256 * 1024, outlet));
    archive.follow_symlinks(false);
    let ignore = Ignore::of(context, dockerfile)?;
    let needed = [dockerfile.to_path_buf(), PathBuf::from(".dockerignore")];
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop() {
        let mut entries = std::fs::read_dir(context.join(&directory))?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = directory.join(entry.file_name());
            let kind = entry.file_type()?;
            let out = ignore.leaves_out(&name.to_string_lossy()) && !needed.contains(&name);
            let leads_to_needed = || needed.iter().any(|needed| needed.starts_with(&name));
            if kind.is_dir() && (!out || ignore.has_exceptions() || leads_to_needed()) {
                todo.push(name.clone());
            }
            if !out && (kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                archive.append_path_with_name(entry.path(), &name)?;
            }
        }
    }
    archive.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error).map(drop)
}

struct Outlet(mpsc::Sender<std::io::Result<bytes::Bytes>>);

impl std::io::Write for Outlet {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(bytes::Bytes::copy_from_slice(data))).map_err(gone)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An answer of JSON documents, one a line.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    over: bool,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, rest: Vec::new(), over: false }
    }

    async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(value) => return Ok(Some(value)),
                    Err(_) => continue,
                }
            }
            if self.over {
                let line = std::mem::take(&mut self.rest);
                return Ok(serde_json::from_slice(&line).ok());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
                Some(Err(error)) => return Err(Failure::Gone(format!("the daemon went away: {error}")).into()),
                None => self.over = true,
            }
        }
    }
}

/// Repository, and tag or digest.
fn split(image: &str) -> (&str, Option<&str>) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, Some(digest));
    }
    match image.rfind(':') {
        Some(colon) if image.rfind('/').is_none_or(|slash| colon > slash) => {
            (&image[..colon], Some(&image[colon + 1..]))
        }
        _ => (image, Some("latest")),
    }
}

/// A reference in a path: its slashes stay.
fn encode_path(image: &str) -> String {
    image.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["Dockerfile", "src/main.c", "src/main.o", "secret/key", "docs/a.md", "docs/keep.md", ".git/HEAD"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("src", dir.path().join("link")).unwrap();
        let sent = || {
            let mut tar = Vec::new();
            pack_into(dir.path(), Path::new("Dockerfile"), &mut tar).unwrap();
            let mut archive = tar::Archive::new(&tar[..]);
            let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
            let mut paths: Vec<String> = paths.filter(|path| !path.ends_with('/')).collect();
            paths.sort();
            paths
        };
        assert_eq!(sent().len(), 12, "all of it: {:?}", sent());
        std::fs::write(dir.path().join(".dockerignore"), "**/*.o\nsecret\n.git\ndocs/*\n!docs/keep.md\nDockerfile\n")
            .unwrap();
        assert_eq!(sent(), [".dockerignore", "Dockerfile", "docs", "docs/keep.md", "link", "src", "src/main.c"]);
    }

    #[test]
    fn references() {
        assert_eq!(split("a"), ("a", Some("latest")));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", Some("latest")));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", Some("1")));
        assert_eq!(split("a@sha256:00"), ("a", Some("sha256:00")));
        assert_eq!(encode_path("docker.io/local/bb:1"), "docker.io/local/bb%3A1");
    }
}
