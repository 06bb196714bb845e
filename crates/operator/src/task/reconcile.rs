//! One look at one Task: observe, plan, act, tell.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::{ObjectRef, Store};
use kubetask_api::{Task, TaskPhase, TaskStatus};
use kubetask_core::cluster::Recorded;
use kubetask_core::task::{Action, Admission, JobSeen, Plan, Seen, plan};
use tokio::sync::mpsc::UnboundedSender;
use tracing::Instrument;

use super::act::{Acted, act};
use super::observe::{job_name_of, observe};
use super::tell;
use crate::backlog::Backlog;
use crate::clusters::ClusterError;
use crate::config::OperatorConfig;
use crate::events::Recorder;
use crate::status::{self, CONFLICT_AGAIN, Memory};
use crate::traces::{Spans, Told};
use crate::world::{TaskKey, World};

/// Why a look at a Task must be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Content that the Task refers to could not be fetched.
    #[error("fetch {what} {name}")]
    Fetch {
        /// Its kind.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A write failed.
    #[error("{step} {name}")]
    Act {
        /// What was being done.
        step: &'static str,
        /// To which object.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Another cluster could not be used.
    #[error("Job {job} on the cluster of {cluster}")]
    Cluster {
        /// The Job.
        job: String,
        /// What users know the cluster by.
        cluster: String,
        /// Why.
        #[source]
        source: ClusterError,
    },
    /// An object was there and then was not, while it was being created.
    #[error("{0} came and went")]
    Vanished(String),
}

impl Error {
    pub(super) fn fetch(what: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Fetch { what, name: name.to_owned(), source: Box::new(source) }
    }

    pub(super) fn cluster(record: &Recorded, source: ClusterError) -> Self {
        Self::Cluster { job: record.job.clone(), cluster: record.target.to_string(), source }
    }

    pub(super) fn act(step: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Act { step, name: name.to_owned(), source: Box::new(source) }
    }
}

/// What all looks share.
pub struct Context {
    pub(super) client: Client,
    pub(super) world: World,
    pub(super) config: OperatorConfig,
    tasks: Store<Task>,
    recorder: Recorder,
    beside: Beside,
    memory: Memory<TaskKey>,
}

/// Who does what a look does not wait for.
pub(super) struct Beside {
    /// Looks at Tasks because of what was decided about another.
    pub looks: UnboundedSender<TaskKey>,
    /// Writes Tasks to archives.
    pub archives: Backlog,
    /// Tells webhooks of Tasks.
    pub notices: Backlog,
    /// Exports traces.
    pub spans: Spans,
}

impl Context {
    pub(super) fn new(
        client: Client,
        config: OperatorConfig,
        world: World,
        tasks: Store<Task>,
        recorder: Recorder,
        beside: Beside,
    ) -> Self {
        Self { client, world, config, tasks, recorder, beside, memory: Memory::default() }
    }

    /// Plans; a Task that could start asks for a place at its Agent first.
    /// `None` while it is not known who is first; then it is looked at again.
    fn plan(&self, key: &TaskKey, task: &Task, seen: &mut Seen) -> Option<Plan> {
        let now = Timestamp::now();
        let settings = &self.config.settings;
        let planned = plan(now, task, seen, settings);
        if !creates_job(&planned) {
            let has_job = seen.job.found().is_some() || task.status.as_ref().is_some_and(|s| s.job_name.is_some());
            if !has_job {
                self.leave(key);
            }
            return Some(planned);
        }
        let (admission, others) = self.world.lock().ask_for_place(key, task, seen.agent.as_deref());
        self.send(others);
        let admission = admission?;
        if admission == Admission::Free {
            return Some(planned);
        }
        seen.admission = admission;
        Some(plan(now, task, seen, settings))
    }

    /// The Task has been looked at, whatever came of it.
    fn looked_at(&self, key: &TaskKey) {
        let others = self.world.lock().looked_at(key);
        self.send(others);
    }

    /// The Task gives up its place at its Agent.
    fn leave(&self, key: &TaskKey) {
        let others = self.world.lock().leave(key);
        self.send(others);
    }

    fn send(&self, looks: Vec<TaskKey>) {
        for key in looks {
            // Nobody listens only when the operator ends.
            let _ = self.beside.looks.send(key);
        }
    }

    fn has_job(&self, key: &TaskKey, task: &Task) -> bool {
        let job = job_name_of(key, task);
        self.world.lock().jobs.contains(&key.namespace, &job)
    }

    fn is_unsure_of_job(&self, key: &TaskKey, task: &Task) -> bool {
        let job = job_name_of(key, task);
        self.world.lock().jobs.is_unsure(&key.namespace, &job)
    }

    /// Whether the Task is still there, and is not another one of the same name.
    fn is_current(&self, task: &Task) -> bool {
        self.tasks.get(&ObjectRef::from_obj(task)).is_some_and(|now| now.metadata.uid == task.metadata.uid)
    }

    /// The Task is not there any more; its watch has told the world.
    pub(super) fn gone(&self, key: &TaskKey) {
        self.memory.forget(key);
    }

    fn forget(&self, key: &TaskKey) {
        let others = self.world.lock().remove_task(key);
        self.send(others);
        self.memory.forget(key);
    }
}

/// Looks at a Task.
///
/// # Errors
/// When something must be tried again.
pub async fn reconcile(task: Arc<Task>, context: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name, uid) = (&task.metadata.namespace, &task.metadata.name, &task.metadata.uid);
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    // Whatever is logged meanwhile carries the Task's identity.
    let span = tracing::info_span!("task", namespace = text(namespace), task = text(name), uid = text(uid));
    let started = std::time::Instant::now();
    let metrics = context.config.metrics.clone();
    let next = reconcile_one(task, context).instrument(span).await;
    metrics.reconciled("Task", next.is_ok(), started.elapsed());
    next
}

async fn reconcile_one(task: Arc<Task>, context: Arc<Context>) -> Result<Next, Error> {
    let key = TaskKey::of(&task);
    if task.metadata.deletion_timestamp.is_some() {
        // What it owns goes by its owner references. As long as its Job is there, it has its place.
        if !context.has_job(&key, &task) {
            context.leave(&key);
        }
        context.world.lock().references.remove(&key);
        let planned = plan(Timestamp::now(), &task, &Seen::default(), &context.config.settings);
        for action in &planned.actions {
            act(&context, &key.namespace, &task, action).await?;
        }
        return Ok(Next::await_change());
    }
    if context.memory.is_stale(&key, task.metadata.resource_version.as_deref()) {
        tracing::debug!("the watch has not shown the last write yet");
        return Ok(Next::await_change());
    }
    let next = look(&task, &key, &context).await;
    context.looked_at(&key);
    if !context.is_current(&task) {
        // It went meanwhile: what was remembered of it since must go too.
        context.forget(&key);
    }
    next
}

async fn look(task: &Task, key: &TaskKey, context: &Context) -> Result<Next, Error> {
    let mut seen = observe(context, key, task).await?;
    if seen.job.found().is_none() && context.is_unsure_of_job(key, task) {
        // Whether it has its Job decides whether it keeps its place, whatever is planned for it now.
        settle(context, key, task, &mut seen).await?;
    }
    let Some(mut planned) = context.plan(key, task, &mut seen) else { return Ok(Next::await_change()) };
    if planned.verify_job {
        seen.job = ask_for_job(context, key, task).await?;
        let Some(again) = context.plan(key, task, &mut seen) else { return Ok(Next::await_change()) };
        planned = again;
    }
    tracing::debug!(
        job = ?seen.job.found().map(|job| job.status.is_some()),
        pods = seen.pods.len(),
        actions = planned.actions.len(),
        status = planned.status.is_some(),
        why = ?planned.why,
        "looked at the Task"
    );
    if planned.archive {
        context.beside.archives.add(key);
    }
    if task.status.as_ref().is_some_and(|status| !status.pending_notifications.is_empty()) {
        context.beside.notices.add(key);
    }
    // Only for the trace: the plan takes what was seen.
    let told = Told::of(&seen);
    let planned = carry_out(context, key, task, seen, planned).await?;
    let mut next = planned.wake_at.map_or_else(Next::await_change, |at| Next::requeue(until(at)));
    if let Some(status) = &planned.status {
        let written = write_status(context, task, status).await?;
        match &written {
            Some(_) => {
                planned.events.iter().for_each(|note| context.recorder.publish(task, note));
                tell::changed(&context.config.metrics, task, status);
                if status.phase.is_some_and(TaskPhase::is_finished) && !task.phase().is_finished() {
                    context.beside.spans.ended(task, status, &told);
                }
            }
            None => next = Next::requeue(CONFLICT_AGAIN),
        }
        context.memory.written(key, written);
    }
    context.memory.succeeded(key);
    Ok(next)
}

/// Carries the actions out; when the server refuses one for good, plans again with that knowledge.
async fn carry_out(
    context: &Context,
    key: &TaskKey,
    task: &Task,
    mut seen: Seen,
    planned: Plan,
) -> Result<Plan, Error> {
    for action in &planned.actions {
        if let Acted::Refused(said) = act(context, &key.namespace, task, action).await? {
            // It must not hold up those behind it.
            context.leave(key);
            seen.refused = Some(said);
            return Ok(plan(Timestamp::now(), task, &seen, &context.config.settings));
        }
    }
    Ok(planned)
}

fn creates_job(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::CreateJob(_)))
}

async fn ask_for_job(context: &Context, key: &TaskKey, task: &Task) -> Result<JobSeen, Error> {
    let name = job_name_of(key, task);
    let api = Api::namespaced(context.client.clone(), &key.namespace);
    let found = api.get_opt(&name).await.map_err(|source| Error::fetch("Job", &name, source))?;
    Ok(match found {
        Some(job) => JobSeen::Found(Arc::new(job)),
        None => JobSeen::Gone,
    })
}

/// Asks for the Job whose creation was not answered.
async fn settle(context: &Context, key: &TaskKey, task: &Task, seen: &mut Seen) -> Result<(), Error> {
    let found = ask_for_job(context, key, task).await?;
    let job = found.found().cloned();
    if job.is_some() {
        seen.job = found;
    }
    let name = job_name_of(key, task);
    context.world.lock().jobs.created(&key.namespace, &name, job);
    Ok(())
}

async fn write_status(context: &Context, task: &Task, status: &TaskStatus) -> Result<Option<String>, Error> {
    let old = task.status.clone().unwrap_or_default();
    let written = status::write(&context.client, task, &old, status).await;
    let name = || task.metadata.name.clone().unwrap_or_default();
    written.map_err(|source| Error::Act { step: "write status of Task", name: name(), source })
}

fn until(at: Timestamp) -> Duration {
    let millis = at.as_millisecond() - Timestamp::now().as_millisecond();
    // A little late rather than a little early, or the plan would find that it is not time yet.
    Duration::from_millis(u64::try_from(millis).unwrap_or(0) + 5)
}

/// How long to wait before the next look after a failure.
pub(super) fn on_error(task: Arc<Task>, error: &Error, context: Arc<Context>) -> Next {
    let namespace = task.metadata.namespace.as_deref().unwrap_or_default();
    let name = task.metadata.name.as_deref().unwrap_or_default();
    let (failures, wait) = context.memory.failed(&TaskKey::new(namespace, name));
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let uid = task.metadata.uid.as_deref().unwrap_or_default();
    tracing::warn!(namespace, task = name, uid, failures, %error, cause, "will look at the Task again");
    Next::requeue(wait)
}
