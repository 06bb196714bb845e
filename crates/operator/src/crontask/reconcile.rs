//! One look at one CronTask: plan, make Tasks, tell.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::{ObjectRef, Store};
use kubetask_api::{CronTask, Task, labels, reasons};
use kubetask_core::child::MakerKind;
use kubetask_core::cron::{ON_TIME, plan};

use super::timer::Timer;
use crate::events::Recorder;
use crate::make::{Error, Made, Workshop};
use crate::metrics::Metrics;
use crate::status::{self, CONFLICT_AGAIN, Memory};
use crate::world::{TaskKey, World};

/// What all looks share.
pub(super) struct Context {
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    timer: Timer,
    crons: Store<CronTask>,
    memory: Memory<TaskKey>,
}

impl Context {
    pub(super) fn new(
        client: Client,
        world: World,
        recorder: Recorder,
        metrics: Metrics,
        timer: Timer,
        crons: Store<CronTask>,
    ) -> Self {
        Self { client, world, recorder, metrics, timer, crons, memory: Memory::default() }
    }

    /// A run's Task was created: how late.
    fn created(&self, task: &Task) {
        self.metrics.cron_run("created");
        let due = task.metadata.annotations.as_ref().and_then(|a| a.get(labels::SCHEDULED_AT));
        if let Some(due) = due.and_then(|at| at.parse::<Timestamp>().ok()) {
            let late = self.timer.now().duration_since(due);
            // Runs that were missed are not late, they are made up for.
            if late <= ON_TIME {
                self.metrics.cron_skew(Duration::try_from(late).unwrap_or_default());
            }
        }
    }

    /// Whether the CronTask is still there.
    fn is_there(&self, cron: &CronTask) -> bool {
        self.crons.get(&ObjectRef::from_obj(cron)).is_some_and(|now| now.metadata.uid == cron.metadata.uid)
    }
}

fn key_of(cron: &CronTask) -> TaskKey {
    let metadata = &cron.metadata;
    TaskKey::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Looks at a CronTask.
pub(super) async fn reconcile(cron: Arc<CronTask>, context: Arc<Context>) -> Result<Next, Error> {
    let started = std::time::Instant::now();
    let next = reconcile_one(cron, &context).await;
    context.metrics.reconciled("CronTask", next.is_ok(), started.elapsed());
    next
}

async fn reconcile_one(cron: Arc<CronTask>, context: &Context) -> Result<Next, Error> {
    let key = key_of(&cron);
    if cron.metadata.deletion_timestamp.is_some() {
        // What it made goes by its owner references.
        context.timer.set(&key, None);
        return Ok(Next::await_change());
    }
    if context.memory.is_stale(&key, cron.metadata.resource_version.as_deref()) {
        tracing::debug!(name = %key.name, namespace = %key.namespace, "the watch has not shown the last write yet");
        return Ok(Next::await_change());
    }
    let next = look(&cron, &key, context).await;
    if !context.is_there(&cron) {
        // It went meanwhile: what was remembered of it since must go too.
        context.timer.set(&key, None);
        context.memory.forget(&key);
    }
    next
}

async fn look(cron: &CronTask, key: &TaskKey, context: &Context) -> Result<Next, Error> {
    let uid = cron.metadata.uid.as_deref().unwrap_or_default();
    let workshop =
        Workshop { client: &context.client, world: &context.world, kind: MakerKind::CronTask, maker: key, uid };
    let now = context.timer.now();
    let mut planned = plan(now, cron, &workshop.children(), None);
    for child in &planned.stop {
        workshop.stop(child).await?;
    }
    let mut refused = None;
    for new in &planned.create {
        match workshop.create(new).await? {
            Made::Now => {
                context.recorder.publish(cron, &new.note);
                context.created(&new.task);
            }
            Made::Before => {}
            Made::Refused(said) => {
                refused = Some(said);
                break;
            }
        }
    }
    if !planned.create.is_empty() {
        planned = plan(now, cron, &workshop.children(), refused.as_deref());
    }
    tracing::debug!(
        name = %key.name,
        namespace = %key.namespace,
        status = planned.status.is_some(),
        wake_at = ?planned.wake_at,
        refused = refused.is_some(),
        "looked at the CronTask"
    );
    let mut next = Next::await_change();
    if let Some(new) = &planned.status {
        let old = cron.status.clone().unwrap_or_default();
        let written = status::write(&context.client, cron, &old, new).await;
        let written = written.map_err(|source| Error::new("write status of CronTask", &key.name, source))?;
        if written.is_none() {
            // What is finished is deleted only once its run is remembered.
            return Ok(Next::requeue(CONFLICT_AGAIN));
        }
        for note in &planned.events {
            context.recorder.publish(cron, note);
            match note.reason {
                reasons::SKIPPED => context.metrics.cron_run("skipped"),
                reasons::MISSED_SCHEDULE => context.metrics.cron_run("missed"),
                reasons::TASK_REJECTED => context.metrics.cron_run("failed"),
                _ => {}
            }
        }
        context.memory.written(key, written);
    }
    for child in planned.delete.iter().filter(|child| !workshop.wants_archive(child)) {
        workshop.delete(child).await?;
    }
    context.timer.set(key, planned.wake_at);
    if refused.is_some() {
        // A quota, a policy, a name: it may be lifted or freed, and nobody tells.
        next = Next::requeue(context.memory.failed(key).1);
    } else {
        context.memory.succeeded(key);
    }
    Ok(next)
}

/// How long to wait before the next look after a failure.
pub(super) fn on_error(cron: Arc<CronTask>, error: &Error, context: Arc<Context>) -> Next {
    let key = key_of(&cron);
    let (failures, wait) = context.memory.failed(&key);
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(namespace = %key.namespace, name = %key.name, failures, %error, cause, "will look at the CronTask again");
    Next::requeue(wait)
}
