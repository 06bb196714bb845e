//! BatchRuns lived through.

use kubetask_api::{BatchRunSpec, Context};
use proptest::prelude::*;

use super::*;

struct World {
    run: BatchRun,
    children: Vec<Child>,
    uids: usize,
}

impl World {
    fn new(targets: usize, max: Option<i32>) -> Self {
        let batch = BatchSpec {
            common_context: vec![Context::inline("/workspace/task.md", "common")],
            variable_contexts: (0..targets)
                .map(|i| vec![Context::inline("/workspace/target", i.to_string())])
                .collect(),
            agent_ref: Some("claude".to_owned()),
        };
        let spec = BatchRunSpec { batch_spec: Some(batch), max_parallelism: max, ..BatchRunSpec::default() };
        Self { run: BatchRun::new("spring", spec), children: vec![], uids: 0 }
    }

    /// Plans and carries everything out; tells how many Tasks were created.
    fn step(&mut self) -> usize {
        let now = Timestamp::from_second(1000).unwrap();
        let first = plan(now, &self.run, None, &self.children, None);
        for child in first.delete {
            self.children.iter_mut().find(|c| c.uid == child.uid).unwrap().going = true;
        }
        let created = first.create.len();
        for new in first.create {
            self.uids += 1;
            self.children.push(Child { uid: self.uids.to_string(), ..Child::of(&new.task) });
        }
        let second = plan(now, &self.run, None, &self.children, None);
        assert_eq!(second.create, vec![]);
        if let Some(status) = second.status {
            self.run.status = Some(status);
        }
        let third = plan(now, &self.run, None, &self.children, None);
        assert_eq!((third.create, third.status, third.events), (vec![], None, vec![]), "planned twice");
        created
    }

    /// What is being deleted is gone.
    fn collect(&mut self) {
        self.children.retain(|c| !c.going);
    }

    fn end(&mut self, name: &str, phase: TaskPhase) {
        self.children.iter_mut().find(|c| c.name == name).unwrap().phase = phase;
    }

    fn line(&self) -> String {
        let status = self.run.status.as_ref().unwrap();
        let p = status.progress.unwrap();
        format!("{:?} {} {}/{}/{}/{}", status.phase.unwrap(), p.total, p.pending, p.running, p.completed, p.failed)
    }
}

#[test]
fn so_many_at_a_time() {
    let mut world = World::new(3, Some(2));
    assert_eq!(world.step(), 2);
    assert_eq!(world.step(), 0);
    world.end("spring-0", TaskPhase::Running);
    world.step();
    assert_eq!(world.line(), "Running 3 2/1/0/0");
    world.end("spring-0", TaskPhase::Completed);
    assert_eq!(world.step(), 1);
    world.end("spring-1", TaskPhase::Failed);
    world.end("spring-2", TaskPhase::Completed);
    world.step();
    assert_eq!(world.line(), "Failed 3 0/0/2/1");
    assert_eq!(world.run.status.as_ref().unwrap().failed_tasks, ["spring-1"]);
    assert_eq!(world.step(), 0);
}

#[test]
fn each_task_has_the_common_contexts_and_its_own() {
    let world = World::new(3, Some(2));
    let plan = plan(Timestamp::UNIX_EPOCH, &world.run, None, &[], None);
    let task = &plan.create[1].task;
    assert_eq!(task.metadata.name.as_deref(), Some("spring-1"));
    assert_eq!(task.metadata.labels.as_ref().unwrap()[labels::BATCHRUN], "spring");
    assert_eq!(
        task.spec.contexts,
        [Context::inline("/workspace/task.md", "common"), Context::inline("/workspace/target", "1")]
    );
    assert_eq!(task.spec.agent_ref.as_deref(), Some("claude"));
}

#[test]
fn finished_tasks_that_are_gone_are_not_run_again() {
    let mut world = World::new(2, Some(1));
    world.step();
    world.end("spring-0", TaskPhase::Completed);
    world.step();
    world.children.remove(0);
    assert_eq!(world.step(), 0);
    world.end("spring-1", TaskPhase::Completed);
    world.step();
    world.children.clear();
    assert_eq!(world.step(), 0);
    assert_eq!(world.line(), "Completed 2 0/0/2/0");
}

#[test]
fn pause() {
    let mut world = World::new(2, None);
    world.run.metadata.annotations = Some([(labels::PAUSE.to_owned(), "true".to_owned())].into());
    assert_eq!(world.step(), 0);
    assert_eq!(world.line(), "Paused 2 2/0/0/0");
    world.run.metadata.annotations = None;
    assert_eq!(world.step(), 2);
}

#[test]
fn retry_runs_again_what_failed() {
    let mut world = World::new(2, None);
    world.step();
    world.end("spring-0", TaskPhase::Completed);
    world.end("spring-1", TaskPhase::Failed);
    world.step();
    assert_eq!(world.line(), "Failed 2 0/0/1/1");
    world.run.metadata.annotations = Some([(labels::RETRY.to_owned(), "1".to_owned())].into());
    // Its name is free only when it is gone; until then it does not count as failed.
    assert_eq!(world.step(), 0);
    assert_eq!(world.line(), "Running 2 1/0/1/0");
    assert_eq!(world.run.status.as_ref().unwrap().completion_time, None);
    world.collect();
    assert_eq!(world.step(), 1);
    assert_eq!(world.line(), "Running 2 1/0/1/0");
    world.end("spring-1", TaskPhase::Completed);
    world.step();
    assert_eq!(world.line(), "Completed 2 0/0/2/0");
}

#[test]
fn retry_of_nothing_changes_nothing() {
    let mut world = World::new(1, None);
    world.step();
    world.end("spring-0", TaskPhase::Completed);
    world.step();
    let before = world.run.status.clone().unwrap();
    world.run.metadata.annotations = Some([(labels::RETRY.to_owned(), "1".to_owned())].into());
    world.step();
    let after = world.run.status.clone().unwrap();
    assert_eq!(BatchRunStatus { last_retry: None, ..after }, before);
}

#[test]
fn a_run_that_ended_stays_as_it_is() {
    let mut world = World::new(1, None);
    world.step();
    world.end("spring-0", TaskPhase::Failed);
    world.step();
    world.run.spec.batch_spec.as_mut().unwrap().variable_contexts.push(vec![]);
    world.children.clear();
    assert_eq!(world.step(), 0);
    assert_eq!(world.line(), "Failed 1 0/0/0/1");
    world.run.metadata.annotations = Some([(labels::RETRY.to_owned(), "1".to_owned())].into());
    assert_eq!(world.step(), 2);
}

#[test]
fn a_task_that_is_refused_is_told_and_tried_again() {
    let mut world = World::new(2, None);
    let refused = plan(Timestamp::UNIX_EPOCH, &world.run, None, &[], Some("exceeded quota"));
    assert_eq!((refused.create, refused.events.len()), (vec![], 1));
    world.run.status = refused.status;
    assert_eq!(world.run.status.as_ref().unwrap().conditions[0].reason, reasons::TASK_REJECTED);
    let again = plan(Timestamp::UNIX_EPOCH, &world.run, None, &[], Some("exceeded quota"));
    assert_eq!((again.status, again.events), (None, vec![]));
    assert_eq!(world.step(), 2);
    assert_eq!(world.run.status.as_ref().unwrap().conditions[0].reason, reasons::ACCEPTED);
}

#[test]
fn a_batch_that_goes_while_its_run_is_under_way() {
    let mut world = World::new(2, Some(1));
    let batch = world.run.spec.batch_spec.take().unwrap();
    world.run.spec.batch_ref = Some("b".to_owned());
    let now = Timestamp::UNIX_EPOCH;
    let begun = plan(now, &world.run, Some(&batch), &[], None);
    world.children.push(Child::of(&begun.create[0].task));
    world.run.status = begun.status;
    world.end("spring-0", TaskPhase::Completed);
    world.step();
    assert_eq!(world.line(), "Running 2 1/0/1/0");
    assert_eq!(world.run.status.as_ref().unwrap().conditions[0].reason, reasons::BATCH_NOT_FOUND);
}

#[test]
fn a_batch_that_is_missing_is_waited_for() {
    let spec = BatchRunSpec { batch_ref: Some("later".to_owned()), ..BatchRunSpec::default() };
    let run = BatchRun::new("r", spec);
    let plan = plan(Timestamp::UNIX_EPOCH, &run, None, &[], None);
    let status = plan.status.unwrap();
    assert_eq!(status.conditions[0].reason, "BatchNotFound");
    assert_eq!(status.phase, Some(BatchPhase::Pending));
}

proptest! {
    /// Whatever ends, goes, is paused and retried: never too many at a time, every sum is right, and at last each
    /// target has completed once.
    #[test]
    fn progress_is_right_at_every_moment(
        targets in 1usize..12,
        max in 1i32..5,
        steps in proptest::collection::vec((0u8..7, 0usize..12), 0..80),
    ) {
        let mut world = World::new(targets, Some(max));
        let mut retries = 0;
        let mut completed = BTreeSet::new();
        for (what, which) in steps {
            let open: Vec<String> =
                world.children.iter().filter(|c| c.is_open()).map(|c| c.name.clone()).collect();
            let one = open.get(which % open.len().max(1)).cloned();
            let mut note = |key: &str, value: String| {
                world.run.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value);
            };
            match (what, one) {
                (0, Some(one)) => world.end(&one, TaskPhase::Running),
                (1, Some(one)) => {
                    prop_assert!(completed.insert(one.clone()), "{one} ran again");
                    world.end(&one, TaskPhase::Completed);
                }
                (2, Some(one)) => world.end(&one, TaskPhase::Failed),
                (3, _) => {
                    retries += 1;
                    note(labels::RETRY, retries.to_string());
                }
                (4, _) => note(labels::PAUSE, (which % 2 == 0).to_string()),
                (5, _) => world.collect(),
                // What ended and was told may go.
                (6, _) if world.run.status.is_some() => world.children.retain(|c| c.phase != TaskPhase::Completed),
                _ => {}
            }
            world.step();
            let p = world.run.status.as_ref().unwrap().progress.unwrap();
            prop_assert_eq!(usize::try_from(p.total).unwrap(), targets);
            prop_assert_eq!(p.total, p.pending + p.running + p.completed + p.failed);
            prop_assert_eq!(usize::try_from(p.completed).unwrap(), completed.len());
            let open = world.children.iter().filter(|c| c.is_open()).count();
            prop_assert!(open <= usize::try_from(max).unwrap());
        }
        world.run.metadata.annotations = None;
        for round in 0..4 * targets {
            world.collect();
            world.run.metadata.annotations = Some([(labels::RETRY.to_owned(), format!("last {round}"))].into());
            world.step();
            for child in world.children.iter_mut().filter(|c| c.is_open()) {
                prop_assert!(completed.insert(child.name.clone()), "{} ran again", child.name);
                child.phase = TaskPhase::Completed;
            }
            world.step();
        }
        prop_assert_eq!(world.line(), format!("Completed {targets} 0/0/{targets}/0"));
    }
}
