//! News of the ConfigMaps, Secrets and claims that pods of this node refer to.
//!
//! One watch a kind for the whole node, of metadata only, opened when the first pod refers to something of that kind. Who
//! hears of a change fetches the content itself.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::objects::Refs;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed<'a> {
    /// A ConfigMap, by namespace and name.
    ConfigMap(&'a str, &'a str),
    /// A Secret, by namespace and name.
    Secret(&'a str, &'a str),
    /// A claim, by namespace and name.
    Claim(&'a str, &'a str),
    /// Perhaps anything: news may have been missed.
    Anything,
}

/// Who wants to hear what.
#[derive(Default)]
pub(crate) struct Sources {
    pods: Mutex<HashMap<String, Interest>>,
    config_maps: AtomicBool,
    secrets: AtomicBool,
}

/// What a pod wants to hear of.
pub(crate) struct Interest {
    /// Its namespace.
    pub(crate) namespace: String,
    /// ConfigMaps and Secrets.
    pub(crate) refs: Refs,
    /// Claims.
    pub(crate) claims: Vec<String>,
    /// Who is told.
    pub(crate) notify: Arc<Notify>,
}

impl Sources {
    /// `interest` is told of changes from now on, until [`Sources::forget`]. Opens the watches that this needs.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        client: &Client,
        stop: &CancellationToken,
        uid: &str,
        interest: Interest,
    ) {
        let refs = interest.refs.clone();
        self.pods().insert(uid.to_owned(), interest);
        if !refs.config_maps.is_empty() && !self.config_maps.swap(true, Ordering::Relaxed) {
            let watch = watch::<ConfigMap>(Arc::clone(self), client.clone(), |ns, name| Changed::ConfigMap(ns, name));
            tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
        }
        if !refs.secrets.is_empty() && !self.secrets.swap(true, Ordering::Relaxed) {
            let watch = watch::<Secret>(Arc::clone(self), client.clone(), |ns, name| Changed::Secret(ns, name));
            tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
        }
    }

    /// Ends a subscription.
    pub(crate) fn forget(&self, uid: &str) {
        self.pods().remove(uid);
    }

    /// Tells everyone concerned.
    pub(crate) fn tell(&self, changed: Changed<'_>) {
        for interest in self.pods().values() {
            let own = |namespace: &str| interest.namespace == namespace;
            let concerned = match changed {
                Changed::ConfigMap(namespace, name) => own(namespace) && interest.refs.config_maps.contains(name),
                Changed::Secret(namespace, name) => own(namespace) && interest.refs.secrets.contains(name),
                Changed::Claim(namespace, name) => own(namespace) && interest.claims.iter().any(|claim| claim == name),
                Changed::Anything => true,
            };
            if concerned {
                interest.notify.notify_one();
            }
        }
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, Interest>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a kind from now on, for ever. Nothing is listed: what was there before is fetched by who needs it.
async fn watch<K>(sources: Arc<Sources>, client: Client, changed: for<'a> fn(&'a str, &'a str) -> Changed<'a>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let api: Api<K> = Api::all(client);
    let mut wait = Duration::ZERO;
    let mut version = None;
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).clamp(Duration::from_millis(100), Duration::from_secs(30));
        let from = match version.take() {
            Some(version) => version,
            None => match api.list_metadata(&ListParams::default().limit(1)).await {
                Ok(list) => {
                    // Between the last watch and this one anything may have happened.
                    sources.tell(Changed::Anything);
                    list.metadata.resource_version.unwrap_or_default()
                }
                Err(error) => {
                    tracing::debug!(%error, "watch of referred objects: list");
                    continue;
                }
            },
        };
        let stream = match api.watch_metadata(&WatchParams::default().timeout(290), &from).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "watch of referred objects: open");
                continue;
            }
        };
        pin_mut!(stream);
        wait = Duration::ZERO;
        version = Some(from);
        while let Some(event) = stream.next().await {
            let object = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) => object,
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version = Some(bookmark.metadata.resource_version);
                    continue;
                }
                // Most likely the version is too old: begin anew.
                Ok(WatchEvent::Error(_)) | Err(_) => {
                    version = None;
                    break;
                }
            };
            version = object.metadata.resource_version.or(version);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            sources.tell(changed(&text(&object.metadata.namespace), &text(&object.metadata.name)));
        }
    }
}
