//! [`Pods`]: what the controllers know about all Pods. One watch for all of them; of each Pod only the [`Facts`] that
//! decisions need are kept.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::Context;
use crate::requests;
use crate::watching::{Change, Listing, each};

/// The finalizer that keeps a Pod until its Job has counted it.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The annotation and label that carry an Indexed Job's index.
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation that says how often an index has failed before this Pod.
pub(crate) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// The label that a generated selector selects by.
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// Where a Pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// What decisions need to know about a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) version: u64,
    /// Name and uid of the Job that controls it.
    pub(crate) job: Option<(String, String)>,
    /// The labels of a Pod that nobody controls: somebody may want it.
    pub(crate) loose_labels: Option<BTreeMap<String, String>>,
    /// The labels of a Pod that a Job controls, unless they name that Job, as they do with every generated selector:
    /// they may have stopped matching.
    pub(crate) own_labels: Option<BTreeMap<String, String>>,
    pub(crate) created: Option<Timestamp>,
    /// Since when it is being deleted.
    pub(crate) deleting: Option<Timestamp>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) phase: Phase,
    pub(crate) ready: bool,
    pub(crate) restarts: i64,
    pub(crate) index: Option<u32>,
    pub(crate) index_failures: u32,
    /// When its last container ended, if all have.
    pub(crate) finished: Option<Timestamp>,
    /// How its containers ended.
    pub(crate) exits: Vec<(String, i32)>,
    /// Types and statuses of its conditions.
    pub(crate) conditions: Vec<(String, String)>,
    pub(crate) node: Option<String>,
}

impl Facts {
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub(crate) fn is_tracked(&self) -> bool {
        self.finalizers.iter().any(|f| f == TRACKING)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Running or about to, and nobody has asked it to stop.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && self.deleting.is_none()
    }

    /// Asked to stop, but not at its end yet.
    pub(crate) fn is_terminating(&self) -> bool {
        !self.is_finished() && self.deleting.is_some()
    }

    pub(crate) fn of(pod: &Pod) -> Facts {
        let meta = &pod.metadata;
        let annotation =
            |name: &str| meta.annotations.iter().flatten().find(|(k, _)| *k == name).map(|(_, v)| v.as_str());
        let owner = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true) && o.kind == "Job");
        let status = pod.status.clone().unwrap_or_default();
        let containers: Vec<&ContainerStatus> =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()).collect();
        let ended = |c: &&ContainerStatus| c.state.as_ref().and_then(|s| s.terminated.clone());
        let phase = match status.phase.as_deref() {
            Some("Running") => Phase::Running,
            Some("Succeeded") => Phase::Succeeded,
            Some("Failed") => Phase::Failed,
            _ => Phase::Pending,
        };
        let conditions: Vec<_> =
            status.conditions.iter().flatten().map(|c| (c.type_.clone(), c.status.clone())).collect();
        Facts {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: requests::version(pod),
            job: owner.map(|o| (o.name.clone(), o.uid.clone())),
            loose_labels: match meta.owner_references.iter().flatten().any(|o| o.controller == Some(true)) {
                true => None,
                false => meta.labels.clone(),
            },
            own_labels: owner
                .filter(|owner| meta.labels.as_ref().and_then(|labels| labels.get(UID_LABEL)) != Some(&owner.uid))
                .map(|_| meta.labels.clone().unwrap_or_default()),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            deleting: meta.deletion_timestamp.as_ref().map(|t| t.0),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            phase,
            ready: conditions.iter().any(|(type_, status)| type_ == "Ready" && status == "True"),
            restarts: containers.iter().map(|c| i64::from(c.restart_count)).sum(),
            index: annotation(INDEX).and_then(|v| v.parse().ok()),
            index_failures: annotation(INDEX_FAILURES).and_then(|v| v.parse().ok()).unwrap_or(0),
            finished: containers.iter().filter_map(ended).filter_map(|t| t.finished_at.map(|t| t.0)).max(),
            exits: containers.iter().filter_map(|c| ended(c).map(|t| (c.name.clone(), t.exit_code))).collect(),
            conditions,
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty()),
        }
    }
}

type Listener = Box<dyn Fn(&Facts) + Send + Sync>;

#[derive(Default)]
struct Inner {
    by_key: HashMap<String, Arc<Facts>>,
    by_job: HashMap<String, HashSet<String>>,
    /// Keys of Pods that nobody controls.
    loose: HashSet<String>,
    /// The uids of Pods that went lately: a late answer must not bring them back.
    gone: VecDeque<String>,
}

/// How many of the gone are remembered.
const GONE: usize = 512;

/// All Pods.
pub(crate) struct Pods {
    inner: Mutex<Inner>,
    listing: Mutex<Listing<String>>,
    listeners: RwLock<Vec<Listener>>,
    listed: watch::Sender<bool>,
}

impl Pods {
    pub(crate) fn new() -> Arc<Pods> {
        Arc::new(Pods {
            inner: Mutex::default(),
            listing: Mutex::new(Listing::new()),
            listeners: RwLock::default(),
            listed: watch::Sender::new(false),
        })
    }

    /// Calls the listener with every Pod that changes or goes; before the watch is started.
    pub(crate) fn listen(&self, listener: impl Fn(&Facts) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    pub(crate) fn watch(self: &Arc<Self>, context: &Context) {
        let this = self.clone();
        let stream = watcher(Api::<Pod>::all(context.client.clone()), watcher::Config::default());
        context.spawn(each("pods", stream, move |change| this.observe(change)));
    }

    /// Returns when all Pods are known.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as this.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Facts>> {
        self.lock().by_key.get(key).cloned()
    }

    /// The Pods a Job controls, oldest first.
    pub(crate) fn of_job(&self, uid: &str) -> Vec<Arc<Facts>> {
        let inner = self.lock();
        let keys = inner.by_job.get(uid).into_iter().flatten();
        let mut pods: Vec<_> = keys.filter_map(|key| inner.by_key.get(key).cloned()).collect();
        pods.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        pods
    }

    /// The Pods of a namespace that nobody controls.
    pub(crate) fn loose(&self, namespace: &str) -> Vec<Arc<Facts>> {
        let inner = self.lock();
        let pods = inner.loose.iter().filter_map(|key| inner.by_key.get(key));
        pods.filter(|pod| pod.namespace == namespace).cloned().collect()
    }

    /// Pods for which `wanted` holds.
    pub(crate) fn filter(&self, wanted: impl Fn(&Facts) -> bool) -> Vec<Arc<Facts>> {
        self.lock().by_key.values().filter(|pod| wanted(pod)).cloned().collect()
    }

    /// The server's answer to creating a Pod.
    pub(crate) fn created(&self, pod: &Pod) {
        let facts = Facts::of(pod);
        // A list that is under way may have been made before the Pod was.
        self.listing.lock().unwrap_or_else(PoisonError::into_inner).see(|| facts.key());
        let mut inner = self.lock();
        if !inner.gone.contains(&facts.uid) {
            inner.put(facts);
        }
    }

    /// The server's answer to changing or deleting a Pod.
    pub(crate) fn changed(&self, pod: &Pod) {
        let facts = Facts::of(pod);
        let mut inner = self.lock();
        if inner.by_key.get(&facts.key()).is_some_and(|known| known.uid == facts.uid) {
            inner.put(facts);
        }
    }

    /// The server said that there is no such Pod any more.
    pub(crate) fn vanished(&self, pod: &Facts) {
        self.lock().remove(&pod.key(), &pod.uid);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, change: Change<Pod>) {
        match change {
            Change::Seen(pod) => {
                let facts = Facts::of(&pod);
                self.listing.lock().unwrap_or_else(PoisonError::into_inner).see(|| facts.key());
                let (before, after) = self.lock().put(facts);
                before.iter().chain(&after).for_each(|pod| self.tell(pod));
            }
            Change::Gone(pod) => {
                let facts = Facts::of(&pod);
                self.lock().remove(&facts.key(), &facts.uid);
                self.tell(&facts);
            }
            Change::Listing => self.listing.lock().unwrap_or_else(PoisonError::into_inner).begin(),
            Change::Listed => {
                let seen = self.listing.lock().unwrap_or_else(PoisonError::into_inner).end();
                let lost = self.filter(|pod| !seen.contains(&pod.key()));
                for pod in lost {
                    self.lock().remove(&pod.key(), &pod.uid);
                    self.tell(&pod);
                }
                self.listed.send_replace(true);
            }
        }
    }

    fn tell(&self, pod: &Facts) {
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(pod);
        }
    }
}

impl Inner {
    /// Stores a version if it is news. Returns whom it concerns: the Pod now, and as it was if its owner changed.
    fn put(&mut self, facts: Facts) -> (Option<Arc<Facts>>, Option<Arc<Facts>>) {
        let key = facts.key();
        let known = self.by_key.get(&key).cloned();
        if let Some(known) = &known {
            if known.uid == facts.uid && known.version >= facts.version {
                return (None, Some(known.clone()));
            }
            if known.job != facts.job {
                self.unlink(&key, known.clone());
            }
        }
        if let Some((_, uid)) = &facts.job {
            self.by_job.entry(uid.clone()).or_default().insert(key.clone());
        }
        if facts.loose_labels.is_some() {
            self.loose.insert(key.clone());
        } else {
            self.loose.remove(&key);
        }
        let facts = Arc::new(facts);
        let before = known.filter(|known| known.job != facts.job);
        self.by_key.insert(key, facts.clone());
        (before, Some(facts))
    }

    fn unlink(&mut self, key: &str, pod: Arc<Facts>) {
        if let Some((_, uid)) = &pod.job
            && let Some(keys) = self.by_job.get_mut(uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_job.remove(uid);
            }
        }
    }

    fn remove(&mut self, key: &str, uid: &str) {
        self.gone.push_back(uid.to_owned());
        if self.gone.len() > GONE {
            self.gone.pop_front();
        }
        if self.by_key.get(key).is_some_and(|known| known.uid == uid)
            && let Some(pod) = self.by_key.remove(key)
        {
            self.unlink(key, pod);
            self.loose.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, version: u32, job: Option<&str>) -> Pod {
        let owners = job.map(
            |uid| json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true }]),
        );
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": "p", "uid": uid, "resourceVersion": version.to_string(), "ownerReferences": owners },
        }))
        .unwrap()
    }

    fn state(pods: &Pods) -> (Option<u64>, usize) {
        (pods.get("ns/p").map(|p| p.version), pods.of_job("j1").len())
    }

    #[test]
    fn late_news_changes_nothing() {
        let pods = Pods::new();
        pods.created(&pod("a", 5, Some("j1")));
        assert_eq!(state(&pods), (Some(5), 1));
        pods.observe(Change::Seen(pod("a", 4, Some("j1"))));
        assert_eq!(state(&pods), (Some(5), 1));
        pods.changed(&pod("a", 6, None));
        assert_eq!(state(&pods), (Some(6), 0));
        pods.observe(Change::Gone(pod("a", 7, None)));
        pods.changed(&pod("a", 6, Some("j1")));
        pods.created(&pod("a", 5, Some("j1")));
        assert_eq!(state(&pods), (None, 0));
    }

    #[test]
    fn a_list_drops_what_it_does_not_show_but_not_what_was_just_created() {
        let pods = Pods::new();
        pods.created(&pod("a", 5, Some("j1")));
        pods.observe(Change::Listing);
        pods.observe(Change::Listed);
        assert_eq!(state(&pods), (None, 0));
        pods.observe(Change::Listing);
        pods.created(&pod("b", 6, Some("j1")));
        pods.observe(Change::Listed);
        assert_eq!(state(&pods), (Some(6), 1));
    }

    #[test]
    fn the_old_owner_hears_of_a_pod_that_is_taken_from_it() {
        let pods = Pods::new();
        let heard: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let log = heard.clone();
        pods.listen(move |pod| log.lock().unwrap().push(pod.job.as_ref().map(|j| j.1.clone())));
        pods.observe(Change::Seen(pod("a", 5, Some("j1"))));
        pods.observe(Change::Seen(pod("a", 6, None)));
        assert_eq!(*heard.lock().unwrap(), [Some("j1".to_owned()), Some("j1".to_owned()), None]);
    }
}
