//! ConfigMaps and Secrets that a pod refers to: which, and their content fetched in one go.
//!
//! Pure code asks for [`Refs`], the driver fetches them through [`Objects`], and pure code reads [`Fetched`].

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::{ConfigMap, EnvFromSource, EnvVar, Pod, Secret};
use kube::{Api, Client, Resource};

/// Names of ConfigMaps and Secrets of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refs {
    /// ConfigMaps.
    pub(crate) config_maps: BTreeSet<String>,
    /// Secrets.
    pub(crate) secrets: BTreeSet<String>,
}

impl Refs {
    /// Everything that volumes and environments of a pod refer to.
    pub(crate) fn of_pod(pod: &Pod) -> Self {
        let mut refs = Self::default();
        let Some(spec) = &pod.spec else { return refs };
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            refs.add(&container.env, &container.env_from);
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            refs.add(&container.env, &container.env_from);
        }
        for volume in spec.volumes.iter().flatten() {
            if let Some(source) = &volume.config_map {
                refs.config_maps.insert(source.name.clone());
            }
            if let Some(name) = volume.secret.as_ref().and_then(|source| source.secret_name.clone()) {
                refs.secrets.insert(name);
            }
            for source in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
                if let Some(source) = &source.config_map {
                    refs.config_maps.insert(source.name.clone());
                }
                if let Some(source) = &source.secret {
                    refs.secrets.insert(source.name.clone());
                }
            }
        }
        refs.config_maps.remove("");
        refs.secrets.remove("");
        refs
    }

    /// Whether there is nothing to fetch.
    pub(crate) fn is_empty(&self) -> bool {
        self.config_maps.is_empty() && self.secrets.is_empty()
    }

    fn add(&mut self, env: &Option<Vec<EnvVar>>, env_from: &Option<Vec<EnvFromSource>>) {
        for source in env_from.iter().flatten() {
            self.config_maps.extend(source.config_map_ref.as_ref().map(|source| source.name.clone()));
            self.secrets.extend(source.secret_ref.as_ref().map(|source| source.name.clone()));
        }
        for source in env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
            self.config_maps.extend(source.config_map_key_ref.as_ref().map(|source| source.name.clone()));
            self.secrets.extend(source.secret_key_ref.as_ref().map(|source| source.name.clone()));
        }
    }
}

/// Content of what [`Refs`] named; what does not exist is absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// ConfigMaps by name. Boxed: a node of the map has room for eleven, and most pods name one or two.
    pub(crate) config_maps: BTreeMap<String, Box<ConfigMap>>,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<String, Box<Secret>>,
}

impl Fetched {
    /// A ConfigMap, or the kubelet's words for its absence.
    pub(crate) fn config_map(&self, name: &str) -> Result<&ConfigMap, String> {
        self.config_maps.get(name).map(Box::as_ref).ok_or_else(|| format!("configmap \"{name}\" not found"))
    }

    /// A Secret, or the kubelet's words for its absence.
    pub(crate) fn secret(&self, name: &str) -> Result<&Secret, String> {
        self.secrets.get(name).map(Box::as_ref).ok_or_else(|| format!("secret \"{name}\" not found"))
    }
}

/// Where ConfigMaps and Secrets come from.
#[async_trait]
pub(crate) trait Objects: Send + Sync {
    /// Fetches all of `refs`; an error is one of the connection, not an absence.
    async fn fetch(&self, namespace: &str, refs: &Refs) -> Result<Fetched, kube::Error>;
}

/// What was found, without who manages its fields.
fn by_name<K: Resource>(names: &BTreeSet<String>, found: Vec<Option<K>>) -> BTreeMap<String, Box<K>> {
    let found = names.iter().zip(found).filter_map(|(name, object)| Some((name.clone(), object?)));
    found
        .map(|(name, mut object)| {
            object.meta_mut().managed_fields = None;
            (name, Box::new(object))
        })
        .collect()
}

/// The API server.
pub(crate) struct ApiObjects(pub(crate) Client);

#[async_trait]
impl Objects for ApiObjects {
    async fn fetch(&self, namespace: &str, refs: &Refs) -> Result<Fetched, kube::Error> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.0.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.0.clone(), namespace);
        let (maps, hidden) = try_join(
            try_join_all(refs.config_maps.iter().map(|name| config_maps.get_opt(name))),
            try_join_all(refs.secrets.iter().map(|name| secrets.get_opt(name))),
        )
        .await?;
        Ok(Fetched { config_maps: by_name(&refs.config_maps, maps), secrets: by_name(&refs.secrets, hidden) })
    }
}
