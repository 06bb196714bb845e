//! CronTasks lived through: sleep, clocks that change and jump, operators that die between any two writes.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubetask_api::crontask::{CatchUp, ConcurrencyPolicy, CronTaskSpec, TaskTemplateSpec};
use kubetask_api::{CronTask, TaskPhase, TaskSpec, conditions, labels, reasons};
use proptest::prelude::*;

use super::plan;
use crate::child::Child;
use crate::names;

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A CronTask and the Tasks it made.
struct World {
    cron: CronTask,
    children: Vec<Child>,
    told: Vec<&'static str>,
    stopped: Vec<String>,
}

impl World {
    fn new(created: &str, edit: impl FnOnce(&mut CronTaskSpec)) -> Self {
        let mut spec = CronTaskSpec {
            schedule: "0 9 * * *".to_owned(),
            task_template: TaskTemplateSpec { spec: TaskSpec::default(), metadata: None },
            ..CronTaskSpec::default()
        };
        edit(&mut spec);
        let mut cron = CronTask::new("daily-report", spec);
        cron.metadata.creation_timestamp = Some(Time(t(created)));
        cron.metadata.uid = Some("c-1".to_owned());
        Self { cron, children: vec![], told: vec![], stopped: vec![] }
    }

    /// Plans at that time and carries everything out; tells the names of what was created.
    fn at(&mut self, now: &str) -> Vec<String> {
        self.step(t(now), usize::MAX)
    }

    /// Plans and carries out, but dies after so many writes.
    fn step(&mut self, now: Timestamp, mut writes: usize) -> Vec<String> {
        let mut created = Vec::new();
        let mut may_write = move || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may
        };
        let first = plan(now, &self.cron, &self.children, None);
        for child in first.stop {
            if !may_write() {
                return created;
            }
            self.stopped.push(child.name);
        }
        for new in first.create {
            if !may_write() {
                return created;
            }
            let child = Child { uid: "u".to_owned(), ..Child::of(&new.task) };
            assert!(self.children.iter().all(|c| c.name != child.name), "{} is there", child.name);
            created.push(child.name.clone());
            self.children.push(child);
            self.told.push(new.note.reason);
        }
        let second = plan(now, &self.cron, &self.children, None);
        assert_eq!(second.create, vec![], "created twice");
        if let Some(status) = second.status {
            if !may_write() {
                return created;
            }
            self.cron.status = Some(status);
            self.told.extend(second.events.iter().map(|e| e.reason));
        }
        for child in second.delete {
            if !may_write() {
                return created;
            }
            self.children.retain(|c| c.name != child.name);
        }
        let third = plan(now, &self.cron, &self.children, None);
        assert_eq!((third.create, third.status, third.events), (vec![], None, vec![]), "planned twice");
        created
    }

    fn end(&mut self, now: &str, phase: TaskPhase) {
        for child in self.children.iter_mut().filter(|c| c.is_open()) {
            (child.phase, child.completed) = (phase, Some(t(now)));
        }
    }

    fn reason(&self) -> (&str, &str) {
        let condition =
            conditions::find(&self.cron.status.as_ref().unwrap().conditions, conditions::SCHEDULED).unwrap();
        (&condition.status, &condition.reason)
    }

    fn next(&self) -> Option<Timestamp> {
        self.cron.status.as_ref().unwrap().next_schedule_time.as_ref().map(|t| t.0)
    }

    fn last(&self) -> Option<Timestamp> {
        self.cron.status.as_ref().unwrap().last_schedule_time.as_ref().map(|t| t.0)
    }
}

fn run(at: &str) -> String {
    format!("daily-report-{}", t(at).as_second())
}

#[test]
fn a_run_is_named_by_its_minute() {
    let mut world = World::new("2025-12-09T10:00:00Z", |_| {});
    assert_eq!(world.at("2025-12-10T08:59:59Z"), Vec::<String>::new());
    assert_eq!(world.next(), Some(t("2025-12-10T09:00:00Z")));
    assert_eq!(world.at("2025-12-10T09:00:00.2Z"), ["daily-report-1765357200"]);
    assert_eq!(world.last(), Some(t("2025-12-10T09:00:00Z")));
    assert_eq!(world.next(), Some(t("2025-12-11T09:00:00Z")));
    let status = world.cron.status.as_ref().unwrap();
    assert_eq!(status.active[0].name.as_deref(), Some("daily-report-1765357200"));
    assert_eq!(status.active[0].uid.as_deref(), Some("u"));
}

#[test]
fn what_is_created_carries_the_template_and_its_maker() {
    let mut world = World::new("2025-12-09T10:00:00Z", |s| {
        let metadata = serde_json::json!({"labels": {"app": "report"}, "annotations": {"a": "b"}});
        s.task_template.metadata = Some(serde_json::from_value(metadata).unwrap());
    });
    world.cron.metadata.name = Some("x".repeat(253));
    let plan = plan(t("2025-12-10T09:00:00Z"), &world.cron, &[], None);
    let metadata = &plan.create[0].task.metadata;
    let (task_labels, annotations) = (metadata.labels.as_ref().unwrap(), metadata.annotations.as_ref().unwrap());
    assert_eq!((task_labels["app"].as_str(), annotations["a"].as_str()), ("report", "b"));
    assert_eq!(task_labels[labels::CRONTASK].len(), 63);
    assert_eq!(annotations["kubetask.io/crontask-name"].len(), 253);
    assert_eq!(annotations[labels::SCHEDULED_AT], "2025-12-10T09:00:00Z");
    assert_eq!(metadata.name.as_ref().unwrap().len(), 253);
    assert!(metadata.name.as_ref().unwrap().ends_with("-1765357200"));
    assert_eq!(crate::child::Maker::of(metadata).unwrap().uid, "c-1");
}

#[test]
fn asleep_for_an_hour_a_week_and_a_year() {
    let check = |policy, deadline, now: &str, expect: usize| {
        let mut world = World::new("2025-12-01T00:00:00Z", |s| {
            s.schedule = "0 * * * *".to_owned();
            s.catch_up = policy;
            s.starting_deadline_seconds = deadline;
            s.concurrency_policy = Some(ConcurrencyPolicy::Allow);
        });
        assert_eq!(world.at(now).len(), expect, "{policy:?} {deadline:?} {now}");
        // Then it goes on as usual.
        let next = world.next().unwrap();
        assert_eq!(world.step(next, usize::MAX).len(), 1);
    };
    let (hour, week, year) = ("2025-12-01T01:10:00Z", "2025-12-08T00:10:00Z", "2026-12-01T00:10:00Z");
    for now in [hour, week, year] {
        check(None, None, now, 1);
        check(Some(CatchUp::Once), None, now, 1);
        check(Some(CatchUp::Skip), None, now, 0);
        // The deadline decides, whatever the policy.
        check(Some(CatchUp::Once), Some(60), now, 0);
        check(Some(CatchUp::Skip), Some(3600), now, 1);
        check(Some(CatchUp::All), Some(60), now, 0);
    }
    check(Some(CatchUp::All), None, hour, 1);
    check(Some(CatchUp::All), None, week, 100);
    check(Some(CatchUp::All), None, year, 100);
    check(Some(CatchUp::All), Some(7200), week, 2);
}

#[test]
fn missed_runs_are_told_once() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.catch_up = Some(CatchUp::Skip));
    world.at("2025-12-08T12:00:00Z");
    assert_eq!(world.told, [reasons::MISSED_SCHEDULE]);
    world.at("2025-12-08T12:00:01Z");
    assert_eq!(world.told.len(), 1);
}

#[test]
fn runs_made_up_for_wait_for_each_other_where_two_must_not_run() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.catch_up = Some(CatchUp::All));
    assert_eq!(world.at("2025-12-03T12:00:00Z"), [run("2025-12-01T09:00:00Z")]);
    // In the past: it waits.
    assert_eq!(world.next(), Some(t("2025-12-02T09:00:00Z")));
    assert_eq!(world.at("2025-12-03T12:10:00Z"), Vec::<String>::new());
    world.end("2025-12-03T12:20:00Z", TaskPhase::Completed);
    assert_eq!(world.at("2025-12-03T12:20:00Z"), [run("2025-12-02T09:00:00Z")]);
    world.end("2025-12-03T12:30:00Z", TaskPhase::Failed);
    assert_eq!(world.at("2025-12-03T12:30:00Z"), [run("2025-12-03T09:00:00Z")]);
    assert_eq!(world.next(), Some(t("2025-12-04T09:00:00Z")));
    assert_eq!(world.at("2025-12-04T09:00:00Z"), Vec::<String>::new());
    assert_eq!(world.reason(), ("True", reasons::SKIPPED));
}

#[test]
fn allow_runs_both() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.concurrency_policy = Some(ConcurrencyPolicy::Allow));
    assert_eq!(world.at("2025-12-01T09:00:00Z").len() + world.at("2025-12-02T09:00:00Z").len(), 2);
    assert_eq!(world.cron.status.as_ref().unwrap().active.len(), 2);
}

#[test]
fn forbid_skips_while_the_previous_runs() {
    let mut world = World::new("2025-12-01T00:00:00Z", |_| {});
    assert_eq!(world.at("2025-12-01T09:00:00Z").len(), 1);
    // Even while it is being deleted.
    world.children[0].going = true;
    assert_eq!(world.at("2025-12-02T09:00:00Z").len(), 0);
    assert_eq!(world.reason(), ("True", reasons::SKIPPED));
    world.end("2025-12-02T09:00:30Z", TaskPhase::Completed);
    assert_eq!(world.at("2025-12-02T09:00:31Z").len(), 0, "what was skipped does not come back");
    assert_eq!(world.at("2025-12-03T09:00:00Z").len(), 1);
    assert_eq!(world.told, [reasons::TASK_CREATED, reasons::SKIPPED, reasons::TASK_CREATED]);
}

#[test]
fn forbid_with_a_deadline_starts_late_but_within_it() {
    let world = |ends: &str| {
        let mut world = World::new("2025-12-01T00:00:00Z", |s| s.starting_deadline_seconds = Some(600));
        assert_eq!(world.at("2025-12-01T09:00:00Z").len(), 1);
        assert_eq!(world.at("2025-12-02T09:00:00Z").len(), 0);
        assert_eq!(world.next(), Some(t("2025-12-02T09:00:00Z")));
        let waits = plan(t("2025-12-02T09:00:00Z"), &world.cron, &world.children, None);
        assert_eq!(waits.wake_at, Some(t("2025-12-02T09:10:01Z")));
        world.end(ends, TaskPhase::Completed);
        world.at(ends)
    };
    assert_eq!(world("2025-12-02T09:10:00Z"), [run("2025-12-02T09:00:00Z")]);
    assert_eq!(world("2025-12-02T09:10:01Z"), Vec::<String>::new());
}

#[test]
fn replace_stops_the_previous() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| {
        s.concurrency_policy = Some(ConcurrencyPolicy::Replace);
        s.catch_up = Some(CatchUp::All);
    });
    assert_eq!(world.at("2025-12-01T09:00:00Z").len(), 1);
    assert_eq!(world.at("2025-12-04T09:00:00Z"), [run("2025-12-04T09:00:00Z")], "no more than the last one");
    assert_eq!(world.stopped, [run("2025-12-01T09:00:00Z")]);
}

#[test]
fn suspend_and_trigger() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.suspend = Some(true));
    assert_eq!(world.at("2025-12-10T09:00:00Z"), Vec::<String>::new());
    assert_eq!((world.reason(), world.next()), (("False", reasons::SUSPENDED), None));
    world.cron.metadata.annotations = Some([(labels::TRIGGER.to_owned(), "now please".to_owned())].into());
    let name = format!("daily-report-t{}", names::short_hash("now please", 8));
    assert_eq!(world.at("2025-12-10T10:00:00Z"), [name]);
    // As with CronJob, what was suspended counts as missed.
    world.cron.spec.suspend = Some(false);
    world.end("2025-12-10T10:30:00Z", TaskPhase::Completed);
    assert_eq!(world.at("2025-12-10T11:00:00Z"), [run("2025-12-10T09:00:00Z")]);
    assert_eq!(world.reason(), ("True", reasons::TASK_CREATED));
}

#[test]
fn a_schedule_that_cannot_be_understood() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.schedule = "0 25 * * *".to_owned());
    assert_eq!(world.at("2025-12-10T09:00:00Z"), Vec::<String>::new());
    assert_eq!(world.reason(), ("False", reasons::INVALID_SCHEDULE));
    assert_eq!(world.told, [reasons::INVALID_SCHEDULE]);
    // Nothing was missed while nobody knew when.
    world.cron.spec.schedule = "0 * * * *".to_owned();
    assert_eq!(world.at("2025-12-10T09:10:00Z"), Vec::<String>::new());
    assert_eq!(world.reason(), ("True", reasons::READY));
    assert_eq!(world.at("2025-12-10T10:00:00Z").len(), 1);
}

#[test]
fn a_schedule_that_is_changed_counts_from_then_on() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.catch_up = Some(CatchUp::All));
    assert_eq!(world.at("2025-12-01T09:00:00Z").len(), 1);
    world.end("2025-12-01T09:10:00Z", TaskPhase::Completed);
    world.cron.spec.schedule = "0 * * * *".to_owned();
    assert_eq!(world.at("2025-12-01T14:30:00Z"), Vec::<String>::new());
    assert_eq!(world.at("2025-12-01T15:00:00Z"), [run("2025-12-01T15:00:00Z")]);
    world.end("2025-12-01T15:10:00Z", TaskPhase::Completed);
    world.cron.spec.time_zone = Some("Asia/Kolkata".to_owned());
    assert_eq!(world.at("2025-12-01T15:20:00Z"), Vec::<String>::new());
    assert_eq!(world.at("2025-12-01T15:30:00Z"), [run("2025-12-01T15:30:00Z")]);
}

#[test]
fn a_clock_that_goes_back_repeats_nothing() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| {
        s.schedule = "0 * * * *".to_owned();
        s.concurrency_policy = Some(ConcurrencyPolicy::Allow);
    });
    assert_eq!(world.at("2025-12-01T12:00:00Z").len(), 1);
    world.children.clear();
    for hour in 9..=12 {
        assert_eq!(world.at(&format!("2025-12-01T{hour:02}:00:01Z")), Vec::<String>::new());
    }
    assert_eq!(world.next(), Some(t("2025-12-01T13:00:00Z")));
    assert_eq!(world.at("2025-12-01T13:00:00Z").len(), 1);
}

#[test]
fn a_clock_that_was_wrong_by_a_year_does_not_stop_everything() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.schedule = "0 * * * *".to_owned());
    assert_eq!(world.at("2026-12-01T12:00:00Z").len(), 1);
    world.end("2026-12-01T12:10:00Z", TaskPhase::Completed);
    world.told.clear();
    assert_eq!(world.at("2025-12-01T12:30:00Z"), Vec::<String>::new());
    assert_eq!(world.told, [reasons::MISSED_SCHEDULE]);
    assert_eq!(world.at("2025-12-01T13:00:00Z"), [run("2025-12-01T13:00:00Z")]);
}

#[test]
fn a_task_that_is_refused_is_tried_again_until_the_next_run() {
    let mut world = World::new("2025-12-01T00:00:00Z", |_| {});
    let now = t("2025-12-01T09:00:00Z");
    let refused = plan(now, &world.cron, &[], Some("exceeded quota"));
    assert_eq!((refused.create, refused.events.len()), (vec![], 1));
    world.cron.status = refused.status;
    assert_eq!(world.reason(), ("False", reasons::TASK_REJECTED));
    assert_eq!(plan(now, &world.cron, &[], Some("exceeded quota")).status, None);
    assert_eq!(world.at("2025-12-01T09:05:00Z"), [run("2025-12-01T09:00:00Z")]);
    assert_eq!(world.reason(), ("True", reasons::TASK_CREATED));
}

#[test]
fn history_is_limited() {
    let mut world = World::new("2025-12-01T00:00:00Z", |s| s.suspend = Some(true));
    for (n, phase) in [(1, TaskPhase::Completed), (5, TaskPhase::Failed)]
        .into_iter()
        .flat_map(|(first, phase)| (first..first + 4).map(move |n| (n, phase)))
    {
        let child = Child {
            name: format!("t{n}"),
            uid: n.to_string(),
            phase,
            completed: Some(t(&format!("2025-12-0{n}T09:00:00Z"))),
            going: false,
            index: None,
            archived: false,
        };
        world.children.push(child);
    }
    world.at("2025-12-10T09:00:00Z");
    let names: Vec<&str> = world.children.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["t2", "t3", "t4", "t8"]);
    let status = world.cron.status.as_ref().unwrap();
    assert_eq!(status.last_successful_time, Some(Time(t("2025-12-04T09:00:00Z"))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whoever looks at whatever times and dies after whatever write: each run that was due is created once.
    #[test]
    fn never_twice_and_never_lost(
        looks in proptest::collection::vec((0i64..400, 0usize..5), 1..60),
        ends in proptest::collection::vec(any::<bool>(), 60),
        history in 0i32..3,
    ) {
        let mut world = World::new("2026-01-01T00:00:00Z", |s| {
            s.schedule = "*/5 * * * *".to_owned();
            s.catch_up = Some(CatchUp::All);
            s.concurrency_policy = Some(ConcurrencyPolicy::Allow);
            s.successful_tasks_history_limit = Some(history);
        });
        let start = t("2026-01-01T00:00:00Z");
        let mut now = start;
        let mut created = Vec::new();
        for ((seconds, writes), ends) in looks.into_iter().zip(ends) {
            now += SignedDuration::from_secs(seconds);
            created.extend(world.step(now, writes));
            if ends {
                world.end(&now.to_string(), TaskPhase::Completed);
            }
        }
        created.extend(world.step(now, usize::MAX));
        let due = now.duration_since(start).as_secs() / 300;
        let expect: Vec<String> =
            (1..=due).map(|n| format!("daily-report-{}", start.as_second() + n * 300)).collect();
        prop_assert_eq!(created, expect);
    }

    /// Under Forbid no two run at a time, whatever is missed and made up for.
    #[test]
    fn never_two_at_a_time(
        looks in proptest::collection::vec((0i64..4000, 0usize..5, any::<bool>()), 1..60),
        all in any::<bool>(),
        deadline in proptest::option::of(0i64..2000),
    ) {
        let mut world = World::new("2026-01-01T00:00:00Z", |s| {
            s.schedule = "*/5 * * * *".to_owned();
            s.catch_up = all.then_some(CatchUp::All);
            s.starting_deadline_seconds = deadline;
        });
        let mut now = t("2026-01-01T00:00:00Z");
        for (seconds, writes, ends) in looks {
            now += SignedDuration::from_secs(seconds);
            world.step(now, writes);
            prop_assert!(world.children.iter().filter(|c| c.is_open()).count() <= 1);
            if ends {
                world.end(&now.to_string(), TaskPhase::Completed);
            }
        }
    }
}
