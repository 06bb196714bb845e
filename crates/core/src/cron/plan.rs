//! What a CronTask wants done now: [`plan`].
//!
//! `status.nextScheduleTime` is a promise: nothing is due before it. So a schedule that is changed counts from the change
//! on, and not from the latest run. In the past it means that a run waits: for the one before it, or for a Task that the
//! server did not take. `status.lastScheduleTime` never goes back, so that a clock that does repeats nothing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kubetask_api::crontask::{CatchUp, ConcurrencyPolicy};
use kubetask_api::{API_VERSION, CronTask, CronTaskStatus, Task, TaskPhase, conditions, labels, reasons};

use super::{Schedule, ScheduleError};
use crate::child::{Child, Maker, MakerKind, NewTask};
use crate::names;
use crate::task::EventNote;

/// How late a run may be and still count as on time, not as missed.
pub const ON_TIME: SignedDuration = SignedDuration::from_secs(60);
/// The shortest deadline that is kept: a second is no time for a busy server.
const DEADLINE_MIN: i64 = 5;
/// How many missed runs `catchUp: All` makes up for at most.
const CATCH_UP_MAX: usize = 100;
/// How many completed and failed Tasks are kept unless the CronTask says otherwise.
const HISTORY: (i32, i32) = (3, 1);
/// A latest run further in the future than this was made by a clock that was wrong.
const CLOCK_IS_WRONG: SignedDuration = SignedDuration::from_hours(24);
/// How many open Tasks the status names.
const ACTIVE_MAX: usize = 1024;

/// What a CronTask wants done now, in this order: stop, create, status, delete. Plan again after creating: the status
/// of the second plan names what was created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronPlan {
    /// Tasks to stop (`spec.stop: true`), because a new run replaces them.
    pub stop: Vec<Child>,
    /// Tasks to create.
    pub create: Vec<NewTask>,
    /// The whole new status; `None` when it is as it should be.
    pub status: Option<CronTaskStatus>,
    /// Finished Tasks beyond the history limits. Only once the status is written: it remembers their runs.
    pub delete: Vec<Child>,
    /// When to plan again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// What to tell when the status is written.
    pub events: Vec<EventNote>,
}

/// What shall be done for a CronTask, given the Tasks it made. `refused` is what the server said when it did not take
/// the next one.
pub fn plan(now: Timestamp, cron: &CronTask, children: &[Child], refused: Option<&str>) -> CronPlan {
    if cron.metadata.deletion_timestamp.is_some() {
        return CronPlan::default();
    }
    let mut work = Work::new(now, cron, children, refused);
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

/// The Task that a value of the annotation `kubetask.io/trigger` makes.
pub fn trigger_name(cron: &str, value: &str) -> String {
    run_name(cron, &format!("t{}", names::short_hash(value, 8)))
}

/// How a run that is due fared.
enum Run {
    /// Its Task is there, or it was skipped for good.
    Settled,
    /// It waits.
    Held,
}

struct Work<'a> {
    now: Timestamp,
    cron: &'a CronTask,
    children: &'a [Child],
    refused: Option<&'a str>,
    status: CronTaskStatus,
    plan: CronPlan,
}

impl<'a> Work<'a> {
    fn new(now: Timestamp, cron: &'a CronTask, children: &'a [Child], refused: Option<&'a str>) -> Self {
        let mut status = cron.status.clone().unwrap_or_default();
        status.observed_generation = cron.metadata.generation;
        let completed = children.iter().filter(|c| c.phase == TaskPhase::Completed);
        let latest = completed.filter_map(|c| c.completed).max().map(Time);
        if status.last_successful_time < latest {
            status.last_successful_time = latest;
        }
        Self { now, cron, children, refused, status, plan: CronPlan::default() }
    }

    fn name(&self) -> &'a str {
        self.cron.metadata.name.as_deref().unwrap_or_default()
    }

    /// A Task that is being deleted is open until it is gone: its agent may still run.
    fn open(&self) -> impl Iterator<Item = &'a Child> {
        self.children.iter().filter(|c| c.is_open())
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

    /// The condition as it was written last.
    fn told(&self) -> Option<(&str, &str)> {
        let conditions = &self.cron.status.as_ref()?.conditions;
        conditions::find(conditions, conditions::SCHEDULED).map(|c| (c.reason.as_str(), c.message.as_str()))
    }

    fn tell(&mut self, warning: bool, reason: &'static str, message: String) {
        self.plan.events.push(EventNote { warning, reason, message });
    }

    /// Something stands in the way until somebody changes it: told once.
    fn trouble(&mut self, reason: &'static str, message: String) {
        if self.told() != Some((reason, &message)) {
            self.tell(true, reason, message.clone());
        }
        self.condition(false, reason, message);
    }

    fn misunderstood(&mut self, error: &ScheduleError) {
        self.status.next_schedule_time = None;
        self.trouble(reasons::INVALID_SCHEDULE, error.to_string());
    }

    /// Runs that are due, and when the next one is.
    fn run(&mut self, schedule: &Schedule) {
        if self.cron.spec.suspend == Some(true) {
            self.status.next_schedule_time = None;
            self.condition(false, reasons::SUSPENDED, "suspended; set spec.suspend to false to go on".to_owned());
            return;
        }
        let (due, latest) = self.due(schedule);
        let mut held = None;
        let mut settled = None;
        for at in due {
            match self.start(at) {
                Run::Settled => settled = Some(at),
                Run::Held => {
                    held = Some(at);
                    break;
                }
            }
        }
        // What was passed over does not come back.
        let last = if held.is_some() { settled } else { latest };
        if let Some(last) = last {
            self.status.last_schedule_time = Some(Time(last));
        }
        let last = self.status.last_schedule_time.as_ref().map_or(self.now, |t| t.0);
        let next = schedule.next(self.now.max(last));
        self.status.next_schedule_time = held.or(next).map(Time);
        let given_up = held.zip(self.deadline()).and_then(|(at, deadline)| at.checked_add(deadline).ok());
        let given_up = given_up.and_then(|at| at.checked_add(SignedDuration::from_secs(1)).ok());
        self.plan.wake_at = [next, given_up].into_iter().flatten().min();
        let waited = conditions::find(&self.status.conditions, conditions::SCHEDULED).is_none_or(|c| {
            [reasons::SUSPENDED, reasons::INVALID_SCHEDULE].contains(&c.reason.as_str())
                || (c.reason == reasons::TASK_REJECTED && self.refused.is_none())
        });
        if waited {
            let message = next.map_or_else(
                || "no run is due in the years to come".to_owned(),
                |at| format!("the next run is due at {at}"),
            );
            self.condition(true, reasons::READY, message);
        }
    }

    fn deadline(&self) -> Option<SignedDuration> {
        self.cron.spec.starting_deadline_seconds.map(|s| SignedDuration::from_secs(s.max(DEADLINE_MIN)))
    }

    /// Runs after this time are due.
    fn since(&mut self) -> Timestamp {
        let promised = self.status.next_schedule_time.as_ref().map(|t| t.0);
        if let Some(last) = self.status.last_schedule_time.as_ref().map(|t| t.0)
            && self.now.checked_add(CLOCK_IS_WRONG).is_ok_and(|bound| last > bound)
        {
            let message =
                format!("the latest run was scheduled for {last}, by a clock that was wrong; going on from now");
            self.tell(true, reasons::MISSED_SCHEDULE, message);
            self.status.last_schedule_time = None;
            return self.now;
        }
        // A schedule that could not be understood promised nothing.
        let misunderstood = self.told().is_some_and(|(reason, _)| reason == reasons::INVALID_SCHEDULE);
        if misunderstood || promised.is_some_and(|at| at > self.now) {
            return self.now;
        }
        let created = self.cron.metadata.creation_timestamp.as_ref().map_or(self.now, |t| t.0.min(self.now));
        let last = self.status.last_schedule_time.as_ref().map_or(created, |t| t.0);
        let promised = promised.and_then(|at| at.checked_sub(SignedDuration::from_secs(1)).ok());
        promised.map_or(last, |at| at.max(last))
    }

    /// The runs to make up for, oldest first, and the latest time that has passed.
    fn due(&mut self, schedule: &Schedule) -> (Vec<Timestamp>, Option<Timestamp>) {
        let since = self.since();
        let policy = self.cron.spec.catch_up.unwrap_or_default();
        let limit = if policy == CatchUp::All { CATCH_UP_MAX } else { 1 };
        let (mut due, more) = schedule.latest(since, self.now, limit);
        let latest = due.last().copied();
        if more {
            let first = schedule.next(since).unwrap_or(since);
            let message = format!("missed runs since {first}; catchUp is {policy:?}");
            self.tell(true, reasons::MISSED_SCHEDULE, message);
        }
        let late = self.deadline().or((policy == CatchUp::Skip).then_some(ON_TIME));
        if let Some(oldest) = late.and_then(|late| self.now.checked_sub(late).ok()) {
            due.retain(|at| *at >= oldest);
            if due.is_empty()
                && !more
                && let Some(latest) = latest
            {
                self.tell(true, reasons::MISSED_SCHEDULE, format!("the run of {latest} was missed"));
            }
        }
        if self.cron.spec.concurrency_policy == Some(ConcurrencyPolicy::Replace) {
            // The others would be replaced before they began.
            due.drain(..due.len().saturating_sub(1));
        }
        (due, latest)
    }

    /// One run: skipped, held, replacing another, or just started.
    fn start(&mut self, at: Timestamp) -> Run {
        let name = run_name(self.name(), &at.as_second().to_string());
        let message = format!("Created Task {name}");
        if self.children.iter().any(|c| c.name == name) {
            self.condition(true, reasons::TASK_CREATED, message);
            return Run::Settled;
        }
        let missed = self.now.duration_since(at) > ON_TIME;
        match self.cron.spec.concurrency_policy.unwrap_or_default() {
            ConcurrencyPolicy::Forbid => {
                let before = self.open().map(|c| c.name.clone()).next();
                let before = before.or_else(|| self.plan.create.first().and_then(|new| new.task.metadata.name.clone()));
                if let Some(before) = before {
                    let waits = self.deadline().is_some() || (missed && self.cron.spec.catch_up == Some(CatchUp::All));
                    if waits {
                        return Run::Held;
                    }
                    let message = format!("skipped the run of {at}: {before} still runs");
                    self.tell(false, reasons::SKIPPED, message.clone());
                    self.condition(true, reasons::SKIPPED, message);
                    return Run::Settled;
                }
            }
            ConcurrencyPolicy::Replace => self.plan.stop = self.open().filter(|c| !c.going).cloned().collect(),
            ConcurrencyPolicy::Allow => {}
        }
        if let Some(said) = self.refused {
            self.trouble(reasons::TASK_REJECTED, format!("the Task for the run of {at} was refused: {said}"));
            return Run::Held;
        }
        let told = if missed { format!("{message} for the run of {at}, which was missed") } else { message.clone() };
        self.condition(true, reasons::TASK_CREATED, message);
        self.create(name, Some(at), told);
        Run::Settled
    }

    /// A new value of the trigger annotation runs it now, whatever the schedule says.
    fn trigger(&mut self) {
        let annotations = self.cron.metadata.annotations.as_ref();
        let Some(value) = annotations.and_then(|a| a.get(labels::TRIGGER)).filter(|v| !v.is_empty()) else { return };
        if self.status.last_trigger.as_ref() == Some(value) {
            return;
        }
        let name = trigger_name(self.name(), value);
        if self.children.iter().any(|c| c.name == name) {
            self.status.last_trigger = Some(value.clone());
        } else if let Some(said) = self.refused {
            self.trouble(
                reasons::TASK_REJECTED,
                format!("the Task {name}, triggered by annotation, was refused: {said}"),
            );
        } else {
            self.status.last_trigger = Some(value.clone());
            let told = format!("Created Task {name}, triggered by annotation");
            self.create(name, None, told);
        }
    }

    fn create(&mut self, name: String, at: Option<Timestamp>, told: String) {
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
            owner_references: Some(vec![Maker::reference(MakerKind::CronTask, &self.cron.metadata)]),
            ..ObjectMeta::default()
        };
        let note = EventNote { warning: false, reason: reasons::TASK_CREATED, message: told };
        self.plan.create.push(NewTask { task, note });
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
            .filter(|c| !c.is_open() && !c.going)
            .map(|c| crate::retention::Finished {
                name: c.name.clone(),
                phase: c.phase,
                completed: c.completed.unwrap_or(self.now),
            })
            .collect();
        let surplus = crate::retention::surplus(&finished, &keep);
        let child = |name: String| self.children.iter().find(|c| c.name == name).cloned();
        self.plan.delete = surplus.into_iter().filter_map(child).collect();
    }

    fn finish(mut self) -> CronPlan {
        let reference = |name: &str, uid: Option<&str>| ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("Task".to_owned()),
            name: Some(name.to_owned()),
            namespace: self.cron.metadata.namespace.clone(),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        };
        let created = self.plan.create.iter().filter_map(|new| new.task.metadata.name.as_deref());
        let mut active: Vec<ObjectReference> = self
            .open()
            .map(|c| reference(&c.name, Some(&c.uid)))
            .chain(created.map(|name| reference(name, None)))
            .collect();
        active.sort_by(|a, b| a.name.cmp(&b.name));
        active.truncate(ACTIVE_MAX);
        self.status.active = active;
        if self.cron.status.as_ref() != Some(&self.status) {
            self.plan.status = Some(self.status);
        }
        self.plan
    }
}
