//! What the watches have seen, indexed by the Tasks it concerns.
//!
//! Ordinary data: the watches feed it ([`feed`]), reconciliations read it ([`World::seen`]), tests do both. Feeding an
//! object answers with the Tasks that must be looked at again, so that whatever was missing heals the moment it
//! arrives. Nothing is polled.

mod existing;
pub mod feed;
mod index;
mod jobs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::{Agent, KubeTaskConfig};
use kubetask_core::task::{RefKind, Reference};

pub use existing::Existing;
pub use index::ReferenceIndex;
pub use jobs::Jobs;

/// A Task's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl TaskKey {
    /// The key of that Task.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// What the watches have seen. Clones share it.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<State>>);

/// The data of a [`World`].
#[derive(Default)]
pub struct State {
    /// Agents by namespace and name.
    pub agents: BTreeMap<(String, String), Arc<Agent>>,
    /// KubeTaskConfigs named `default`, by namespace.
    pub configs: BTreeMap<String, Arc<KubeTaskConfig>>,
    /// Names of ConfigMaps, Secrets and service accounts.
    pub existing: Existing,
    /// Jobs and their Pods.
    pub jobs: Jobs,
    /// Which Task refers to what.
    pub references: ReferenceIndex,
}

impl World {
    /// The data, for the moment of a look or a change; never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when it ends; a panic elsewhere does not make the data wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The Agent of that name.
    #[must_use]
    pub fn agent(&self, namespace: &str, name: &str) -> Option<Arc<Agent>> {
        self.agents.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether an object that is referred to is there.
    #[must_use]
    pub fn exists(&self, namespace: &str, reference: &Reference) -> bool {
        match reference.kind {
            RefKind::Agent => self.agent(namespace, &reference.name).is_some(),
            kind => self.existing.contains(kind, namespace, &reference.name),
        }
    }

    /// Takes in an Agent; tells which Tasks it concerns.
    pub fn put_agent(&mut self, agent: Agent) -> Vec<TaskKey> {
        let (namespace, name) = names(&agent.metadata);
        let concerned = self.references.referring(RefKind::Agent, &namespace, &name);
        self.agents.insert((namespace, name), Arc::new(agent));
        concerned
    }

    /// Forgets an Agent; tells which Tasks it concerned.
    pub fn remove_agent(&mut self, namespace: &str, name: &str) -> Vec<TaskKey> {
        self.agents.remove(&(namespace.to_owned(), name.to_owned()));
        self.references.referring(RefKind::Agent, namespace, name)
    }

    /// Takes in a Job; tells whose it is.
    pub fn put_job(&mut self, job: Job) -> Option<TaskKey> {
        self.jobs.put(job)
    }

    /// Takes in a Pod; tells whose it is.
    pub fn put_pod(&mut self, pod: Pod) -> Option<TaskKey> {
        self.jobs.put_pod(pod)
    }
}

/// Namespace and name of an object; empty where it has none.
pub(crate) fn names(metadata: &kube::api::ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
