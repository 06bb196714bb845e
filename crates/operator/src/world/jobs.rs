//! Jobs of Tasks and their Pods.
//!
//! A Job that was just created is known before its watch event arrives ([`Jobs::created`]), so that the next look at
//! the Task neither creates it again nor asks for it. If it was deleted before the answer to its creation came, it stays
//! deleted: [`Jobs::creating`] remembers that.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};

use super::kept::{KeptJob, KeptPod, owner};
use super::{TaskKey, names};

/// Namespace and name.
type Key = (String, String);

/// Jobs and Pods, by the Job's name.
#[derive(Default)]
pub struct Jobs {
    jobs: HashMap<Key, KeptJob>,
    /// Of each Job; mostly one, so that looking for a name is no search.
    pods: HashMap<Key, Vec<KeptPod>>,
    /// The Pod of a Job that went last, after its end: a Pod that was deleted or evicted goes before its Job tells how it
    /// ended, and its last words say why.
    gone: HashMap<Key, KeptPod>,
    /// Jobs that are being created, and whether the watch said meanwhile that they are gone.
    creating: HashMap<Key, bool>,
    /// Jobs of which it is not known whether they were created: the answer was lost.
    unsure: HashSet<Key>,
    /// Why a Job's Pod may not be created: the latest event that tells.
    refusals: HashMap<Key, Refusal>,
}

struct Refusal {
    event: String,
    said: Arc<str>,
}

impl Jobs {
    /// What is kept of the Job of that name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Job>> {
        let job = self.jobs.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(Arc::new(job.show(namespace, name)))
    }

    /// Whether there is a Job of that name.
    #[must_use]
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.jobs.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// What is kept of the Pods of the Job of that name.
    #[must_use]
    pub fn pods(&self, namespace: &str, job: &str) -> Vec<Arc<Pod>> {
        let pods = self.pods.get(&(namespace.to_owned(), job.to_owned())).map(Vec::as_slice).unwrap_or_default();
        pods.iter().map(|pod| Arc::new(pod.show(namespace))).collect()
    }

    /// The Pods by which to tell how the Job of that name ended: those that are there, or the last one there was.
    #[must_use]
    pub fn pods_at_the_end(&self, namespace: &str, job: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods(namespace, job);
        if pods.is_empty() {
            let gone = self.gone.get(&(namespace.to_owned(), job.to_owned()));
            pods.extend(gone.map(|pod| Arc::new(pod.show(namespace))));
        }
        pods
    }

    /// What the job controller said when the Job's Pod was refused.
    #[must_use]
    pub fn refusal(&self, namespace: &str, job: &str) -> Option<Arc<str>> {
        self.refusals.get(&(namespace.to_owned(), job.to_owned())).map(|refusal| refusal.said.clone())
    }

    /// A Job is about to be created.
    pub fn creating(&mut self, namespace: &str, name: &str) {
        self.creating.insert((namespace.to_owned(), name.to_owned()), false);
    }

    /// The answer to its creation: the Job, or nothing. A newer one from the watch stays; one that went meanwhile does
    /// not come back.
    pub fn created(&mut self, namespace: &str, name: &str, job: Option<Job>) {
        let key = (namespace.to_owned(), name.to_owned());
        self.unsure.remove(&key);
        let gone = self.creating.remove(&key).unwrap_or(false);
        if let (Some(job), false) = (job, gone) {
            self.jobs.entry(key).or_insert_with(|| KeptJob::new(job));
        }
    }

    /// Its creation was not answered: it may be there.
    pub fn unanswered(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let gone = self.creating.remove(&key).unwrap_or(false);
        if !gone && !self.jobs.contains_key(&key) {
            self.unsure.insert(key);
        }
    }

    /// Whether it is not known whether that Job was created.
    #[must_use]
    pub fn is_unsure(&self, namespace: &str, name: &str) -> bool {
        !self.unsure.is_empty() && self.unsure.contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// Takes in a Job from the watch; tells whose it is.
    pub fn put(&mut self, job: Job) -> Option<TaskKey> {
        let owner = owner(&job);
        let key = names(&job.metadata);
        self.unsure.remove(&key);
        self.jobs.insert(key, KeptJob::new(job));
        owner
    }

    /// Forgets a Job; tells whose it was.
    pub fn remove(&mut self, job: &Job) -> Option<TaskKey> {
        let key = names(&job.metadata);
        if let Some(gone) = self.creating.get_mut(&key) {
            *gone = true;
        }
        self.unsure.remove(&key);
        self.gone.remove(&key);
        self.jobs.remove(&key);
        owner(job)
    }

    /// Takes in an event that tells why a Pod was refused; tells whose Job it is.
    pub fn put_refusal(&mut self, event: Event) -> Option<TaskKey> {
        let (namespace, name) = names(&event.metadata);
        let job = event.involved_object.name?;
        let key = (namespace, job);
        self.refusals.insert(key.clone(), Refusal { event: name, said: event.message?.into() });
        self.jobs.get(&key).and_then(|job| job.owner(&key.0))
    }

    /// Forgets an event.
    pub fn remove_refusal(&mut self, event: &Event) {
        let (namespace, name) = names(&event.metadata);
        let Some(job) = event.involved_object.name.clone() else { return };
        let key = (namespace, job);
        if self.refusals.get(&key).is_some_and(|refusal| refusal.event == name) {
            self.refusals.remove(&key);
        }
    }

    /// Forgets all events but these.
    pub fn retain_refusals(&mut self, keep: &HashSet<Key>) {
        self.refusals.retain(|(namespace, _), refusal| keep.contains(&(namespace.clone(), refusal.event.clone())));
    }

    /// Takes in a Pod; tells whose it is.
    pub fn put_pod(&mut self, pod: Pod) -> Option<TaskKey> {
        let key = job_key(&pod)?;
        let mut pod = KeptPod::new(pod);
        let owner = self.owner_of_pod(&key, &pod);
        let pods = self.pods.entry(key).or_default();
        match pods.iter_mut().find(|known| known.name == pod.name) {
            Some(known) => {
                pod.keep_first_deletion(known);
                *known = pod;
            }
            None => pods.push(pod),
        }
        owner
    }

    /// Forgets a Pod; tells whose it was.
    pub fn remove_pod(&mut self, pod: &Pod) -> Option<TaskKey> {
        let key = job_key(pod)?;
        let mut last = KeptPod::new(pod.clone());
        if let Some(pods) = self.pods.get_mut(&key) {
            if let Some(known) = pods.iter().find(|known| known.name == last.name) {
                last.keep_first_deletion(known);
            }
            pods.retain(|known| known.name != last.name);
            if pods.is_empty() {
                self.pods.remove(&key);
            }
        }
        let owner = self.owner_of_pod(&key, &last);
        if self.jobs.contains_key(&key) && last.is_finished() {
            self.gone.insert(key, last);
        }
        owner
    }

    fn owner_of_pod(&self, key: &Key, pod: &KeptPod) -> Option<TaskKey> {
        self.jobs.get(key).and_then(|job| job.owner(&key.0)).or_else(|| pod.labelled.clone())
    }

    /// Forgets all Jobs but these; tells whose are gone. What follows after a watch had to start anew.
    pub fn retain_jobs(&mut self, keep: &HashSet<Key>) -> Vec<TaskKey> {
        let mut gone = Vec::new();
        self.jobs.retain(|key, job| {
            let stays = keep.contains(key);
            if !stays {
                gone.extend(job.owner(&key.0));
            }
            stays
        });
        self.gone.retain(|key, _| keep.contains(key));
        gone
    }

    /// Forgets all Pods but these; tells whose are gone.
    pub fn retain_pods(&mut self, keep: &HashSet<Key>) -> Vec<TaskKey> {
        let mut gone = Vec::new();
        for (key, pods) in &mut self.pods {
            let job = self.jobs.get(key);
            pods.retain(|pod| {
                let stays = keep.contains(&(key.0.clone(), pod.name.clone()));
                if !stays {
                    gone.extend(job.and_then(|job| job.owner(&key.0)).or_else(|| pod.labelled.clone()));
                }
                stays
            });
        }
        self.pods.retain(|_, pods| !pods.is_empty());
        gone
    }
}

/// Whether nothing of a Pod runs any more.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The Job that a Pod belongs to.
fn job_key(pod: &Pod) -> Option<Key> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let job = owners.iter().find(|o| o.kind == "Job" && o.controller == Some(true))?;
    Some((pod.metadata.namespace.clone().unwrap_or_default(), job.name.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(name: &str, task: &str) -> Job {
        let owner =
            json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "name": task, "uid": "u", "controller": true});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": [owner]}}))
            .unwrap()
    }

    fn pod(name: &str, job: &str, annotations: serde_json::Value) -> Pod {
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": "j", "controller": true});
        serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "n", "ownerReferences": [owner],
            "labels": {"kubetask.io/task": "short"}, "annotations": annotations,
        }}))
        .unwrap()
    }

    #[test]
    fn when_a_pod_was_first_asked_to_go_is_kept() {
        let mut jobs = Jobs::default();
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true});
        let pod = |at: Option<&str>, grace: i64| -> Pod {
            let mut metadata = json!({"name": "p", "namespace": "n", "uid": "1", "ownerReferences": [owner]});
            if let Some(at) = at {
                metadata["deletionTimestamp"] = at.into();
                metadata["deletionGracePeriodSeconds"] = grace.into();
            }
            serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Failed"}})).unwrap()
        };
        jobs.put(serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n"}})).unwrap());
        jobs.put_pod(pod(None, 0));
        jobs.put_pod(pod(Some("2026-01-01T00:00:30Z"), 30));
        let last = pod(Some("2026-01-01T00:00:03Z"), 0);
        jobs.put_pod(last.clone());
        assert_eq!(jobs.pods("n", "j")[0].metadata.deletion_grace_period_seconds, Some(30));
        jobs.remove_pod(&last);
        assert_eq!(jobs.pods_at_the_end("n", "j")[0].metadata.deletion_grace_period_seconds, Some(30));
    }

    #[test]
    fn the_last_words_of_a_pod_that_went_are_kept_as_long_as_its_job() {
        let mut jobs = Jobs::default();
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true});
        let pod = |phase: &str| -> Pod {
            let metadata = json!({"name": "p", "namespace": "n", "ownerReferences": [owner]});
            serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap()
        };
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n"}})).unwrap();
        jobs.put(job.clone());
        jobs.put_pod(pod("Running"));
        jobs.remove_pod(&pod("Running"));
        assert!(jobs.pods_at_the_end("n", "j").is_empty(), "it says nothing of its end");
        jobs.put_pod(pod("Failed"));
        jobs.remove_pod(&pod("Failed"));
        assert!(jobs.pods("n", "j").is_empty() && jobs.pods_at_the_end("n", "j").len() == 1);
        jobs.put_pod(pod("Running"));
        assert_eq!(jobs.pods_at_the_end("n", "j")[0].status.as_ref().unwrap().phase.as_deref(), Some("Running"));
        jobs.remove(&job);
        jobs.remove_pod(&pod("Failed"));
        assert!(jobs.gone.is_empty(), "nobody asks any more");
    }

    #[test]
    fn a_created_job_is_known_before_its_watch_event() {
        let mut jobs = Jobs::default();
        jobs.creating("n", "j");
        jobs.created("n", "j", Some(job("j", "t")));
        assert!(jobs.get("n", "j").is_some());
        // What the watch said first is newer than the answer.
        jobs.creating("n", "k");
        let mut newer = job("k", "t");
        newer.metadata.uid = Some("2".to_owned());
        jobs.put(newer);
        jobs.created("n", "k", Some(job("k", "t")));
        assert_eq!(jobs.get("n", "k").unwrap().metadata.uid.as_deref(), Some("2"));
    }

    #[test]
    fn a_job_that_went_before_its_answer_came_stays_gone() {
        let mut jobs = Jobs::default();
        jobs.creating("n", "j");
        jobs.put(job("j", "t"));
        assert_eq!(jobs.remove(&job("j", "t")), Some(TaskKey::new("n", "t")));
        jobs.created("n", "j", Some(job("j", "t")));
        assert!(jobs.get("n", "j").is_none() && jobs.creating.is_empty());
        // A refusal leaves nothing behind.
        jobs.creating("n", "j");
        jobs.created("n", "j", None);
        assert!(jobs.creating.is_empty());
    }

    #[test]
    fn a_creation_without_an_answer_is_in_doubt_until_something_tells() {
        let mut jobs = Jobs::default();
        let unanswered = |jobs: &mut Jobs| {
            jobs.creating("n", "j");
            jobs.unanswered("n", "j");
        };
        unanswered(&mut jobs);
        assert!(jobs.is_unsure("n", "j") && jobs.creating.is_empty());
        jobs.put(job("j", "t"));
        assert!(!jobs.is_unsure("n", "j"));
        // The watch was faster.
        unanswered(&mut jobs);
        assert!(!jobs.is_unsure("n", "j"));
        jobs.remove(&job("j", "t"));
        unanswered(&mut jobs);
        jobs.created("n", "j", None);
        assert!(!jobs.is_unsure("n", "j"));
    }

    #[test]
    fn a_pod_whose_job_is_unknown_is_found_by_its_full_name() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.put_pod(pod("p", "j", json!({}))), Some(TaskKey::new("n", "short")));
        let long = pod("q", "j", json!({"kubetask.io/task-name": "the-whole-name"}));
        assert_eq!(jobs.put_pod(long.clone()), Some(TaskKey::new("n", "the-whole-name")));
        assert_eq!(jobs.pods("n", "j").len(), 2);
        let keep = HashSet::from([("n".to_owned(), "p".to_owned())]);
        assert_eq!(jobs.retain_pods(&keep), [TaskKey::new("n", "the-whole-name")]);
        jobs.put(job("j", "t"));
        assert_eq!(jobs.remove_pod(&pod("p", "j", json!({}))), Some(TaskKey::new("n", "t")));
        assert!(jobs.pods.is_empty());
    }

    #[test]
    fn the_latest_refusal_counts_until_its_event_goes() {
        let event = |name: &str, said: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n"}, "message": said,
                "involvedObject": {"kind": "Job", "name": "j"},
            }))
            .unwrap()
        };
        let mut jobs = Jobs::default();
        jobs.put(job("j", "t"));
        assert_eq!(jobs.put_refusal(event("a", "quota")), Some(TaskKey::new("n", "t")));
        jobs.put_refusal(event("b", "webhook"));
        jobs.remove_refusal(&event("a", "quota"));
        assert_eq!(jobs.refusal("n", "j").as_deref(), Some("webhook"));
        jobs.retain_refusals(&HashSet::new());
        assert_eq!(jobs.refusal("n", "j"), None);
    }
}
