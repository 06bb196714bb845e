//! What every pod's driver shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::NodeConfig;
use crate::env::downward::NodeFacts;
use crate::events::Recorder;
use crate::logs::notify::Notifier;
use crate::machine::Event;
use crate::names::Layout;
use crate::objects::Objects;
use crate::sources::Sources;
use crate::view::PodView;

/// The node's common means.
pub(crate) struct Shared {
    /// Its configuration.
    pub(crate) config: NodeConfig,
    /// Where things lie.
    pub(crate) layout: Layout,
    /// What shows through the downward API.
    pub(crate) facts: NodeFacts,
    /// Records events.
    pub(crate) recorder: Recorder,
    /// Fetches ConfigMaps and Secrets.
    pub(crate) objects: Box<dyn Objects>,
    /// Tells of their changes.
    pub(crate) sources: Arc<Sources>,
    /// A claim appeared or changed: a pod may find its place now.
    pub(crate) claims_changed: Notify,
    /// Tells of growing logs.
    pub(crate) notifier: Notifier,
    /// Cancelled when the node shuts down.
    pub(crate) stop: CancellationToken,
    /// Cancelled when no pod is to be taken any more.
    pub(crate) full: CancellationToken,
    /// Everything that should come to its end before the node is gone.
    pub(crate) tasks: TaskTracker,
    /// Pods by uid.
    pub(crate) pods: Mutex<HashMap<String, PodHandle>>,
}

/// A pod's driver, from outside.
#[derive(Clone)]
pub(crate) struct PodHandle {
    /// Tells it something.
    pub(crate) events: Mailbox,
    /// What it shows.
    pub(crate) view: watch::Receiver<PodView>,
}

/// Where a pod's driver hears of things. The events are boxed: a channel keeps room for 32 of them.
#[derive(Clone)]
pub(crate) struct Mailbox(mpsc::UnboundedSender<Box<Event>>);

impl Mailbox {
    /// A mailbox, and the other end of it.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Box<Event>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells the driver. One that has ended takes no more news, and needs none.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.0.send(Box::new(event));
    }

    /// Whether the driver has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Shared {
    /// The client.
    pub(crate) fn client(&self) -> Client {
        self.config.client.clone()
    }

    /// Pods of a namespace in the API server.
    pub(crate) fn pod_api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client(), namespace)
    }

    /// The pod with this uid.
    pub(crate) fn handle(&self, uid: &str) -> Option<PodHandle> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// The pod with this name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<PodHandle> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = pods.values().filter(|handle| {
            let view = handle.view.borrow();
            view.name == name && view.namespace == namespace
        });
        // A pod that was deleted and made again: the newer one, which still has something to do.
        let first = named.next()?;
        Some(named.fold(first, |best, other| if best.view.borrow().over { other } else { best }).clone())
    }

    /// Whether any pod is like this.
    pub(crate) fn any_pod(&self, like: impl Fn(&PodView) -> bool) -> bool {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().any(|handle| like(&handle.view.borrow()))
    }

    /// All pods.
    pub(crate) fn all(&self) -> Vec<PodHandle> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds or removes a pod.
    pub(crate) fn set(&self, uid: &str, handle: Option<PodHandle>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        match handle {
            Some(handle) => drop(pods.insert(uid.to_owned(), handle)),
            None => drop(pods.remove(uid)),
        }
    }
}
