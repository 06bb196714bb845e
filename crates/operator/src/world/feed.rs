//! The watches that feed the [`World`], each a stream of the Tasks that must be looked at again.
//!
//! A watch that had to start anew lists everything; what is missing from the list is gone, and those it concerned are
//! told too.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Pod, Secret, ServiceAccount};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::Store;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use kubetask_api::{Agent, DEFAULT_NAME, KubeTaskConfig, Task, labels};
use kubetask_core::retention::Finished;
use kubetask_core::task::RefKind;

use super::lean::Watched;
use super::watching::watch;
use super::{TaskKey, World, names};
use crate::config::OperatorConfig;

/// One watch: what it tells. It must be polled for the watch to go on.
pub type Feed = stream::BoxStream<'static, News>;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This Task must be looked at again.
    Look(TaskKey),
    /// Everything that is there has been taken in.
    Synced,
}

/// How a kind is taken into the world.
trait Intake<K>: Send + 'static {
    /// An object came or changed.
    fn put(&mut self, object: K) -> Vec<TaskKey>;
    /// An object went.
    fn remove(&mut self, object: &K) -> Vec<TaskKey>;
    /// A list is complete: only these are there.
    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey>;
}

/// All feeds of the Task controller.
pub fn all(client: &Client, config: &OperatorConfig, world: &World, tasks: &Store<Task>) -> Vec<Feed> {
    // What keeps a Pod from being made is told by an event alone.
    let refused = watcher::Config::default().fields("involvedObject.kind=Job,reason=FailedCreate");
    let ours = watcher::Config::default().labels(&format!("{}={}", labels::APP_MANAGED_BY, labels::APP));
    let everything = watcher::Config::default;
    let configs = Configs { world: world.clone(), tasks: tasks.clone() };
    let mut feeds = vec![
        feed::<Agent, _>(client, config, everything(), Agents(world.clone())),
        feed::<KubeTaskConfig, _>(client, config, everything(), configs),
        feed::<Job, _>(client, config, ours.clone(), JobIntake(world.clone())),
        feed::<Pod, _>(client, config, ours, PodIntake(world.clone())),
        feed::<CoreEvent, _>(client, config, refused, Refusals(world.clone())),
    ];
    feeds.push(metadata_feed::<ConfigMap>(client, config, world, RefKind::ConfigMap));
    feeds.push(metadata_feed::<Secret>(client, config, world, RefKind::Secret));
    feeds.push(metadata_feed::<ServiceAccount>(client, config, world, RefKind::ServiceAccount));
    feeds
}

fn feed<K, I>(client: &Client, config: &OperatorConfig, selection: watcher::Config, mut intake: I) -> Feed
where
    K: Watched,
    I: Intake<K>,
{
    let events = watch(client, config, selection);
    let mut listed = None;
    events
        .flat_map(move |event| {
            let synced = matches!(event, Ok(Event::InitDone)).then_some(News::Synced);
            let concerned = match event {
                Ok(event) => take_in(event, &mut listed, &mut intake),
                Err(error) => {
                    interrupted(&K::kind(&()), &error);
                    Vec::new()
                }
            };
            tracing::trace!(kind = %K::kind(&()), ?concerned, synced = synced.is_some(), "took in");
            stream::iter(concerned.into_iter().map(News::Look).chain(synced))
        })
        .boxed()
}

/// Of what is only referred to, the watch carries metadata alone.
fn metadata_feed<K>(client: &Client, config: &OperatorConfig, world: &World, kind: RefKind) -> Feed
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    feed::<PartialObjectMeta<K>, _>(client, config, watcher::Config::default(), Names { world: world.clone(), kind })
}

/// Takes an event into the world; tells which Tasks it concerns. `listed` is what the list that is under way has named.
fn take_in<K, I>(event: Event<K>, listed: &mut Option<HashSet<(String, String)>>, intake: &mut I) -> Vec<TaskKey>
where
    K: Resource,
    I: Intake<K>,
{
    match event {
        Event::Init => {
            *listed = Some(HashSet::new());
            Vec::new()
        }
        Event::InitApply(object) => {
            if let Some(listed) = listed {
                listed.insert(names(object.meta()));
            }
            intake.put(object)
        }
        Event::InitDone => listed.take().map(|keep| intake.retain(keep)).unwrap_or_default(),
        Event::Apply(object) => intake.put(object),
        Event::Delete(object) => intake.remove(&object),
    }
}

/// The watcher goes on by itself, with a backoff. What the server says in words is for people: a right that is missing
/// does not heal.
pub(crate) fn interrupted(kind: &str, error: &watcher::Error) {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    if let InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) = error {
        tracing::warn!(kind, said = status.message, "cannot watch");
    } else {
        tracing::debug!(kind, %error, "a watch was interrupted");
    }
}

/// Takes the Tasks' own watch into the world, beside the reflector that keeps them.
pub(crate) struct TaskIntake {
    world: World,
    /// Every Task there is, as far as the watch has told.
    known: HashSet<TaskKey>,
    listed: Option<HashSet<TaskKey>>,
    /// Whether a list has been complete.
    complete: bool,
}

impl TaskIntake {
    pub(crate) fn new(world: World) -> Self {
        Self { world, known: HashSet::new(), listed: None, complete: false }
    }

    /// Takes in an event; tells which other Tasks it concerns.
    pub(crate) fn take_in(&mut self, event: &Event<Task>) -> Vec<TaskKey> {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(task) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(TaskKey::of(task));
                }
                let concerned = self.put(task);
                if !self.complete {
                    self.world.lock().gather_task(task);
                }
                return concerned;
            }
            Event::Apply(task) => return self.put(task),
            Event::Delete(task) => return self.remove(&TaskKey::of(task)),
            Event::InitDone => {
                let keep = self.listed.take().unwrap_or_default();
                let gone: Vec<TaskKey> = self.known.difference(&keep).cloned().collect();
                let concerned = gone.iter().flat_map(|key| self.remove(key)).collect();
                self.complete = true;
                self.world.lock().tasks_listed();
                return concerned;
            }
        }
        Vec::new()
    }

    fn put(&mut self, task: &Task) -> Vec<TaskKey> {
        self.known.insert(TaskKey::of(task));
        self.world.lock().put_task(task)
    }

    fn remove(&mut self, key: &TaskKey) -> Vec<TaskKey> {
        self.known.remove(key);
        self.world.lock().remove_task(key)
    }
}

struct Refusals(World);

impl Intake<CoreEvent> for Refusals {
    fn put(&mut self, event: CoreEvent) -> Vec<TaskKey> {
        self.0.lock().jobs.put_refusal(event).into_iter().collect()
    }

    fn remove(&mut self, event: &CoreEvent) -> Vec<TaskKey> {
        self.0.lock().jobs.remove_refusal(event);
        Vec::new()
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        self.0.lock().jobs.retain_refusals(&keep);
        Vec::new()
    }
}

struct Agents(World);

impl Intake<Agent> for Agents {
    fn put(&mut self, agent: Agent) -> Vec<TaskKey> {
        self.0.lock().put_agent(agent)
    }

    fn remove(&mut self, agent: &Agent) -> Vec<TaskKey> {
        let (namespace, name) = names(&agent.metadata);
        self.0.lock().remove_agent(&namespace, &name)
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        let mut state = self.0.lock();
        let gone: Vec<_> = state.agents.keys().filter(|key| !keep.contains(*key)).cloned().collect();
        gone.into_iter().flat_map(|(namespace, name)| state.remove_agent(&namespace, &name)).collect()
    }
}

struct Configs {
    world: World,
    tasks: Store<Task>,
}

impl Configs {
    /// Finished Tasks sleep until their time is up; a changed configuration changes that time.
    fn concerned(&self, namespace: &str) -> Vec<TaskKey> {
        let tasks = self.tasks.state();
        let finished = tasks.iter().filter(|task| task.phase().is_finished());
        finished
            .map(|task| names(&task.metadata))
            .filter(|(of, _)| of == namespace)
            .map(|(namespace, name)| TaskKey::new(&namespace, &name))
            .collect()
    }
}

impl Intake<KubeTaskConfig> for Configs {
    fn put(&mut self, config: KubeTaskConfig) -> Vec<TaskKey> {
        let (namespace, name) = names(&config.metadata);
        if name != DEFAULT_NAME {
            return Vec::new();
        }
        let finished = || {
            let all = self.tasks.state();
            let of = |task: &&Arc<Task>| task.metadata.namespace.as_deref() == Some(namespace.as_str());
            all.iter().filter(of).filter_map(|task| Finished::of(task)).collect()
        };
        self.world.lock().put_config(&namespace, config, finished);
        self.concerned(&namespace)
    }

    fn remove(&mut self, config: &KubeTaskConfig) -> Vec<TaskKey> {
        let (namespace, name) = names(&config.metadata);
        if name != DEFAULT_NAME {
            return Vec::new();
        }
        let mut state = self.world.lock();
        state.configs.remove(&namespace);
        state.kept.remove(&namespace);
        drop(state);
        self.concerned(&namespace)
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        let gone: Vec<String> = {
            let mut state = self.world.lock();
            let is_gone = |namespace: &String| !keep.contains(&(namespace.clone(), DEFAULT_NAME.to_owned()));
            let gone = state.configs.keys().filter(|namespace| is_gone(namespace)).cloned().collect();
            state.configs.retain(|namespace, _| !is_gone(namespace));
            state.kept.retain(|namespace, _| !is_gone(namespace));
            gone
        };
        gone.iter().flat_map(|namespace| self.concerned(namespace)).collect()
    }
}

struct JobIntake(World);

impl Intake<Job> for JobIntake {
    fn put(&mut self, job: Job) -> Vec<TaskKey> {
        self.0.lock().jobs.put(job).into_iter().collect()
    }

    fn remove(&mut self, job: &Job) -> Vec<TaskKey> {
        self.0.lock().jobs.remove(job).into_iter().collect()
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        self.0.lock().jobs.retain_jobs(&keep)
    }
}

struct PodIntake(World);

impl Intake<Pod> for PodIntake {
    fn put(&mut self, pod: Pod) -> Vec<TaskKey> {
        self.0.lock().jobs.put_pod(pod).into_iter().collect()
    }

    fn remove(&mut self, pod: &Pod) -> Vec<TaskKey> {
        self.0.lock().jobs.remove_pod(pod).into_iter().collect()
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        self.0.lock().jobs.retain_pods(&keep)
    }
}

struct Names {
    world: World,
    kind: RefKind,
}

impl<K: Resource> Intake<K> for Names {
    fn put(&mut self, object: K) -> Vec<TaskKey> {
        let (namespace, name) = names(object.meta());
        let mut state = self.world.lock();
        if state.existing.insert(self.kind, &namespace, &name) {
            state.agent_looks.about(self.kind, &namespace, &name);
        }
        state.references.referring(self.kind, &namespace, &name)
    }

    fn remove(&mut self, object: &K) -> Vec<TaskKey> {
        let (namespace, name) = names(object.meta());
        let mut state = self.world.lock();
        state.existing.remove(self.kind, &namespace, &name);
        state.agent_looks.about(self.kind, &namespace, &name);
        state.references.referring(self.kind, &namespace, &name)
    }

    fn retain(&mut self, keep: HashSet<(String, String)>) -> Vec<TaskKey> {
        let mut state = self.world.lock();
        let changed = state.existing.replace(self.kind, keep);
        changed.iter().for_each(|(namespace, name)| state.agent_looks.about(self.kind, namespace, name));
        changed
            .into_iter()
            .flat_map(|(namespace, name)| state.references.referring(self.kind, &namespace, &name))
            .collect()
    }
}
