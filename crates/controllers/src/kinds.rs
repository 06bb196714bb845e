//! [`Kinds`]: which kinds the server has, kept up to date as custom resources come and go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope};
use tokio::sync::{Notify, watch};

use crate::Context;

/// A kind and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Kind {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// Asks the server for its kinds, each in the version it prefers.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut kinds = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.resources_by_stability() {
            let namespaced = capabilities.scope == Scope::Namespaced;
            kinds.push(Kind { resource, namespaced, verbs: capabilities.operations });
        }
    }
    kinds.sort_by(|a, b| (&a.resource.group, &a.resource.plural).cmp(&(&b.resource.group, &b.resource.plural)));
    Ok(kinds)
}

/// The kinds as last discovered, and the wish to discover again.
pub(crate) struct Kinds {
    known: watch::Receiver<Arc<Vec<Kind>>>,
    refresh: Notify,
    /// Custom resources that are established, as `plural.group`, and so must be found.
    expected: Mutex<Vec<String>>,
}

impl Kinds {
    pub(crate) fn new(context: &Context) -> Arc<Kinds> {
        let (sender, known) = watch::channel(Arc::new(Vec::new()));
        let kinds = Arc::new(Kinds { known, refresh: Notify::new(), expected: Mutex::new(Vec::new()) });
        kinds.refresh.notify_one();
        let client = context.client.clone();
        let this = kinds.clone();
        context.spawn(async move { this.run(client, sender).await });
        kinds
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Vec<Kind>>> {
        self.known.clone()
    }

    /// The custom resources have changed; these must be there (and others may have gone).
    pub(crate) fn expect(&self, established: Vec<String>) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if *expected != established {
            *expected = established;
            self.refresh.notify_one();
        }
    }

    async fn run(&self, client: Client, sender: watch::Sender<Arc<Vec<Kind>>>) {
        loop {
            self.refresh.notified().await;
            let mut delay = Duration::from_millis(20);
            // The server may need a moment to serve what it has established.
            while !self.discover_once(&client, &sender).await {
                tokio::select! {
                    () = self.refresh.notified() => {}
                    () = tokio::time::sleep(delay) => delay = (delay * 2).min(Duration::from_secs(10)),
                }
            }
        }
    }

    /// Whether the result shows everything that is expected.
    async fn discover_once(&self, client: &Client, sender: &watch::Sender<Arc<Vec<Kind>>>) -> bool {
        match discover(client).await {
            Ok(kinds) => {
                let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let complete = !kinds.is_empty()
                    && expected.iter().all(|name| {
                        kinds.iter().any(|k| *name == format!("{}.{}", k.resource.plural, k.resource.group))
                    });
                sender.send_if_modified(|known| {
                    let changed = **known != kinds;
                    *known = Arc::new(kinds);
                    changed
                });
                complete
            }
            Err(error) => {
                tracing::debug!(%error, "discovery failed");
                false
            }
        }
    }
}
