//! Prints the log of the agent on the other cluster, attempt after attempt, and tells how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use kubetask_api::{labels, reasons};
use kubetask_core::cluster::{Spec, Told, told};
use kubetask_core::task::WAITS_FILE;

use super::{Pauses, connect, log, words};
use crate::error::{CommandError, CommandResult};

/// How often a Job that has ended is looked at until its Pod's end has been seen too.
const SETTLE: Duration = Duration::from_millis(250);

/// Runs until the Job has ended; returns the last words, as JSON. `None` when it is to be started again.
pub(super) async fn run(spec: &Spec) -> CommandResult<Option<String>> {
    let mut pauses = Pauses::default();
    let mut follower = Follower::new(spec);
    loop {
        if let Ok(client) = connect(spec).await
            && let Some(end) = follower.session(&client, &mut pauses).await
        {
            let End::Told(told) = end else { return Ok(None) };
            return serde_json::to_string(&told).map(Some).map_err(|error| CommandError::failure(error.to_string()));
        }
        pauses.pause().await;
    }
}

/// How following ends.
enum End {
    /// The Job has ended.
    Told(Told),
    /// The agent is tried again after its container has waited for a person: that this container waits, too, cannot be
    /// taken back. A new one can wait again.
    Again,
}

/// What is known of the Job, across connections.
struct Follower<'a> {
    spec: &'a Spec,
    job: Seen,
    pods: BTreeMap<String, Arc<Pod>>,
    printed: BTreeSet<String>,
    printing: Option<(String, BoxFuture<'a, ()>)>,
    /// The Pod whose container stayed for a person.
    waited: Option<String>,
}

#[derive(PartialEq)]
enum Seen {
    NotYet,
    There(Box<Job>),
    Gone,
}

impl<'a> Follower<'a> {
    fn new(spec: &'a Spec) -> Self {
        Self { spec, job: Seen::NotYet, pods: BTreeMap::new(), printed: BTreeSet::new(), printing: None, waited: None }
    }

    /// Follows over one connection. `None` when it broke: the next one goes on.
    async fn session(&mut self, client: &Client, pauses: &mut Pauses) -> Option<End> {
        let name = self.spec.job.name_any();
        let namespace = self.spec.job.namespace().unwrap_or_default();
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let this = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let of_job = watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        let mut jobs = watcher::watcher(jobs, this).boxed();
        let mut pods = watcher::watcher(pods, of_job).boxed();
        let mut listed: Option<bool> = None;
        loop {
            self.print_next(&namespace);
            if self.printing.is_none()
                && let Some(told) = self.told()
            {
                return Some(End::Told(told));
            }
            if self.human() {
                return Some(End::Again);
            }
            let settling = self.printing.is_none() && self.has_ended();
            let printing = match &mut self.printing {
                Some((_, printing)) => printing.left_future(),
                None => futures::future::pending().right_future(),
            };
            tokio::select! {
                () = printing => {
                    if let Some((pod, _)) = self.printing.take() {
                        self.printed.insert(pod);
                    }
                }
                event = jobs.next() => {
                    match event?.ok()? {
                        Event::Init => listed = Some(false),
                        Event::InitApply(job) | Event::Apply(job) => {
                            listed = listed.map(|_| true);
                            self.job = Seen::There(Box::new(job));
                        }
                        // Listed, and not there.
                        Event::InitDone if listed.take() == Some(false) => self.job = Seen::Gone,
                        Event::InitDone => {}
                        Event::Delete(_) => self.job = Seen::Gone,
                    }
                    pauses.reset();
                }
                event = pods.next() => match event?.ok()? {
                    Event::InitApply(pod) | Event::Apply(pod) => {
                        self.pods.insert(pod.name_any(), Arc::new(pod));
                    }
                    // How it ended is known, where it ended.
                    Event::Delete(pod) if words::agent_ended(&pod) => {
                        self.pods.insert(pod.name_any(), Arc::new(pod));
                    }
                    Event::Delete(_) | Event::Init | Event::InitDone => {}
                },
                () = tokio::time::sleep(SETTLE), if settling => {}
            }
        }
    }

    /// Leaves word when the agent's container stays for a person; tells whether there is another attempt since.
    fn human(&mut self) -> bool {
        let template = self.spec.job.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        let may = template.and_then(|m| m.annotations.as_ref()).is_some_and(|a| a.contains_key(labels::HUMAN));
        let latest = self.pods.values().max_by_key(|pod| (pod.creation_timestamp().map(|at| at.0), pod.name_any()));
        let Some(latest) = latest.filter(|_| may) else { return false };
        let name = latest.name_any();
        match &self.waited {
            Some(waited) => *waited != name,
            None => {
                if words::agent_waits(latest) {
                    if let Err(error) = std::fs::write(WAITS_FILE, "") {
                        eprintln!("cannot write {WAITS_FILE}: {error}");
                    }
                    self.waited = Some(name);
                }
                false
            }
        }
    }

    /// Starts with the log of the next attempt, oldest first.
    fn print_next(&mut self, namespace: &str) {
        if self.printing.is_some() {
            return;
        }
        let waiting =
            self.pods.values().filter(|pod| words::agent_started(pod) && !self.printed.contains(&pod.name_any()));
        let next = waiting.min_by_key(|pod| (pod.creation_timestamp().map(|at| at.0), pod.name_any()));
        if let Some(name) = next.map(|pod| pod.name_any()) {
            let (spec, namespace, pod) = (self.spec, namespace.to_owned(), name.clone());
            let printing = async move { log::print(spec, &namespace, &pod).await }.boxed();
            self.printing = Some((name, printing));
        }
    }

    fn has_ended(&self) -> bool {
        match &self.job {
            Seen::NotYet => false,
            Seen::Gone => true,
            Seen::There(job) => {
                let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions.into_iter().flatten().any(|c| matches!(c.type_.as_str(), "Complete" | "Failed"))
            }
        }
    }

    /// How it ended, once that is certain.
    fn told(&self) -> Option<Told> {
        match &self.job {
            Seen::NotYet => None,
            Seen::There(job) => {
                let pods: Vec<Arc<Pod>> = self.pods.values().cloned().collect();
                told(Timestamp::now(), &self.spec.task(), job, &pods)
            }
            Seen::Gone => Some(Told {
                reason: reasons::JOB_LOST.to_owned(),
                message: format!("the Job was deleted on the cluster of {}", self.spec.cluster),
                ..Told::default()
            }),
        }
    }
}
