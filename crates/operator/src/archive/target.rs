//! From a namespace's `archive` to a store: which ones there are, and which ones this operator may use.

use std::collections::BTreeMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use kubetask_api::config::Archive;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use crate::http::{BoxError, Http};

/// How long one request to a store may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Which archives an operator writes to. Whoever may change a namespace's configuration decides on its archive: the
/// operator's own files and its own identity are not for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePolicy {
    /// Where `file://` may point.
    pub files: Files,
    /// Whether a store without `secretRef` is used with the operator's own identity.
    pub own_identity: bool,
}

/// Where `file://` archives may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Anywhere: the operator belongs to the one who writes the configuration.
    Anywhere,
    /// In this directory.
    Under(PathBuf),
    /// Nowhere.
    Nowhere,
}

impl Default for ArchivePolicy {
    /// For the one user of a machine.
    fn default() -> Self {
        Self { files: Files::Anywhere, own_identity: true }
    }
}

/// A store, and where in it.
#[derive(Debug)]
pub(super) struct Target {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
}

/// Finds the store.
///
/// # Errors
/// What is wrong, in words for whoever wrote the configuration.
pub(super) fn target(
    archive: &Archive,
    secret: &BTreeMap<String, String>,
    policy: &ArchivePolicy,
    http: &Http,
) -> Result<Target, String> {
    let url = archive.url.as_str();
    match url.split_once("://") {
        Some(("file", path)) => files(path, policy),
        Some(("s3", rest)) => {
            let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
            let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| format!("{url}: {error}"))?;
            let store = s3(url, secret, archive.secret_ref.is_none(), policy, http)?;
            Ok(Target { store, prefix })
        }
        _ => Err(format!(
            "{url}: this version writes to s3:// and file:// only; S3-compatible endpoints (AWS_ENDPOINT) serve most other stores"
        )),
    }
}

fn files(path: &str, policy: &ArchivePolicy) -> Result<Target, String> {
    let path = FilePath::new(path);
    let is_clean = path.is_absolute() && path.components().all(|part| !matches!(part, Component::ParentDir));
    if !is_clean {
        return Err(format!("file://{}: name a directory by its absolute path", path.display()));
    }
    match &policy.files {
        Files::Anywhere => {}
        Files::Under(root) if path.starts_with(root) => {}
        Files::Under(root) => {
            return Err(format!(
                "file://{}: this operator writes archives under {} only",
                path.display(),
                root.display()
            ));
        }
        Files::Nowhere => {
            let hint = "set its --archive-dir to a mounted directory, or use s3://";
            return Err(format!("file://{}: this operator writes no archives to files; {hint}", path.display()));
        }
    }
    std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // What is deleted next must be on the disk.
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| error.to_string())?.with_fsync(true);
    Ok(Target { store: Arc::new(store), prefix: Path::default() })
}

fn s3(
    url: &str,
    secret: &BTreeMap<String, String>,
    no_secret: bool,
    policy: &ArchivePolicy,
    http: &Http,
) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = match (no_secret, policy.own_identity) {
        (true, true) => AmazonS3Builder::from_env(),
        (true, false) => {
            let hint = "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in archive.secretRef";
            return Err(format!("{url}: this operator lends its own identity to nobody; {hint}"));
        }
        (false, _) => AmazonS3Builder::new(),
    };
    builder = builder.with_url(url).with_http_connector(Connector(http.clone())).with_retry(RetryConfig {
        max_retries: 2,
        retry_timeout: ANSWER_WITHIN,
        ..RetryConfig::default()
    });
    for (name, value) in secret {
        // Keys that are no settings of the store may be for somebody else.
        if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
            builder = builder.with_config(key, value.trim());
        }
    }
    if !no_secret && !secret.keys().any(|name| name.eq_ignore_ascii_case("AWS_ACCESS_KEY_ID")) {
        return Err(format!("{url}: the Secret of archive.secretRef has no AWS_ACCESS_KEY_ID"));
    }
    Ok(Arc::new(builder.build().map_err(|error| format!("{url}: {error}"))?))
}

/// Stores speak HTTP through the client that everything else uses.
#[derive(Clone, Debug)]
struct Connector(Http);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = request.map(|body| body.map_err(BoxError::from).boxed());
        let failed = |kind: HttpErrorKind, error: BoxError| HttpError::new(kind, Failed(error));
        match tokio::time::timeout(ANSWER_WITHIN, self.0.send(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(|body| {
                HttpResponseBody::new(body.map_err(move |error| failed(HttpErrorKind::Interrupted, error.into())))
            })),
            Ok(Err(error)) => Err(failed(HttpErrorKind::Connect, error)),
            Err(_) => Err(failed(HttpErrorKind::Timeout, "no answer in time".into())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(#[source] BoxError);

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str, secret: &[(&str, &str)], policy: &ArchivePolicy) -> String {
        let named = (!secret.is_empty()).then(|| kubetask_api::context::SecretName { name: "s".to_owned() });
        let archive = Archive { url: url.to_owned(), secret_ref: named };
        let secret = secret.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match target(&archive, &secret, policy, &Http::default()) {
            Ok(target) => format!("{}", target.prefix),
            Err(why) => why,
        }
    }

    #[test]
    fn which_archives_are_allowed() {
        let own = ArchivePolicy::default();
        let strict = ArchivePolicy { files: Files::Under("/archive".into()), own_identity: false };
        let nowhere = ArchivePolicy { files: Files::Nowhere, own_identity: false };
        let key = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-central-1")];
        assert_eq!(why("s3://bucket/a/b/", &key, &strict), "a/b");
        assert!(why("s3://bucket/a", &[], &strict).contains("lends its own identity"));
        assert!(why("s3://bucket/a", &[("other", "x")], &strict).contains("AWS_ACCESS_KEY_ID"));
        assert!(why("file:///etc/cron.d", &[], &strict).contains("under /archive only"));
        assert!(why("file:///archive/../etc", &[], &strict).contains("absolute path"));
        assert!(why("file:///archive", &[], &nowhere).contains("--archive-dir"));
        assert!(why("file://relative", &[], &own).contains("absolute path"));
        assert!(why("gs://bucket", &[], &own).contains("s3:// and file:// only"));
    }
}
