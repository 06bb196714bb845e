//! Jobs: run Pods until enough have succeeded or too many have failed. [`plan`] decides, [`act`] carries out, this file
//! keeps the picture: the Jobs, and (shared) the Pods.

mod act;
mod adopt;
mod backoff;
mod conditions;
mod failure_policy;
mod indexes;
mod known;
mod outcome;
mod plan;
mod scale;
mod success_policy;
mod template;
mod ttl;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::watcher;

use crate::Context;
use crate::error::{Error, Step};
use crate::events::Events;
use crate::pods::{Facts, Pods};
use crate::queue::{Next, Queue};
use crate::requests;
use crate::watching::{Change, Listing, each};
use known::Known;

/// Steps of one Job in a row, after which others get their turn.
const STEPS: usize = 16;

/// What may need work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A Job, by `namespace/name`.
    Job(String),
    /// A Pod that waits for a Job that may not exist any more, by `namespace/name`.
    Orphan(String),
}

struct Controller {
    context: Context,
    jobs: Mutex<HashMap<String, Arc<Known>>>,
    pods: Arc<Pods>,
    queue: Arc<Queue<Key>>,
    events: Events,
}

pub(crate) fn start(context: &Context, pods: &Arc<Pods>) {
    let controller = Arc::new(Controller {
        context: context.clone(),
        jobs: Mutex::default(),
        pods: pods.clone(),
        queue: Queue::new(),
        events: Events::start(context, "job-controller"),
    });
    let this = Arc::downgrade(&controller);
    pods.listen(move |pod| {
        if let Some(this) = this.upgrade() {
            this.pod_changed(pod);
        }
    });

    let this = controller.clone();
    let (listed, is_listed) = tokio::sync::watch::channel(false);
    context.spawn(async move {
        let stream = watcher(Api::<Job>::all(this.context.client.clone()), watcher::Config::default());
        let mut listing = Listing::new();
        each("jobs", stream, |change| {
            let complete = matches!(change, Change::Listed);
            this.observe(change, &mut listing);
            if complete {
                listed.send_replace(true);
            }
        })
        .await;
    });

    let (queue, pods, context) = (controller.queue.clone(), pods.clone(), context.clone());
    context.clone().spawn(async move {
        // Deciding about a Job without knowing its Pods would create them again.
        let mut is_listed = is_listed;
        let _ = is_listed.wait_for(|listed| *listed).await;
        pods.ready().await;
        queue.run(context, "job", move |key| controller.clone().sync(key)).await;
    });
}

impl Controller {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Arc<Known>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, change: Change<Job>, listing: &mut Listing<String>) {
        match change {
            Change::Seen(job) => {
                let key = requests::key(&job);
                listing.see(|| key.clone());
                self.remember(job, true);
                self.queue.add(Key::Job(key));
            }
            Change::Gone(job) => self.forget(&requests::key(&job), job.metadata.uid.as_deref()),
            Change::Listing => listing.begin(),
            Change::Listed => {
                let seen = listing.end();
                let lost: Vec<_> = self.jobs().keys().filter(|key| !seen.contains(*key)).cloned().collect();
                lost.iter().for_each(|key| self.forget(key, None));
            }
        }
    }

    /// Keeps a version if it is news. An answer to a write (`!insert`) must not bring a deleted Job back.
    fn remember(&self, mut job: Job, insert: bool) {
        let key = requests::key(&job);
        let mut jobs = self.jobs();
        let mut replaced = None;
        match jobs.get(&key) {
            None if !insert => return,
            None => {}
            Some(known) if known.uid != job.metadata.uid => replaced.clone_from(&known.uid),
            Some(known) if known.version >= requests::version(&job) => return,
            Some(known) => known::keep_start(known.started, &mut job),
        }
        match Known::new(job) {
            Ok(known) => drop(jobs.insert(key, Arc::new(known))),
            Err(error) => return tracing::error!(%error, job = key, "a job cannot be kept"),
        }
        drop(jobs);
        self.orphan(replaced.as_deref());
    }

    fn forget(&self, key: &str, uid: Option<&str>) {
        let mut jobs = self.jobs();
        if jobs.get(key).is_some_and(|known| uid.is_none() || known.uid.as_deref() == uid) {
            let gone = jobs.remove(key);
            drop(jobs);
            self.orphan(gone.and_then(|known| known.uid.clone()).as_deref());
        }
    }

    /// The Pods of a Job that is gone have nobody to wait for.
    fn orphan(&self, uid: Option<&str>) {
        for pod in uid.map(|uid| self.pods.of_job(uid)).into_iter().flatten() {
            self.pod_changed(&pod);
        }
    }

    fn pod_changed(&self, pod: &Facts) {
        match self.owner(pod) {
            Some(key) => self.queue.add(Key::Job(key)),
            None if pod.is_tracked() => self.queue.add(Key::Orphan(pod.key())),
            None => {}
        }
        self.takers(pod).into_iter().for_each(|key| self.queue.add(Key::Job(key)));
    }

    /// The Job that controls the Pod, if it exists.
    fn owner(&self, pod: &Facts) -> Option<String> {
        let (name, uid) = pod.job.as_ref()?;
        let key = format!("{}/{name}", pod.namespace);
        let is_it = self.jobs().get(&key).is_some_and(|known| known.uid.as_ref() == Some(uid));
        is_it.then_some(key)
    }

    async fn sync(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        match key {
            Key::Job(key) => self.sync_job(&key).await,
            Key::Orphan(key) => {
                if let Some(pod) = self.pods.get(&key)
                    && self.owner(&pod).is_none()
                    && pod.is_tracked()
                {
                    self.release(&pod).await?;
                }
                Ok(Next::Wait)
            }
        }
    }

    /// Plans and acts until there is nothing left to do.
    async fn sync_job(&self, key: &str) -> Result<Next, Error> {
        let mut failure = None;
        for _ in 0..STEPS {
            let Some(known) = self.jobs().get(key).cloned() else { return Ok(Next::Wait) };
            let job = known.job().step("read job", key)?;
            let spec = job.spec.as_ref();
            if spec.and_then(|s| s.managed_by.as_deref()).is_some_and(|m| m != "kubernetes.io/job-controller") {
                return Ok(Next::Wait);
            }
            self.claim(&job).await?;
            let pods = self.pods.of_job(job.metadata.uid.as_deref().unwrap_or_default());
            let now = Timestamp::now();
            let plan = plan::plan(&job, &pods, now, failure.is_some());
            match self.act(key, &job, &plan).await {
                Ok(act::Done::Nothing) => {
                    if let Some(error) = failure {
                        return Err(error);
                    }
                    return self.expire(key, &job, now, plan.wake).await;
                }
                Ok(act::Done::Something) => {}
                Ok(act::Done::Outdated) => return Ok(Next::Retry),
                Ok(act::Done::Pointless) => return Ok(Next::Wait),
                // The status is written all the same, once.
                Err(error) if failure.is_none() && (!plan.create.is_empty() || !plan.remove.is_empty()) => {
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.queue.add(Key::Job(key.to_owned()));
        Ok(Next::Wait)
    }

    /// Deletes a Job whose time has passed; says when to look again.
    async fn expire(
        &self,
        key: &str,
        job: &Job,
        now: Timestamp,
        wake: Option<std::time::Duration>,
    ) -> Result<Next, Error> {
        match ttl::remaining(job, now) {
            Some(left) if left.is_zero() && job.metadata.deletion_timestamp.is_none() => {
                self.delete_job(key, job).await?;
                Ok(Next::Wait)
            }
            Some(left) if !left.is_zero() => Ok(Next::After(left)),
            _ => Ok(wake.map_or(Next::Wait, Next::After)),
        }
    }
}

#[cfg(test)]
mod tests;
