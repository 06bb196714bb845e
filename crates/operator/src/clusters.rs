//! Other clusters: how to reach those that Agents name.
//!
//! A context is one of the operator's own kubeconfig; a Secret brings a kubeconfig of its own and is read anew whenever
//! it is needed, so that a token that was rotated is used. Whether a cluster answers is asked at most once in
//! [`ANSWER_KEPT`], however many Tasks wait for it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kubetask_api::agent::ClusterTarget;
use kubetask_core::cluster::KUBECONFIG_KEY;
use kubetask_core::names::short_hash;

/// How long an answer, or its absence, is good for.
const ANSWER_KEPT: Duration = Duration::from_secs(5);
/// How many clients are kept.
const MOST_KNOWN: usize = 64;
/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a cluster cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterError {
    /// Nobody knows it: the context or the Secret is missing. Whoever deletes something there cannot.
    Unknown(String),
    /// It is known, and does not answer, or not to us.
    Unreachable(String),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(said) | Self::Unreachable(said) => f.write_str(said),
        }
    }
}

impl std::error::Error for ClusterError {}

/// A cluster that can be talked to.
#[derive(Clone)]
pub struct Cluster {
    /// Its API.
    pub client: Client,
    /// The kubeconfig with nothing but the context, where it is one of the operator's. A secret.
    pub kubeconfig: Option<String>,
}

/// The clusters that were asked for, and how they answered.
#[derive(Default)]
pub struct Clusters {
    kubeconfig: Option<PathBuf>,
    known: Mutex<HashMap<String, Known>>,
}

impl fmt::Debug for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clusters").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

/// A client, and the last answer. Found by a hash of the kubeconfig.
struct Known {
    client: Client,
    asked: Option<(Instant, Result<(), String>)>,
}

impl Clusters {
    /// Contexts are looked up in this kubeconfig; in the usual places when unset.
    #[must_use]
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self { kubeconfig, known: Mutex::default() }
    }

    /// The cluster, without asking whether it answers. `home` and `namespace` are where its Secret is.
    ///
    /// # Errors
    /// When nobody knows it, or its kubeconfig cannot be used.
    pub async fn find(&self, home: &Client, namespace: &str, target: &ClusterTarget) -> Result<Cluster, ClusterError> {
        self.find_known(home, namespace, target).await.map(|(cluster, _)| cluster)
    }

    /// The cluster, if it answers.
    ///
    /// # Errors
    /// As [`Self::find`], and when it does not answer.
    pub async fn reach(&self, home: &Client, namespace: &str, target: &ClusterTarget) -> Result<Cluster, ClusterError> {
        let (cluster, key) = self.find_known(home, namespace, target).await?;
        let kept = self.known(|known| {
            let (asked, answer) = known.get(&key)?.asked.clone()?;
            (asked.elapsed() < ANSWER_KEPT).then_some(answer)
        });
        let answer = match kept {
            Some(answer) => answer,
            None => {
                let answer = ask(&cluster.client).await;
                self.known(|known| {
                    if let Some(known) = known.get_mut(&key) {
                        known.asked = Some((Instant::now(), answer.clone()));
                    }
                });
                answer
            }
        };
        answer.map(|()| cluster).map_err(ClusterError::Unreachable)
    }

    async fn find_known(
        &self,
        home: &Client,
        namespace: &str,
        target: &ClusterTarget,
    ) -> Result<(Cluster, String), ClusterError> {
        let (config, is_ours) = match (&target.context, &target.kubeconfig_secret_ref) {
            (Some(context), _) => (self.context(context)?, true),
            (None, Some(secret)) => {
                let key = secret.key.as_deref().unwrap_or(KUBECONFIG_KEY);
                (from_secret(home, namespace, &secret.name, key).await?, false)
            }
            (None, None) => return Err(ClusterError::Unknown("neither a context nor a Secret is named".to_owned())),
        };
        let text = serde_json::to_string(&config).map_err(|error| ClusterError::Unknown(error.to_string()))?;
        let key = short_hash(&text, 32);
        let client = match self.known(|known| known.get(&key).map(|known| known.client.clone())) {
            Some(client) => client,
            None => {
                let client = connect(config).await?;
                self.known(|known| {
                    if known.len() >= MOST_KNOWN {
                        known.clear();
                    }
                    known.insert(key.clone(), Known { client: client.clone(), asked: None });
                });
                client
            }
        };
        Ok((Cluster { client, kubeconfig: is_ours.then_some(text) }, key))
    }

    /// A context of the operator's, alone, with everything that stands in files.
    fn context(&self, name: &str) -> Result<Kubeconfig, ClusterError> {
        let unknown = |said: String| ClusterError::Unknown(said);
        let read = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let all = read.map_err(|error| unknown(format!("the operator's kubeconfig: {error}")))?;
        let context = all.contexts.iter().find(|c| c.name == name).cloned();
        let named = context.as_ref().and_then(|c| c.context.clone());
        let Some(named) = named else {
            let known: Vec<&str> = all.contexts.iter().map(|c| c.name.as_str()).collect();
            return Err(unknown(format!("no such context; the operator knows {}", known.join(", "))));
        };
        let mut cluster = all.clusters.into_iter().find(|c| c.name == named.cluster);
        let mut user = all.auth_infos.into_iter().find(|u| Some(&u.name) == named.user.as_ref());
        if let Some(cluster) = cluster.as_mut().and_then(|c| c.cluster.as_mut()) {
            inline(&mut cluster.certificate_authority, &mut cluster.certificate_authority_data)?;
        }
        if let Some(user) = user.as_mut().and_then(|u| u.auth_info.as_mut()) {
            inline(&mut user.client_certificate, &mut user.client_certificate_data)?;
            let mut key = None;
            inline(&mut user.client_key, &mut key)?;
            user.client_key_data = key.map(Into::into).or(user.client_key_data.take());
            if let Some(path) = user.token_file.take() {
                let token = std::fs::read_to_string(&path).map_err(|error| unknown(format!("{path}: {error}")))?;
                user.token = Some(token.trim().to_owned().into());
            }
        }
        Ok(Kubeconfig {
            current_context: Some(name.to_owned()),
            contexts: context.into_iter().collect(),
            clusters: cluster.into_iter().collect(),
            auth_infos: user.into_iter().collect(),
            ..Kubeconfig::default()
        })
    }

    fn known<R>(&self, look: impl FnOnce(&mut HashMap<String, Known>) -> R) -> R {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes a file's content in place of its path.
fn inline(path: &mut Option<String>, data: &mut Option<String>) -> Result<(), ClusterError> {
    if let Some(path) = path.take() {
        let bytes = std::fs::read(&path).map_err(|error| ClusterError::Unknown(format!("{path}: {error}")))?;
        data.get_or_insert_with(|| base64::engine::general_purpose::STANDARD.encode(bytes));
    }
    Ok(())
}

async fn from_secret(home: &Client, namespace: &str, name: &str, key: &str) -> Result<Kubeconfig, ClusterError> {
    let api: Api<Secret> = Api::namespaced(home.clone(), namespace);
    let found =
        api.get_opt(name).await.map_err(|error| ClusterError::Unreachable(format!("Secret {name}: {error}")))?;
    let unknown = |said: &str| ClusterError::Unknown(format!("Secret \"{name}\" {said}"));
    let secret = found.ok_or_else(|| unknown("does not exist"))?;
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    let data = data.ok_or_else(|| unknown(&format!("has no key \"{key}\"")))?;
    let text = std::str::from_utf8(&data.0).map_err(|_| unknown("holds no text"))?;
    let config = Kubeconfig::from_yaml(text).map_err(|error| unknown(&format!("holds no kubeconfig: {error}")))?;
    harmless(&config).map_err(unknown)?;
    Ok(config)
}

/// Whoever may write Secrets in a namespace must not have the operator run programs, or send it files of its own.
fn harmless(config: &Kubeconfig) -> Result<(), &'static str> {
    for user in config.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("asks for a credential plugin, which the operator does not run; put a token or a client \
                        certificate into it");
        }
        if user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some() {
            return Err("names files, which only the operator would read; put their content into it \
                        (kubectl config view --flatten --raw)");
        }
    }
    let names_file =
        |c: &kube::config::NamedCluster| c.cluster.as_ref().is_some_and(|c| c.certificate_authority.is_some());
    if config.clusters.iter().any(names_file) {
        return Err("names a file for its certificate authority; put its content into it (kubectl config view \
                    --flatten --raw)");
    }
    Ok(())
}

async fn connect(config: Kubeconfig) -> Result<Client, ClusterError> {
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|error| ClusterError::Unknown(format!("its kubeconfig: {error}")))?;
    config.connect_timeout = Some(PATIENCE);
    Client::try_from(config).map_err(|error| ClusterError::Unknown(format!("its kubeconfig: {error}")))
}

/// Whether it answers, and knows us.
async fn ask(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) => Err(format!("it answers {} ({})", status.code, status.message)),
        Ok(Err(error)) => Err(crate::causes::last(&error)),
        Err(_) => Err(format!("it did not answer within {} seconds", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_from_a_secret_runs_nothing_and_reads_nothing() {
        let check = |user: &str, cluster: &str, expect: Option<&str>| {
            let text = format!("users: [{{name: u, user: {user}}}]\nclusters: [{{name: c, cluster: {cluster}}}]");
            let config = Kubeconfig::from_yaml(&text).unwrap();
            match (harmless(&config), expect) {
                (Ok(()), None) => {}
                (Err(said), Some(expect)) => assert!(said.contains(expect), "{said}"),
                (got, _) => panic!("{user} {cluster}: {got:?}"),
            }
        };
        check("{token: t}", "{server: 'https://c'}", None);
        check(
            "{exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}",
            "{server: 'https://c'}",
            Some("plugin"),
        );
        check("{auth-provider: {name: gcp, config: {}}}", "{server: 'https://c'}", Some("plugin"));
        check("{tokenFile: /var/run/secrets/token}", "{server: 'https://c'}", Some("files"));
        check("{client-key: /etc/key}", "{server: 'https://c'}", Some("files"));
        check("{token: t}", "{server: 'https://c', certificate-authority: /etc/ca}", Some("authority"));
    }
}
