//! Jobs of Tasks and their Pods.
//!
//! A Job that was just created is known before its watch event arrives ([`Jobs::created`]), so that the next look at
//! the Task neither creates it again nor asks for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::labels;

use super::{TaskKey, names};

/// Namespace and name.
type Key = (String, String);

/// Jobs and Pods, by the Job's name.
#[derive(Default)]
pub struct Jobs {
    jobs: HashMap<Key, Arc<Job>>,
    pods: HashMap<Key, BTreeMap<String, Arc<Pod>>>,
}

impl Jobs {
    /// The Job of that name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Job>> {
        self.jobs.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The Pods of the Job of that name.
    #[must_use]
    pub fn pods(&self, namespace: &str, job: &str) -> Vec<Arc<Pod>> {
        self.pods
            .get(&(namespace.to_owned(), job.to_owned()))
            .map(|pods| pods.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Takes in a Job that was created just now. A newer one from the watch stays.
    pub fn created(&mut self, job: Job) {
        let key = names(&job.metadata);
        self.jobs.entry(key).or_insert_with(|| Arc::new(job));
    }

    /// Takes in a Job from the watch; tells whose it is.
    pub fn put(&mut self, job: Job) -> Option<TaskKey> {
        let owner = owner(&job);
        self.jobs.insert(names(&job.metadata), Arc::new(job));
        owner
    }

    /// Forgets a Job; tells whose it was.
    pub fn remove(&mut self, job: &Job) -> Option<TaskKey> {
        self.jobs.remove(&names(&job.metadata));
        owner(job)
    }

    /// Takes in a Pod; tells whose it is.
    pub fn put_pod(&mut self, pod: Pod) -> Option<TaskKey> {
        let (key, name) = pod_key(&pod)?;
        let owner = self.jobs.get(&key).and_then(|job| owner(job)).or_else(|| label_owner(&pod));
        self.pods.entry(key).or_default().insert(name, Arc::new(pod));
        owner
    }

    /// Forgets a Pod; tells whose it was.
    pub fn remove_pod(&mut self, pod: &Pod) -> Option<TaskKey> {
        let (key, name) = pod_key(pod)?;
        if let Some(pods) = self.pods.get_mut(&key) {
            pods.remove(&name);
            if pods.is_empty() {
                self.pods.remove(&key);
            }
        }
        self.jobs.get(&key).and_then(|job| owner(job)).or_else(|| label_owner(pod))
    }

    /// Forgets all Jobs but these; tells whose are gone. What follows after a watch had to start anew.
    pub fn retain_jobs(&mut self, keep: &std::collections::HashSet<Key>) -> Vec<TaskKey> {
        let mut gone = Vec::new();
        self.jobs.retain(|key, job| {
            let stays = keep.contains(key);
            if !stays {
                gone.extend(owner(job));
            }
            stays
        });
        gone
    }

    /// Forgets all Pods but these; tells whose are gone.
    pub fn retain_pods(&mut self, keep: &std::collections::HashSet<Key>) -> Vec<TaskKey> {
        let mut gone = Vec::new();
        for ((namespace, job), pods) in &mut self.pods {
            let jobs = &self.jobs;
            pods.retain(|name, pod| {
                let stays = keep.contains(&(namespace.clone(), name.clone()));
                if !stays {
                    let job = jobs.get(&(namespace.clone(), job.clone()));
                    gone.extend(job.and_then(|job| owner(job)).or_else(|| label_owner(pod)));
                }
                stays
            });
        }
        self.pods.retain(|_, pods| !pods.is_empty());
        gone
    }
}

/// The Task that owns a Job.
fn owner(job: &Job) -> Option<TaskKey> {
    let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
    let task = owners.iter().find(|o| o.kind == "Task" && o.api_version.starts_with("kubetask.io/"))?;
    Some(TaskKey::new(job.metadata.namespace.as_deref().unwrap_or_default(), &task.name))
}

/// The Job that a Pod belongs to, and the Pod's name.
fn pod_key(pod: &Pod) -> Option<(Key, String)> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let job = owners.iter().find(|o| o.kind == "Job" && o.controller == Some(true))?;
    let (namespace, name) = names(&pod.metadata);
    Some(((namespace, job.name.clone()), name))
}

/// The Task that a Pod's label or annotation names, for when its Job is not known (yet).
fn label_owner(pod: &Pod) -> Option<TaskKey> {
    let find = |map: Option<&BTreeMap<String, String>>| map.and_then(|m| m.get(labels::TASK)).cloned();
    // A name too long for a label is shortened there, and whole in the annotation.
    let name = find(pod.metadata.annotations.as_ref()).or_else(|| find(pod.metadata.labels.as_ref()))?;
    Some(TaskKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &name))
}
