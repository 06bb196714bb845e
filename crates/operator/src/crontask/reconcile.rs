//! One look at one CronTask: plan, make Tasks, tell.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use kubetask_api::{CronTask, Task, labels, reasons};
use kubetask_core::child::MakerKind;
use kubetask_core::cron::{ON_TIME, plan};

use super::timer::Timer;
use crate::make::{Error, Made};
use crate::maker::{Makers, Shared};
use crate::status::CONFLICT_AGAIN;
use crate::world::TaskKey;

/// What all looks share.
pub(super) struct Context {
    shared: Shared<CronTask>,
    timer: Timer,
}

impl Makers for Context {
    type Maker = CronTask;

    const KIND: MakerKind = MakerKind::CronTask;

    fn shared(&self) -> &Shared<CronTask> {
        &self.shared
    }

    async fn look(&self, cron: &CronTask, key: &TaskKey) -> Result<Next, Error> {
        look(cron, key, self).await
    }

    fn forget(&self, key: &TaskKey) {
        self.timer.set(key, None);
    }
}

impl Context {
    pub(super) fn new(shared: Shared<CronTask>, timer: Timer) -> Self {
        Self { shared, timer }
    }

    /// A run's Task was created: how late.
    fn created(&self, task: &Task) {
        self.shared.metrics.cron_run("created");
        let due = task.metadata.annotations.as_ref().and_then(|a| a.get(labels::SCHEDULED_AT));
        if let Some(due) = due.and_then(|at| at.parse::<Timestamp>().ok()) {
            let late = self.timer.now().duration_since(due);
            // Runs that were missed are not late, they are made up for.
            if late <= ON_TIME {
                self.shared.metrics.cron_skew(Duration::try_from(late).unwrap_or_default());
            }
        }
    }
}

async fn look(cron: &CronTask, key: &TaskKey, context: &Context) -> Result<Next, Error> {
    let shared = &context.shared;
    let workshop = shared.workshop(Context::KIND, cron, key);
    let now = context.timer.now();
    let mut planned = plan(now, cron, &workshop.children(), None);
    for child in &planned.stop {
        workshop.stop(child).await?;
    }
    let mut refused = None;
    for new in &planned.create {
        match workshop.create(new).await? {
            Made::Now => {
                shared.recorder.publish(cron, &new.note);
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
    if let Some(new) = &planned.status {
        let old = cron.status.clone().unwrap_or_default();
        if !shared.write("write status of CronTask", cron, &old, new).await? {
            // What is finished is deleted only once its run is remembered.
            return Ok(Next::requeue(CONFLICT_AGAIN));
        }
        for note in &planned.events {
            shared.recorder.publish(cron, note);
            match note.reason {
                reasons::SKIPPED => shared.metrics.cron_run("skipped"),
                reasons::MISSED_SCHEDULE => shared.metrics.cron_run("missed"),
                reasons::TASK_REJECTED => shared.metrics.cron_run("failed"),
                _ => {}
            }
        }
    }
    for child in planned.delete.iter().filter(|child| !workshop.wants_archive(child)) {
        workshop.delete(child).await?;
    }
    context.timer.set(key, planned.wake_at);
    Ok(shared.next(key, refused.is_some()))
}
