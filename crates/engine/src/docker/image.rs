//! Images: fetching and building.

use std::path::Path;

use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use tokio::sync::mpsc;

use super::http::{Api, Body, Failure, encode, full};
use crate::spec::PullPolicy;
use crate::traits::{BuildSpec, EngineError, ImageProgress, Result};

/// Makes sure that `image` is here.
pub(super) async fn ensure(
    api: &Api,
    image: &str,
    policy: PullPolicy,
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
    let response = api.stream(Method::POST, &path, full(bytes::Bytes::new()), "application/json").await;
    let response = response.map_err(|failure| match failure {
        Failure::Refused { message, .. } => problem(message),
        gone @ Failure::Gone(_) => gone.into(),
    })?;
    let mut lines = Lines::new(response.into_body());
    while let Some(line) = lines.next().await? {
        if let Some(error) = line["error"].as_str() {
            return Err(problem(error.to_owned()));
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
    let response = api.stream(Method::POST, &path, pack(spec.context.clone()), "application/x-tar").await;
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
fn pack(context: std::path::PathBuf) -> Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<bytes::Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let errors = sender.clone();
        if let Err(error) = pack_into(&context, Outlet(sender)) {
            let _ = errors.blocking_send(Err(error));
        }
    });
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let part = receiver.recv().await?;
        Some((part.map(Frame::data), receiver))
    });
    http_body_util::BodyExt::boxed(StreamBody::new(frames))
}

fn pack_into(context: &Path, outlet: Outlet) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(256 * 1024, outlet));
    archive.follow_symlinks(false);
    archive.append_dir_all(".", context)?;
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
    fn references() {
        assert_eq!(split("a"), ("a", Some("latest")));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", Some("latest")));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", Some("1")));
        assert_eq!(split("a@sha256:00"), ("a", Some("sha256:00")));
        assert_eq!(encode_path("docker.io/local/bb:1"), "docker.io/local/bb%3A1");
    }
}
