//! All pods of the node: one watch, a driver for each, the scheduler's turn for those without a node, and orphans.
//!
//! Invariant: nothing is taken for an orphan before the API server's list of pods was read to its end.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kubetask_engine::spec::ContainerState;
use tokio::sync::{mpsc, watch};

use crate::config::{ATTEMPT_LABEL, CONTAINER_LABEL, NODE_LABEL, POD_UID_LABEL};
use crate::driver::{self, Origin};
use crate::engines;
use crate::machine::Event;
use crate::record::{Record, SlotRecord};
use crate::scheduler::bind::{self, Bound};
use crate::scheduler::fit::{self, Neighbour};
use crate::shared::Shared;

/// How long an engine may take to list its containers when the node starts.
const LISTING: std::time::Duration = std::time::Duration::from_secs(10);

/// Knows all pods.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    node: watch::Receiver<Option<Arc<Node>>>,
    /// Pods that take something of the node.
    placed: HashMap<String, Neighbour>,
    /// Pods that found no place, and what they were told.
    waiting: HashMap<String, (Arc<Pod>, Option<String>)>,
    /// Records of an earlier process that no pod was seen for yet.
    records: HashMap<String, std::io::Result<Option<Record>>>,
    /// Containers of an earlier process.
    found: Vec<(&'static str, ContainerState)>,
    answers: mpsc::UnboundedSender<(Arc<Pod>, Bound)>,
    bindings: mpsc::UnboundedReceiver<(Arc<Pod>, Bound)>,
    listed_once: bool,
}

impl Manager {
    pub(crate) fn new(shared: Arc<Shared>, node: watch::Receiver<Option<Arc<Node>>>) -> Self {
        let (answers, bindings) = mpsc::unbounded_channel();
        Self {
            shared,
            node,
            placed: HashMap::new(),
            waiting: HashMap::new(),
            records: HashMap::new(),
            found: Vec::new(),
            answers,
            bindings,
            listed_once: false,
        }
    }

    /// Runs until the node ends.
    pub(crate) async fn run(mut self) {
        self.records = read_records(&self.shared.layout.pods());
        self.found = list_containers(&self.shared).await;
        let api: Api<Pod> = Api::all(self.shared.client());
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        pin_mut!(stream);
        let mut seen = HashSet::new();
        let (stop, full) = (self.shared.stop.clone(), self.shared.full.clone());
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = full.cancelled() => return,
                event = stream.next() => match event {
                    Some(Ok(watcher::Event::Init)) => seen.clear(),
                    Some(Ok(watcher::Event::InitApply(pod))) => {
                        seen.extend(pod.metadata.uid.clone());
                        self.apply(pod).await;
                    }
                    Some(Ok(watcher::Event::InitDone)) => self.listed(&seen).await,
                    Some(Ok(watcher::Event::Apply(pod))) => self.apply(pod).await,
                    Some(Ok(watcher::Event::Delete(pod))) => self.gone(pod.metadata.uid.as_deref().unwrap_or_default()).await,
                    Some(Err(error)) => tracing::debug!(%error, "watch of pods"),
                    None => return,
                },
                Some((pod, bound)) = self.bindings.recv() => self.bound(pod, bound).await,
                () = shared.claims_changed.notified() => {
                    if self.waiting.values().any(|(pod, _)| crate::claims::names(pod).next().is_some()) {
                        self.retry_waiting().await;
                    }
                }
                changed = self.node.changed() => {
                    if changed.is_ok() {
                        self.retry_waiting().await;
                    }
                }
            }
        }
    }

    async fn apply(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let pod = Arc::new(pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let over = matches!(phase(&pod), Some("Succeeded" | "Failed"));
        if let Some(handle) = self.shared.handle(&uid) {
            handle.events.tell(Event::Pod(Arc::clone(&pod)));
        } else if node == self.shared.config.name {
            let record = self.record_of(&uid).await;
            let fresh = record.is_none() && never_ran(&pod);
            let origin = if fresh { Origin::Fresh { bound: true } } else { Origin::Found { record } };
            driver::spawn(&self.shared, Arc::clone(&pod), origin);
        } else if node.is_empty() && !over {
            return self.schedule(uid, pod).await;
        }
        self.waiting.remove(&uid);
        let ours = node == self.shared.config.name;
        if ours && over {
            if self.placed.remove(&uid).is_some() {
                self.retry_waiting().await;
            }
        } else if ours {
            self.placed.insert(uid, Neighbour::of(&pod));
        }
    }

    async fn gone(&mut self, uid: &str) {
        self.waiting.remove(uid);
        if let Some(handle) = self.shared.handle(uid) {
            handle.events.tell(Event::Gone);
        }
        if self.placed.remove(uid).is_some() {
            self.retry_waiting().await;
        }
    }

    /// Gives a pod this node, or says why not. Its volumes are prepared while the binding is on its way.
    async fn schedule(&mut self, uid: String, pod: Arc<Pod>) {
        let spec = pod.spec.clone().unwrap_or_default();
        let scheduler = spec.scheduler_name.as_deref().unwrap_or("default-scheduler");
        let gated = spec.scheduling_gates.is_some_and(|gates| !gates.is_empty());
        if !matches!(scheduler, "default-scheduler" | "") || gated || pod.metadata.deletion_timestamp.is_some() {
            self.waiting.remove(&uid);
            return;
        }
        let told = self.waiting.remove(&uid).and_then(|(_, told)| told);
        let Some(node) = self.node.borrow().clone() else {
            self.waiting.insert(uid, (pod, told));
            return;
        };
        let missing = self.missing_claims(&pod).await;
        let others: Vec<&Neighbour> = self.placed.values().collect();
        match fit::check(&pod, &node, &others, |claim| !missing.contains(claim)) {
            Ok(()) => {
                self.placed.insert(uid, Neighbour::of(&pod));
                driver::spawn(&self.shared, Arc::clone(&pod), Origin::Fresh { bound: false });
                let (shared, answers) = (Arc::clone(&self.shared), self.answers.clone());
                self.shared.tasks.spawn(async move {
                    let stop = shared.stop.clone();
                    let binding = async {
                        let bound = bind::bind(&shared, &pod).await;
                        if bound == Bound::Ours {
                            tell_bound(&shared, &pod);
                        }
                        let _ = answers.send((pod, bound));
                    };
                    stop.run_until_cancelled(binding).await;
                });
            }
            Err(message) => {
                if told.as_ref() != Some(&message) {
                    let (shared, pod, message) = (Arc::clone(&self.shared), Arc::clone(&pod), message.clone());
                    let stop = shared.stop.clone();
                    let tell = async move { bind::unschedulable(&shared, &pod, &message).await };
                    self.shared.tasks.spawn(async move { stop.run_until_cancelled(tell).await });
                }
                self.waiting.insert(uid, (pod, Some(message)));
            }
        }
    }

    async fn missing_claims(&self, pod: &Pod) -> HashSet<String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.shared.client(), namespace);
        let mut missing = HashSet::new();
        for claim in crate::claims::names(pod) {
            if matches!(api.get_opt(claim).await, Ok(None)) {
                missing.insert(claim.to_owned());
            }
        }
        missing
    }

    async fn bound(&mut self, pod: Arc<Pod>, bound: Bound) {
        if bound == Bound::Lost {
            self.gone(pod.metadata.uid.as_deref().unwrap_or_default()).await;
        }
    }

    /// Room was made, or the node changed: whoever waits is looked at again, the oldest first.
    async fn retry_waiting(&mut self) {
        let mut waiting: Vec<(String, Arc<Pod>)> =
            self.waiting.iter().map(|(uid, (pod, _))| (uid.clone(), Arc::clone(pod))).collect();
        waiting.sort_by_key(|(_, pod)| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for (uid, pod) in waiting {
            self.schedule(uid, pod).await;
        }
    }

    /// What an earlier process wrote of a pod. A record that cannot be read is made anew from what the engines know.
    async fn record_of(&mut self, uid: &str) -> Option<Record> {
        match self.records.remove(uid)? {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(uid, %error, "record of a pod cannot be read; asking the engines");
                Some(rebuild(uid, &self.found))
            }
        }
    }

    /// The API server's list was read to its end.
    async fn listed(&mut self, seen: &HashSet<String>) {
        let known: Vec<String> = {
            let pods = self.shared.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pods.keys().chain(self.waiting.keys()).cloned().collect()
        };
        for uid in known.iter().filter(|uid| !seen.contains(*uid)) {
            self.gone(uid).await;
        }
        if std::mem::replace(&mut self.listed_once, true) {
            return;
        }
        for (engine, container) in std::mem::take(&mut self.found) {
            let uid = container.labels.get(POD_UID_LABEL).cloned().unwrap_or_default();
            if !seen.contains(&uid)
                && let Ok(engine) = self.shared.config.engines.engine(Some(engine))
            {
                tracing::info!(id = container.id.0, "removing a container whose pod is gone");
                self.shared.tasks.spawn(driver::remove_orphan(engine, container.id));
            }
        }
        let orphans: Vec<(String, Option<Record>)> = self
            .records
            .drain()
            .filter(|(uid, _)| !seen.contains(uid))
            .map(|(uid, record)| (uid, record.ok().flatten()))
            .collect();
        for (uid, record) in orphans {
            let (namespace, name) = record.map(|record| (record.namespace, record.name)).unwrap_or_default();
            driver::remove_files(&self.shared, namespace, name, uid).await;
        }
        self.remove_unknown_logs(seen).await;
    }

    /// Logs and Secrets of pods that went while nobody looked.
    async fn remove_unknown_logs(&self, seen: &HashSet<String>) {
        let (logs, private) = (self.shared.layout.logs(), self.shared.layout.private_root());
        let seen = seen.clone();
        let work = move || {
            let uid_of_log = |name: &str| name.rsplit('_').next().unwrap_or_default().to_owned();
            remove_unknown(&logs, &seen, uid_of_log);
            remove_unknown(&private, &seen, str::to_owned);
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

fn tell_bound(shared: &Shared, pod: &Arc<Pod>) {
    let Some(handle) = pod.metadata.uid.as_deref().and_then(|uid| shared.handle(uid)) else { return };
    handle.events.tell(Event::Bound);
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Whether the API server knows of no container of the pod that ever ran.
fn never_ran(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return true };
    let mut containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    matches!(status.phase.as_deref(), None | Some("Pending"))
        && containers.all(|container| container.container_id.is_none())
}

fn remove_unknown(root: &Path, seen: &HashSet<String>, uid: impl Fn(&str) -> String) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if !seen.contains(&uid(&entry.file_name().to_string_lossy()))
            && let Err(error) = crate::volumes::remove_tree(&entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "leftover not removed");
        }
    }
}

/// Records on disk, by pod uid.
fn read_records(pods: &Path) -> HashMap<String, std::io::Result<Option<Record>>> {
    let mut records = HashMap::new();
    for entry in std::fs::read_dir(pods).into_iter().flatten().flatten() {
        let record = Record::read(&entry.path().join("record.json"));
        records.insert(entry.file_name().to_string_lossy().into_owned(), record);
    }
    records
}

/// Containers of this node, with the engine that knows them. One that does not answer soon holds nobody up.
async fn list_containers(shared: &Shared) -> Vec<(&'static str, ContainerState)> {
    let list = |name| async move {
        let Ok(engine) = shared.config.engines.engine(Some(name)) else { return Vec::new() };
        match tokio::time::timeout(LISTING, engine.list(Some((NODE_LABEL, &shared.config.name)))).await {
            Ok(Ok(containers)) => containers.into_iter().map(|container| (engine.name(), container)).collect(),
            Ok(Err(error)) => {
                tracing::warn!(engine = name, %error, "containers of an engine not listed");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(engine = name, "an engine does not list its containers: it does not answer");
                Vec::new()
            }
        }
    };
    futures::future::join_all(shared.config.engines.names().into_iter().map(list)).await.concat()
}

/// The record of a pod, from its containers.
fn rebuild(uid: &str, found: &[(&'static str, ContainerState)]) -> Record {
    let own =
        found.iter().filter(|(_, container)| container.labels.get(POD_UID_LABEL).is_some_and(|label| label == uid));
    let mut slots: HashMap<String, u32> = HashMap::new();
    let mut route = String::new();
    for (engine, container) in own {
        let Some(name) = container.labels.get(CONTAINER_LABEL) else { continue };
        let attempt = container.labels.get(ATTEMPT_LABEL).and_then(|text| text.parse().ok()).unwrap_or(0);
        let latest = slots.entry(name.clone()).or_insert(attempt);
        *latest = (*latest).max(attempt);
        // Where a pod has containers of two engines, the local one has only those of KubeTask's own image.
        if route.is_empty() || *engine != engines::LOCAL {
            route = (*engine).to_owned();
        }
    }
    let slots = slots.into_iter().map(|(name, attempt)| SlotRecord {
        name,
        attempt,
        crashes: attempt,
        ever_started: true,
        ended: None,
        last: None,
    });
    Record {
        version: Record::VERSION,
        namespace: String::new(),
        name: String::new(),
        uid: uid.to_owned(),
        engine: route,
        start_time: jiff::Timestamp::now(),
        slots: slots.collect(),
    }
}
