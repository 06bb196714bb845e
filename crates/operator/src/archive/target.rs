//! From a namespace's `archive` to a store: which ones there are, and which ones this operator may use.

use std::collections::BTreeMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use kubetask_api::config::Archive;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::gcp::GoogleCloudStorageBuilder;
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
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if scheme == "file" {
        return files(rest, policy);
    }
    let Some(cloud) = Cloud::of(scheme) else {
        return Err(format!("{url}: archives are written to s3://, gs://, az:// and file:// only"));
    };
    let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| format!("{url}: {error}"))?;
    // Without a Secret it is the operator's own identity that writes.
    let secret = match (&archive.secret_ref, policy.own_identity) {
        (Some(_), _) => Some(secret),
        (None, true) => None,
        (None, false) => {
            let wanted = cloud.wanted();
            let hint = format!("name a Secret with {wanted} in archive.secretRef");
            return Err(format!("{url}: this operator lends its own identity to nobody; {hint}"));
        }
    };
    if let Some(secret) = secret
        && !cloud.is_enough(secret)
    {
        return Err(format!("{url}: the Secret of archive.secretRef has no {}", cloud.wanted()));
    }
    let store = cloud.store(url, secret, http).map_err(|error| format!("{url}: {error}"))?;
    Ok(Target { store, prefix })
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

/// Stores that are somewhere else.
#[derive(Clone, Copy)]
enum Cloud {
    /// Amazon S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" => Some(Self::Azure),
            _ => None,
        }
    }

    /// What a Secret must have. Without it a store would look for an identity, and find the operator's.
    fn wanted(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            Self::Google => "GOOGLE_SERVICE_ACCOUNT_KEY (the JSON of a service account's key)",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        }
    }

    fn is_enough(self, secret: &BTreeMap<String, String>) -> bool {
        let has =
            |name: &str| secret.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && !value.trim().is_empty());
        match self {
            Self::S3 => has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY"),
            Self::Google => has("GOOGLE_SERVICE_ACCOUNT_KEY"),
            Self::Azure => {
                has("AZURE_STORAGE_ACCOUNT_NAME")
                    && (has("AZURE_STORAGE_ACCOUNT_KEY") || has("AZURE_STORAGE_SAS_TOKEN"))
            }
        }
    }

    /// The store, with the settings of the Secret; without one, with the operator's own identity.
    fn store(
        self,
        url: &str,
        secret: Option<&BTreeMap<String, String>>,
        http: &Http,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        let retry = RetryConfig { max_retries: 2, retry_timeout: ANSWER_WITHIN, ..RetryConfig::default() };
        let connector = Connector(http.clone());
        let settings = secret.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
        // Keys that are no settings of the store may be for somebody else.
        Ok(match self {
            Self::S3 => {
                let new = if secret.is_some() { AmazonS3Builder::new() } else { AmazonS3Builder::from_env() };
                let known =
                    settings.filter_map(|(name, value)| Some((AmazonS3ConfigKey::from_str(&name).ok()?, value)));
                let builder = known.fold(new.with_url(url), |to, (key, value)| to.with_config(key, value));
                Arc::new(builder.with_http_connector(connector).with_retry(retry).build()?)
            }
            Self::Google => {
                let new = if secret.is_some() {
                    GoogleCloudStorageBuilder::new()
                } else {
                    GoogleCloudStorageBuilder::from_env()
                };
                // Other settings name files of the operator's.
                let known = settings.filter(|(name, _)| name == "google_service_account_key");
                let builder = known.fold(new.with_url(url), |to, (_, value)| to.with_service_account_key(value));
                Arc::new(builder.with_http_connector(connector).with_retry(retry).build()?)
            }
            Self::Azure => {
                let new =
                    if secret.is_some() { MicrosoftAzureBuilder::new() } else { MicrosoftAzureBuilder::from_env() };
                // Other settings name files of the operator's, or have it run a program.
                let known = settings.filter_map(|(name, value)| Some((azure_key(&name)?, value)));
                let builder = known.fold(new.with_url(url), |to, (key, value)| to.with_config(key, value));
                Arc::new(builder.with_http_connector(connector).with_retry(retry).build()?)
            }
        })
    }
}

fn azure_key(name: &str) -> Option<AzureConfigKey> {
    match name {
        "azure_storage_account_name" => Some(AzureConfigKey::AccountName),
        "azure_storage_account_key" => Some(AzureConfigKey::AccessKey),
        "azure_storage_sas_token" => Some(AzureConfigKey::SasKey),
        "azure_storage_endpoint" => Some(AzureConfigKey::Endpoint),
        _ => None,
    }
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
        assert!(why("ftp://bucket", &[], &own).contains("s3://, gs://, az:// and file:// only"));
    }

    #[test]
    fn archives_in_google_and_azure_need_their_own_credentials() {
        let strict = ArchivePolicy { files: Files::Nowhere, own_identity: false };
        // A key without OAuth: nothing has to be asked for to make the store.
        let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;
        assert_eq!(why("gs://bucket/a", &[("GOOGLE_SERVICE_ACCOUNT_KEY", key)], &strict), "a");
        assert!(why("gs://bucket/a", &[], &strict).contains("GOOGLE_SERVICE_ACCOUNT_KEY"));
        // A path would be one of the operator's.
        let path = [("GOOGLE_SERVICE_ACCOUNT", "/var/run/secrets/key.json")];
        assert!(why("gs://bucket/a", &path, &strict).contains("has no GOOGLE_SERVICE_ACCOUNT_KEY"));

        let account = ("AZURE_STORAGE_ACCOUNT_NAME", "acme");
        assert_eq!(why("az://box/b/", &[account, ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")], &strict), "b");
        assert_eq!(why("az://box/b", &[account, ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")], &strict), "b");
        assert!(
            why("az://box/b", &[account, ("AZURE_USE_AZURE_CLI", "true")], &strict).contains("has no AZURE_STORAGE")
        );
        assert!(why("az://box/b", &[], &strict).contains("lends its own identity"));
        assert!(azure_key("azure_use_azure_cli").is_none() && azure_key("azure_federated_token_file").is_none());
    }
}
