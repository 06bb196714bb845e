//! What the watches have seen, indexed by the Tasks it concerns.
//!
//! Ordinary data: the watches feed it ([`feed`]), looks at Tasks read it ([`World::lock`]), tests do both. Feeding an
//! object answers with the Tasks that must be looked at again, so that whatever was missing heals the moment it
//! arrives. Nothing is polled.

mod agents;
mod children;
mod existing;
pub mod feed;
mod index;
mod jobs;
mod kept;
pub(crate) mod lean;
mod queues;
pub(crate) mod watching;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubetask_api::{Agent, KubeTaskConfig, Task};
use kubetask_core::names::job_name;
use kubetask_core::queue::Place;
use kubetask_core::retention::{Finished, Kept};
use kubetask_core::task::{Admission, RefKind, Reference, agent_name};

pub use agents::AgentLooks;
pub use children::Children;
pub use existing::Existing;
pub use index::ReferenceIndex;
pub use jobs::Jobs;
pub(crate) use jobs::is_finished;
pub use queues::Queues;
use tokio::sync::watch;

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

    /// The key of a Task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let metadata = &task.metadata;
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
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
    /// Who has a place at its Agent, and who waits for one.
    pub queues: Queues,
    /// Whose status must be looked at.
    pub agent_looks: AgentLooks,
    /// The Tasks that CronTasks and BatchRuns made.
    pub children: Children,
    /// Whether all Tasks that are there have been taken in.
    listed: watch::Sender<bool>,
    /// Finished Tasks of namespaces that keep so many.
    pub kept: HashMap<String, Kept>,
}

impl World {
    /// The data, for the moment of a look or a change; never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when it ends; a panic elsewhere does not make the data wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when all Tasks that are there have been taken in.
    pub async fn tasks_are_listed(&self) {
        let mut listed = self.lock().listed.subscribe();
        // The sender is in the world, and so are we.
        let _ = listed.wait_for(|listed| *listed).await;
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
        self.agent_looks.at(&namespace, &name);
        let agent = Arc::new(agent);
        let old = self.agents.insert((namespace.clone(), name.clone()), agent.clone());
        // Its status is ours; Tasks do not depend on it.
        if old.is_some_and(|old| old.metadata.uid == agent.metadata.uid && old.spec == agent.spec) {
            return Vec::new();
        }
        self.references.referring(RefKind::Agent, &namespace, &name)
    }

    /// Forgets an Agent; tells which Tasks it concerned.
    pub fn remove_agent(&mut self, namespace: &str, name: &str) -> Vec<TaskKey> {
        self.agents.remove(&(namespace.to_owned(), name.to_owned()));
        self.agent_looks.forget(namespace, name);
        self.references.referring(RefKind::Agent, namespace, name)
    }

    /// Takes in a Task: whether it has a place at its Agent. Tells which others it concerns.
    pub fn put_task(&mut self, task: &Task) -> Vec<TaskKey> {
        let key = TaskKey::of(task);
        self.children.put(task);
        if task.phase().is_finished() {
            let mut concerned = self.leave(&key);
            if let (Some(kept), Some(finished)) = (self.kept.get_mut(&*key.namespace), Finished::of(task)) {
                let surplus = kept.insert(finished);
                concerned.extend(surplus.iter().map(|name| TaskKey::new(&key.namespace, name)));
            }
            return concerned;
        }
        // After a restart the Job may be there before the status tells of it.
        let has_job = task.status.as_ref().is_some_and(|status| status.job_name.is_some()) || {
            let job = job_name(&key.name, task.metadata.uid.as_deref().unwrap_or_default());
            self.jobs.contains(&key.namespace, &job)
        };
        if has_job {
            let agent = agent_name(task);
            self.queues.activate(&key, agent);
            self.agent_looks.at(&key.namespace, agent);
        }
        Vec::new()
    }

    /// A Task that was there when the operator started. As long as not all of an Agent's have been looked at, it is not
    /// known who is first.
    pub fn gather_task(&mut self, task: &Task) {
        let key = TaskKey::of(task);
        if !task.phase().is_finished() && !self.queues.is_counted(&key) {
            self.queues.gather(&key, agent_name(task));
        }
    }

    /// The Task has been looked at. Tells which others it concerns.
    pub fn looked_at(&mut self, key: &TaskKey) -> Vec<TaskKey> {
        let Some(agent) = self.queues.gathered(key) else { return Vec::new() };
        self.agent_looks.at(&key.namespace, &agent);
        self.queues.begin(&key.namespace, &agent)
    }

    /// All Tasks that are there have been taken in.
    pub fn tasks_listed(&mut self) {
        self.listed.send_replace(true);
    }

    /// Forgets a Task; tells which others it concerns.
    pub fn remove_task(&mut self, key: &TaskKey) -> Vec<TaskKey> {
        self.references.remove(key);
        self.children.remove(key);
        if let Some(kept) = self.kept.get_mut(&*key.namespace) {
            kept.remove(&key.name);
        }
        self.leave(key)
    }

    /// Takes in the configuration of a namespace; `tasks` are its finished Tasks, asked for only where that is needed.
    pub fn put_config(&mut self, namespace: &str, config: KubeTaskConfig, tasks: impl FnOnce() -> Vec<Finished>) {
        let lifecycle = config.spec.task_lifecycle.as_ref();
        match lifecycle.and_then(|lifecycle| lifecycle.keep_last.as_ref()) {
            Some(keep) => {
                let kept = self.kept.entry(namespace.to_owned()).or_insert_with(|| {
                    let mut kept = Kept::default();
                    tasks().into_iter().for_each(|finished| drop(kept.insert(finished)));
                    kept
                });
                kept.limit(keep);
            }
            None => drop(self.kept.remove(namespace)),
        }
        self.configs.insert(namespace.to_owned(), Arc::new(config));
    }

    /// Whether a finished Task is one too many.
    #[must_use]
    pub fn is_surplus(&self, key: &TaskKey) -> bool {
        self.kept.get(&*key.namespace).is_some_and(|kept| kept.is_surplus(&key.name))
    }

    /// The Task asks for a place at its Agent, which may be newer than the one that is known here. Tells whether it has
    /// one (`None`: that is not known yet, and it will be looked at again), and which others it concerns.
    pub fn ask_for_place(
        &mut self,
        key: &TaskKey,
        task: &Task,
        agent: Option<&Agent>,
    ) -> (Option<Admission>, Vec<TaskKey>) {
        self.agent_looks.at(&key.namespace, agent_name(task));
        self.queues.ask(key, agent_name(task), Place::of(task), agent.and_then(limit))
    }

    /// The Task has no place, or gives up the one it has. Tells which others it concerns.
    pub fn leave(&mut self, key: &TaskKey) -> Vec<TaskKey> {
        let mut begun = self.looked_at(key);
        let Some(agent) = self.queues.leave(key) else { return begun };
        self.agent_looks.at(&key.namespace, &agent);
        let limit = self.agent(&key.namespace, &agent).as_deref().and_then(limit);
        // Without a limit nobody waits.
        if limit.is_some() {
            begun.extend(self.queues.advance(&key.namespace, &agent, limit));
        }
        begun
    }
}

/// How many Tasks an Agent carries out at a time.
fn limit(agent: &Agent) -> Option<usize> {
    usize::try_from(agent.spec.max_concurrent_tasks?).ok()
}

/// Namespace and name of an object; empty where it has none.
pub(crate) fn names(metadata: &kube::api::ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
