//! What a CronTask wants done now: [`plan`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kubetask_api::crontask::{CatchUp, ConcurrencyPolicy};
use kubetask_api::{API_VERSION, CronTask, CronTaskStatus, Task, TaskPhase, conditions, labels, reasons};

use super::{Schedule, ScheduleError};
use crate::names;
use crate::task::EventNote;

/// How late a run may be and still count as on time, not as missed.
pub const ON_TIME: SignedDuration = SignedDuration::from_secs(60);
/// How many missed runs `catchUp: All` makes up for at most.
const CATCH_UP_MAX: usize = 100;
/// How many completed and failed Tasks are kept unless the CronTask says otherwise.
const HISTORY: (i32, i32) = (3, 1);

/// What a CronTask wants done now, in this order: stop, create, status, delete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronPlan {
    /// Tasks to stop (`spec.stop: true`), because a new run replaces them.
    pub stop: Vec<String>,
    /// Tasks to create. AlreadyExists and owned by the CronTask means done.
    pub create: Vec<Task>,
    /// The whole new status; `None` when it is as it should be.
    pub status: Option<CronTaskStatus>,
    /// Finished Tasks beyond the history limits.
    pub delete: Vec<String>,
    /// When to plan again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// What to tell.
    pub events: Vec<EventNote>,
}

/// What shall be done for a CronTask, given the Tasks it made.
pub fn plan(now: Timestamp, cron: &CronTask, children: &[Arc<Task>]) -> CronPlan {
    if cron.metadata.deletion_timestamp.is_some() {
        return CronPlan::default();
    }
    let mut work = Work::new(now, cron, children);
    match Schedule::parse(&cron.spec.schedule, cron.spec.time_zone.as_deref()) {
        Ok(schedule) => work.run(&schedule),
        Err(error) => work.misunderstood(&error),
    }
    work.trigger();
    work.history();
    work.finish()
}

/// A child's name for a run: its CronTask's, and the scheduled minute as Unix time.
fn run_name(cron: &str, suffix: &str) -> String {
    format!("{}-{suffix}", names::shorten(cron, names::NAME_MAX - suffix.len() - 1))
}

struct Work<'a> {
    now: Timestamp,
    cron: &'a CronTask,
    children: &'a [Arc<Task>],
    status: CronTaskStatus,
    plan: CronPlan,
}

impl<'a> Work<'a> {
    fn new(now: Timestamp, cron: &'a CronTask, children: &'a [Arc<Task>]) -> Self {
        let mut status = cron.status.clone().unwrap_or_default();
        status.observed_generation = cron.metadata.generation;
        let completed = children.iter().filter(|t| t.phase() == TaskPhase::Completed);
        let latest = completed.filter_map(|t| t.status.as_ref()?.completion_time.as_ref()).max();
        if let Some(latest) = latest
            && status.last_successful_time.as_ref() < Some(latest)
        {
            status.last_successful_time = Some(latest.clone());
        }
        Self { now, cron, children, status, plan: CronPlan::default() }
    }

    fn name(&self) -> &'a str {
        self.cron.metadata.name.as_deref().unwrap_or_default()
    }

    fn active(&self) -> impl Iterator<Item = &'a Arc<Task>> {
        self.children.iter().filter(|t| !t.phase().is_finished() && t.metadata.deletion_timestamp.is_none())
    }

    fn condition(&mut self, status: bool, reason: &'static str, message: String) {
        let now = Time(self.now);
        let generation = self.cron.metadata.generation;
        conditions::set(
            &mut self.status.conditions,
            &now,
            generation,
            (conditions::SCHEDULED, status, reason),
            message,
        );
    }

    fn tell(&mut self, warning: bool, reason: &'static str, message: String) {
        self.plan.events.push(EventNote { warning, reason, message });
    }

    fn misunderstood(&mut self, error: &ScheduleError) {
        let known = conditions::find(&self.status.conditions, conditions::SCHEDULED);
        if known.is_none_or(|c| c.message != error.to_string()) {
            self.tell(true, reasons::INVALID_SCHEDULE, error.to_string());
        }
        self.status.next_schedule_time = None;
        self.condition(false, reasons::INVALID_SCHEDULE, error.to_string());
    }

    /// Runs that are due, and when the next one is.
    fn run(&mut self, schedule: &Schedule) {
        if self.cron.spec.suspend == Some(true) {
            self.status.next_schedule_time = None;
            self.condition(false, reasons::SUSPENDED, "suspended; set spec.suspend to false to go on".to_owned());
            return;
        }
        let next = schedule.next(self.now);
        self.plan.wake_at = next;
        self.status.next_schedule_time = next.map(Time);
        let (due, latest) = self.due(schedule);
        for at in due {
            self.start(at);
        }
        // What was passed over does not come back.
        if let Some(latest) = latest {
            self.status.last_schedule_time = Some(Time(latest));
        }
        let waits = conditions::find(&self.status.conditions, conditions::SCHEDULED)
            .is_none_or(|c| c.reason == reasons::SUSPENDED || c.reason == reasons::INVALID_SCHEDULE);
        if waits {
            let message = next.map_or_else(
                || "no run is due in the years to come".to_owned(),
                |at| format!("the first run is due at {at}"),
            );
            self.condition(true, reasons::READY, message);
        }
    }

    /// The runs to make up for, oldest first, and the latest time that has passed.
    fn due(&mut self, schedule: &Schedule) -> (Vec<Timestamp>, Option<Timestamp>) {
        let created = self.cron.metadata.creation_timestamp.as_ref().map_or(self.now, |t| t.0);
        let last = self.status.last_schedule_time.as_ref().map_or(created, |t| t.0);
        let policy = self.cron.spec.catch_up.unwrap_or_default();
        let limit = if policy == CatchUp::All { CATCH_UP_MAX } else { 1 };
        let (mut due, more) = schedule.latest(last, self.now, limit);
        let latest = due.last().copied();
        if more {
            self.tell(true, reasons::MISSED_SCHEDULE, format!("missed runs since {last}; catchUp is {policy:?}"));
        }
        let oldest = match (policy, self.cron.spec.starting_deadline_seconds) {
            (CatchUp::Skip, None) => self.now.checked_sub(ON_TIME).ok(),
            (_, Some(seconds)) => self.now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
            (_, None) => None,
        };
        if let Some(oldest) = oldest {
            due.retain(|at| *at >= oldest);
            if due.is_empty()
                && !more
                && let Some(latest) = latest
            {
                self.tell(true, reasons::MISSED_SCHEDULE, format!("the run of {latest} was missed"));
            }
        }
        (due, latest)
    }

    /// One run: skipped, replacing another, or just started.
    fn start(&mut self, at: Timestamp) {
        let name = run_name(self.name(), &at.as_second().to_string());
        if self.children.iter().any(|t| t.metadata.name.as_deref() == Some(name.as_str())) {
            return;
        }
        let running: Vec<String> = self.active().filter_map(|t| t.metadata.name.clone()).collect();
        match self.cron.spec.concurrency_policy.unwrap_or_default() {
            ConcurrencyPolicy::Forbid if !running.is_empty() || !self.plan.create.is_empty() => {
                let message =
                    format!("skipped the run of {at}: {} still runs", running.first().map_or("another run", |n| n));
                self.tell(false, reasons::SKIPPED, message.clone());
                self.condition(true, reasons::SKIPPED, message);
                return;
            }
            ConcurrencyPolicy::Replace => {
                self.plan.create.clear();
                self.plan.stop = running;
            }
            ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Allow => {}
        }
        let message = format!("Created Task {name}");
        self.tell(false, reasons::TASK_CREATED, message.clone());
        self.condition(true, reasons::TASK_CREATED, message);
        let task = self.child(name, Some(at));
        self.plan.create.push(task);
    }

    /// A new value of the trigger annotation runs it now, whatever the schedule says.
    fn trigger(&mut self) {
        let annotations = self.cron.metadata.annotations.as_ref();
        let Some(value) = annotations.and_then(|a| a.get(labels::TRIGGER)).filter(|v| !v.is_empty()) else { return };
        if self.status.last_trigger.as_ref() == Some(value) {
            return;
        }
        let name = run_name(self.name(), &format!("t{}", names::short_hash(value, 8)));
        self.tell(false, reasons::TASK_CREATED, format!("Created Task {name}, triggered by annotation"));
        let task = self.child(name, None);
        self.plan.create.push(task);
        self.status.last_trigger = Some(value.clone());
    }

    fn child(&self, name: String, at: Option<Timestamp>) -> Task {
        let template = self.cron.spec.task_template.metadata.clone().unwrap_or_default();
        let (mut task_labels, mut annotations) = (template.labels, template.annotations);
        task_labels.insert(labels::CRONTASK.to_owned(), names::label_value(self.name()));
        annotations.extend(names::full_name_annotation(labels::CRONTASK, self.name()));
        if let Some(at) = at {
            annotations.insert(labels::SCHEDULED_AT.to_owned(), at.to_string());
        }
        let mut task = Task::new(&name, self.cron.spec.task_template.spec.clone());
        task.metadata = ObjectMeta {
            name: Some(name),
            namespace: self.cron.metadata.namespace.clone(),
            labels: Some(task_labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "CronTask".to_owned(),
                name: self.name().to_owned(),
                uid: self.cron.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        };
        task
    }

    /// Finished Tasks beyond the limits, oldest first.
    fn history(&mut self) {
        let spec = &self.cron.spec;
        let keep = kubetask_api::config::KeepLast {
            completed: Some(spec.successful_tasks_history_limit.unwrap_or(HISTORY.0)),
            failed: Some(spec.failed_tasks_history_limit.unwrap_or(HISTORY.1)),
        };
        let finished: Vec<crate::retention::Finished> = self
            .children
            .iter()
            .filter(|t| t.phase().is_finished() && t.metadata.deletion_timestamp.is_none())
            .map(|t| crate::retention::Finished {
                name: t.metadata.name.clone().unwrap_or_default(),
                phase: t.phase(),
                completed: t.status.as_ref().and_then(|s| s.completion_time.as_ref()).map_or(self.now, |t| t.0),
            })
            .collect();
        self.plan.delete = crate::retention::surplus(&finished, &keep);
    }

    fn finish(mut self) -> CronPlan {
        let mut active: Vec<ObjectReference> = self
            .active()
            .map(|t| &t.metadata)
            .chain(self.plan.create.iter().map(|t| &t.metadata))
            .map(|meta| ObjectReference {
                api_version: Some(API_VERSION.to_owned()),
                kind: Some("Task".to_owned()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                ..ObjectReference::default()
            })
            .collect();
        active.sort_by(|a, b| a.name.cmp(&b.name));
        active.dedup_by(|a, b| a.name == b.name);
        active.truncate(1024);
        self.status.active = active;
        if self.cron.status.as_ref() != Some(&self.status) {
            self.plan.status = Some(self.status);
        }
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use kubetask_api::crontask::{CronTaskSpec, TaskTemplateSpec};
    use kubetask_api::{TaskSpec, TaskStatus};

    use super::*;

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(edit: impl FnOnce(&mut CronTaskSpec)) -> CronTask {
        let mut spec = CronTaskSpec {
            schedule: "0 9 * * *".to_owned(),
            task_template: TaskTemplateSpec { spec: TaskSpec::default(), metadata: None },
            ..CronTaskSpec::default()
        };
        edit(&mut spec);
        let mut cron = CronTask::new("daily-report", spec);
        cron.metadata.creation_timestamp = Some(Time(t("2025-12-01T00:00:00Z")));
        cron.metadata.uid = Some("c-1".to_owned());
        cron
    }

    fn child(name: &str, phase: TaskPhase, completed: &str) -> Arc<Task> {
        let mut task = Task::new(name, TaskSpec::default());
        let completion_time = phase.is_finished().then(|| Time(t(completed)));
        task.status = Some(TaskStatus { phase: Some(phase), completion_time, ..TaskStatus::default() });
        Arc::new(task)
    }

    /// Plans, and lets the world have what was planned.
    fn step(now: &str, cron: &mut CronTask, children: &mut Vec<Arc<Task>>) -> Vec<String> {
        let plan = plan(t(now), cron, children);
        if let Some(status) = plan.status {
            cron.status = Some(status);
        }
        let names = plan.create.iter().filter_map(|t| t.metadata.name.clone()).collect();
        children.extend(plan.create.into_iter().map(Arc::new));
        let again = super::plan(t(now), cron, children);
        assert_eq!((again.create, again.status, again.events), (vec![], None, vec![]), "planned twice");
        names
    }

    #[test]
    fn a_run_is_named_by_its_minute() {
        let mut cron = cron(|_| {});
        cron.status = Some(CronTaskStatus {
            last_schedule_time: Some(Time(t("2025-12-09T09:00:00Z"))),
            ..CronTaskStatus::default()
        });
        let mut children = vec![];
        assert_eq!(step("2025-12-10T08:59:59Z", &mut cron, &mut children), Vec::<String>::new());
        assert_eq!(step("2025-12-10T09:00:00.2Z", &mut cron, &mut children), ["daily-report-1765357200"]);
        let status = cron.status.unwrap();
        assert_eq!(status.last_schedule_time, Some(Time(t("2025-12-10T09:00:00Z"))));
        assert_eq!(status.next_schedule_time, Some(Time(t("2025-12-11T09:00:00Z"))));
        assert_eq!(status.active[0].name.as_deref(), Some("daily-report-1765357200"));
        assert_eq!(children[0].metadata.labels.as_ref().unwrap()[labels::CRONTASK], "daily-report");
    }

    #[test]
    fn a_week_asleep() {
        let runs = |policy, deadline| {
            let mut cron = cron(|s| {
                s.catch_up = policy;
                s.starting_deadline_seconds = deadline;
                s.concurrency_policy = Some(ConcurrencyPolicy::Allow);
            });
            step("2025-12-08T12:00:00Z", &mut cron, &mut vec![]).len()
        };
        assert_eq!(runs(None, None), 1);
        assert_eq!(runs(Some(CatchUp::Skip), None), 0);
        assert_eq!(runs(Some(CatchUp::All), None), 8);
        assert_eq!(runs(Some(CatchUp::All), Some(2 * 86_400)), 2);
        assert_eq!(runs(Some(CatchUp::Once), Some(60)), 0);
    }

    #[test]
    fn a_year_asleep_is_bounded() {
        let mut cron = cron(|s| {
            s.schedule = "* * * * *".to_owned();
            s.catch_up = Some(CatchUp::All);
            s.concurrency_policy = Some(ConcurrencyPolicy::Allow);
        });
        assert_eq!(step("2026-12-01T00:00:00Z", &mut cron, &mut vec![]).len(), CATCH_UP_MAX);
    }

    #[test]
    fn policies() {
        let run = |policy| {
            let mut cron = cron(|s| s.concurrency_policy = policy);
            cron.status = Some(CronTaskStatus {
                last_schedule_time: Some(Time(t("2025-12-09T09:00:00Z"))),
                ..CronTaskStatus::default()
            });
            let plan = plan(t("2025-12-10T09:00:00Z"), &cron, &[child("old", TaskPhase::Running, "")]);
            (plan.create.len(), plan.stop, plan.status.unwrap().last_schedule_time.unwrap().0)
        };
        let nine = t("2025-12-10T09:00:00Z");
        assert_eq!(run(None), (0, vec![], nine));
        assert_eq!(run(Some(ConcurrencyPolicy::Allow)), (1, vec![], nine));
        assert_eq!(run(Some(ConcurrencyPolicy::Replace)), (1, vec!["old".to_owned()], nine));
    }

    #[test]
    fn suspend_and_trigger() {
        let mut cron = cron(|s| s.suspend = Some(true));
        let mut children = vec![];
        assert_eq!(step("2025-12-10T09:00:00Z", &mut cron, &mut children), Vec::<String>::new());
        cron.metadata.annotations = Some([(labels::TRIGGER.to_owned(), "now please".to_owned())].into());
        let name = format!("daily-report-t{}", names::short_hash("now please", 8));
        assert_eq!(step("2025-12-10T10:00:00Z", &mut cron, &mut children), [name]);
        assert_eq!(cron.status.as_ref().unwrap().next_schedule_time, None);
    }

    #[test]
    fn a_schedule_that_cannot_be_understood() {
        let mut cron = cron(|s| s.schedule = "0 25 * * *".to_owned());
        assert_eq!(step("2025-12-10T09:00:00Z", &mut cron, &mut vec![]), Vec::<String>::new());
        let condition = &cron.status.unwrap().conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "InvalidSchedule"));
    }

    #[test]
    fn history_is_limited() {
        let done = |n: u8, phase| child(&format!("t{n}"), phase, &format!("2025-12-0{n}T09:00:00Z"));
        let children = [
            done(1, TaskPhase::Completed),
            done(2, TaskPhase::Completed),
            done(3, TaskPhase::Completed),
            done(4, TaskPhase::Completed),
            done(5, TaskPhase::Failed),
            done(6, TaskPhase::Failed),
        ];
        let cron = cron(|s| s.suspend = Some(true));
        let plan = plan(t("2025-12-10T09:00:00Z"), &cron, &children);
        assert_eq!(plan.delete, ["t1", "t5"]);
        assert_eq!(plan.status.unwrap().last_successful_time, Some(Time(t("2025-12-04T09:00:00Z"))));
    }
}
