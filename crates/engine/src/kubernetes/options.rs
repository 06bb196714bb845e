//! Which cluster, and how containers are placed in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::unavailable;
use crate::traits::Result;

/// How to reach the cluster.
#[derive(Clone, Default)]
pub enum Access {
    /// Inside a cluster: that one. Elsewhere: the current context of `KUBECONFIG`, or of `~/.kube/config`.
    #[default]
    Inferred,
    /// A context of a kubeconfig.
    Kubeconfig {
        /// The file; `None`: as kubectl finds it.
        path: Option<PathBuf>,
        /// The context; `None`: the current one.
        context: Option<String>,
    },
    /// A connection that exists.
    Client(Client),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inferred => f.write_str("Inferred"),
            Self::Kubeconfig { path, context } => {
                f.debug_struct("Kubeconfig").field("path", path).field("context", context).finish()
            }
            Self::Client(_) => f.write_str("Client"),
        }
    }
}

/// How a file or directory of this machine comes into a container of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is sent before the container starts, and does not come back; what the container writes is the container's own.
    /// Only a file that may be written comes back: up to 4 KiB of it, as the container's termination message.
    Copied,
    /// It lies in this PersistentVolumeClaim, of which the mapped path is the root.
    Claim(String),
    /// The cluster's nodes have it, at this path instead of the mapped one.
    NodePath(PathBuf),
}

/// Says where what lies under a path of this machine is to be found in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The path here. It need not exist where it maps to something in the cluster.
    pub path: PathBuf,
    /// Its place there.
    pub place: Place,
}

/// What the engine is told.
#[derive(Debug, Clone)]
pub struct KubernetesOptions {
    /// How to reach the cluster.
    pub access: Access,
    /// Namespace of the Pods; `None`: that of the context, else `default`.
    pub namespace: Option<String>,
    /// Service account of the Pods; its token is mounted only where one is named here.
    pub service_account: Option<String>,
    /// Requests of containers, by resource; a container's own limits win.
    pub requests: BTreeMap<String, String>,
    /// Limits of containers, by resource; a container's own limits win.
    pub limits: BTreeMap<String, String>,
    /// Where this machine's files are found there; of several that fit the longest path decides. What none fits is copied.
    pub mappings: Vec<Mapping>,
    /// How long a start may take before it is told what it waits for.
    pub start_timeout: Duration,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            access: Access::Inferred,
            namespace: None,
            service_account: None,
            requests: BTreeMap::new(),
            limits: BTreeMap::new(),
            mappings: Vec::new(),
            start_timeout: Duration::from_secs(300),
        }
    }
}

impl KubernetesOptions {
    /// Where a path of this machine is found, and what of it remains below that place.
    pub(super) fn place<'a>(&self, path: &'a Path) -> (Place, &'a Path) {
        let fitting = self.mappings.iter().filter_map(|mapping| {
            let rest = path.strip_prefix(&mapping.path).ok()?;
            Some((mapping.path.components().count(), &mapping.place, rest))
        });
        match fitting.max_by_key(|(length, ..)| *length) {
            Some((_, place, rest)) => (place.clone(), rest),
            None => (Place::Copied, path),
        }
    }

    /// Connects; also tells the namespace and the cluster's address.
    pub(super) async fn connect(&self) -> Result<(Client, String, String)> {
        let (config, client) = match &self.access {
            Access::Client(client) => (None, client.clone()),
            Access::Inferred => {
                let config = Config::infer().await.map_err(|error| {
                    unavailable(format!("no cluster is known ({error}): name one by a kubeconfig and its context"))
                })?;
                (Some(config.clone()), client(config)?)
            }
            Access::Kubeconfig { path, context } => {
                let kubeconfig = match path {
                    Some(path) => Kubeconfig::read_from(path),
                    None => Kubeconfig::read(),
                };
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                let config = match kubeconfig {
                    Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                    Err(error) => Err(error),
                };
                let config = config.map_err(|error| unavailable(format!("kubeconfig: {}", super::chain(&error))))?;
                (Some(config.clone()), client(config)?)
            }
        };
        let of_context =
            config.as_ref().map_or_else(|| client.default_namespace().to_owned(), |c| c.default_namespace.clone());
        let namespace = self.namespace.clone().unwrap_or(of_context);
        Ok((client, namespace, config.map(|config| config.cluster_url.to_string()).unwrap_or_default()))
    }
}

fn client(config: Config) -> Result<Client> {
    Client::try_from(config).map_err(|error| unavailable(super::chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_decides() {
        let mapping = |path: &str, place| Mapping { path: path.into(), place };
        let options = KubernetesOptions {
            mappings: vec![
                mapping("/", Place::NodePath("/host".into())),
                mapping("/data/pods", Place::Copied),
                mapping("/data", Place::Claim("data".to_owned())),
            ],
            ..KubernetesOptions::default()
        };
        let check = |path: &str, place: Place, rest: &str| {
            assert_eq!(options.place(Path::new(path)), (place, Path::new(rest)), "{path}");
        };
        check("/data/x", Place::Claim("data".to_owned()), "x");
        check("/data", Place::Claim("data".to_owned()), "");
        check("/data/pods/1", Place::Copied, "1");
        check("/database", Place::NodePath("/host".into()), "database");
        assert_eq!(KubernetesOptions::default().place(Path::new("/x")), (Place::Copied, Path::new("/x")));
    }
}
