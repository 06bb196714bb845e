//! Pods nobody looks after any more: those of a node that has gone, and those that are being deleted without ever having
//! had one. They are marked as failed and removed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use serde_json::json;

use crate::Context;
use crate::error::{Answer, Error, Step, is_conflict};
use crate::pods::{Facts, Pods};
use crate::queue::{Next, Queue};
use crate::requests;
use crate::watching::{Change, Listing, each};

/// How long a node may be away before its Pods are given up: it may only be registering again.
const PATIENCE: Duration = Duration::from_secs(40);

struct Controller {
    context: Context,
    pods: Arc<Pods>,
    nodes: Mutex<HashSet<String>>,
    queue: Arc<Queue<String>>,
}

pub(crate) fn start(context: &Context, pods: &Arc<Pods>) {
    let controller = Arc::new(Controller {
        context: context.clone(),
        pods: pods.clone(),
        nodes: Mutex::default(),
        queue: Queue::new(),
    });

    let this = Arc::downgrade(&controller);
    pods.listen(move |pod| {
        if let Some(this) = this.upgrade() {
            this.look(pod);
        }
    });

    let this = controller.clone();
    let stream = watcher(Api::<PartialObjectMeta<Node>>::all(context.client.clone()), watcher::Config::default());
    let mut listing = Listing::new();
    context.spawn(each("nodes", stream, move |change| match change {
        Change::Seen(node) => {
            let name = node.metadata.name.unwrap_or_default();
            listing.see(|| name.clone());
            this.nodes().insert(name);
        }
        Change::Gone(node) => {
            let name = node.metadata.name.unwrap_or_default();
            this.nodes().remove(&name);
            this.look_at_pods_of(|node| node == name);
        }
        Change::Listing => listing.begin(),
        Change::Listed => {
            let present = listing.end();
            *this.nodes() = present.clone();
            this.look_at_pods_of(|node| !present.contains(node));
        }
    }));

    let queue = controller.queue.clone();
    context.spawn(queue.run(context.clone(), "podgc", move |key| controller.clone().sync(key)));
}

impl Controller {
    fn nodes(&self) -> MutexGuard<'_, HashSet<String>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, pod: &Facts) {
        match &pod.node {
            Some(node) if self.nodes().contains(node) => {}
            Some(_) => self.queue.add_after(pod.key(), PATIENCE),
            None if pod.deleting.is_some() => self.queue.add(pod.key()),
            None => {}
        }
    }

    fn look_at_pods_of(&self, gone: impl Fn(&str) -> bool) {
        for pod in self.pods.filter(|pod| pod.node.as_deref().is_some_and(&gone)) {
            self.look(&pod);
        }
    }

    async fn sync(self: Arc<Self>, key: String) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Wait) };
        match &pod.node {
            Some(node) => {
                let nodes: Api<Node> = Api::all(self.context.client.clone());
                if self.nodes().contains(node) {
                    return Ok(Next::Wait);
                }
                if nodes.get_metadata_opt(node).await.step("read node", node)?.is_some() {
                    return Ok(Next::Wait);
                }
                self.remove(&pod, "PodGC: node no longer exists").await
            }
            None if pod.deleting.is_some() => self.remove(&pod, "PodGC: pod was deleted before it had a node").await,
            None => Ok(Next::Wait),
        }
    }

    async fn remove(&self, pod: &Facts, why: &str) -> Result<Next, Error> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace);
        if !pod.is_finished() {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": why,
                "lastTransitionTime": Time(Timestamp::now()),
            });
            let body = json!({
                "metadata": { "uid": pod.uid },
                "status": { "phase": "Failed", "conditions": [condition] },
            });
            let marked = api.patch_status(&pod.name, &requests::patch(), &Patch::Strategic(body)).await;
            marked.unless_missing().step("mark pod as failed", pod.key())?;
        }
        let mut parameters = requests::delete(&pod.uid, PropagationPolicy::Background);
        parameters.grace_period_seconds = Some(0);
        match api.delete(&pod.name, &parameters).await.unless_missing() {
            // Another Pod of that name.
            Err(e) if is_conflict(&e) => Ok(Next::Wait),
            other => other.map(|_| Next::Wait).step("delete pod", pod.key()),
        }
    }
}
