//! What a BatchRun wants done now: [`plan`].

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kubetask_api::batchrun::{BatchPhase, BatchProgress};
use kubetask_api::{
    API_VERSION, BatchRun, BatchRunStatus, BatchSpec, Task, TaskPhase, TaskSpec, conditions, labels, reasons,
};

use super::Indexes;
use crate::names;
use crate::task::EventNote;

/// How many names of failed Tasks the status holds.
const FAILED_NAMES: usize = 100;

/// What a BatchRun wants done now, in this order: delete, create, status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchPlan {
    /// Failed Tasks that are to be run again.
    pub delete: Vec<String>,
    /// Tasks to create. AlreadyExists and owned by the BatchRun means done.
    pub create: Vec<Task>,
    /// The whole new status; `None` when it is as it should be.
    pub status: Option<BatchRunStatus>,
    /// What to tell.
    pub events: Vec<EventNote>,
}

/// What shall be done for a BatchRun. `batch` is what `batchRef` names (or `batchSpec`), where it exists; `children`
/// are the Tasks it owns.
pub fn plan(now: Timestamp, run: &BatchRun, batch: Option<&BatchSpec>, children: &[Arc<Task>]) -> BatchPlan {
    if run.metadata.deletion_timestamp.is_some() {
        return BatchPlan::default();
    }
    let mut work = Work::new(now, run, children);
    match run.spec.batch_spec.as_ref().or(batch) {
        Some(batch) => work.run(batch),
        None => work.batch_missing(),
    }
    work.finish()
}

struct Work<'a> {
    now: Timestamp,
    run: &'a BatchRun,
    /// Tasks by index.
    children: Vec<(usize, &'a Task)>,
    completed: Indexes,
    failed: Indexes,
    status: BatchRunStatus,
    plan: BatchPlan,
}

impl<'a> Work<'a> {
    fn new(now: Timestamp, run: &'a BatchRun, children: &'a [Arc<Task>]) -> Self {
        let mut status = run.status.clone().unwrap_or_default();
        status.observed_generation = run.metadata.generation;
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default());
        let (completed, failed) = (read(&status.completed_indexes), read(&status.failed_indexes));
        let index = |t: &Task| t.metadata.annotations.as_ref()?.get(labels::BATCH_INDEX)?.parse::<usize>().ok();
        let mut children: Vec<(usize, &Task)> = children.iter().filter_map(|t| Some((index(t)?, t.as_ref()))).collect();
        children.sort_by_key(|(index, _)| *index);
        Self { now, run, children, completed, failed, status, plan: BatchPlan::default() }
    }

    fn name(&self) -> &'a str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    fn condition(&mut self, type_: &str, status: bool, reason: &str, message: String) {
        let generation = self.run.metadata.generation;
        conditions::set(&mut self.status.conditions, &Time(self.now), generation, (type_, status, reason), message);
    }

    fn batch_missing(&mut self) {
        let name = self.run.spec.batch_ref.as_deref().unwrap_or_default();
        let message = format!("Batch \"{name}\" does not exist; the BatchRun goes on when it is created");
        self.status.phase = Some(BatchPhase::Pending);
        self.condition(conditions::ACCEPTED, false, reasons::BATCH_NOT_FOUND, message);
    }

    fn run(&mut self, batch: &BatchSpec) {
        self.condition(conditions::ACCEPTED, true, reasons::ACCEPTED, "the Batch is there".to_owned());
        self.retry();
        let deleted = self.plan.delete.clone();
        for (index, task) in &self.children {
            if task.metadata.name.as_ref().is_some_and(|name| deleted.contains(name)) {
                continue;
            }
            match task.phase() {
                TaskPhase::Completed => drop(self.completed.0.insert(*index)),
                TaskPhase::Failed => drop(self.failed.0.insert(*index)),
                TaskPhase::Pending | TaskPhase::Running => {}
            }
        }
        let total = batch.variable_contexts.len();
        let paused = self.annotation(labels::PAUSE) == Some("true");
        if !paused {
            self.create(batch);
        }
        self.sum_up(total, paused);
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        self.run.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// A new value of the retry annotation runs again what failed.
    fn retry(&mut self) {
        let Some(value) = self.annotation(labels::RETRY).filter(|v| !v.is_empty()) else { return };
        if self.status.last_retry.as_deref() == Some(value) {
            return;
        }
        let failed = self.children.iter().filter(|(_, t)| t.phase() == TaskPhase::Failed);
        self.plan.delete = failed.filter_map(|(_, t)| t.metadata.name.clone()).collect();
        self.failed = Indexes::default();
        self.status.last_retry = Some(value.to_owned());
        self.status.completion_time = None;
        self.status.conditions.retain(|c| c.type_ == conditions::ACCEPTED);
    }

    /// As many Tasks as may run, in order.
    fn create(&mut self, batch: &BatchSpec) {
        // A name that is being deleted is free only when the Task is gone.
        if !self.plan.delete.is_empty() {
            return;
        }
        let open = self.children.iter().filter(|(_, t)| !t.phase().is_finished()).count();
        let limit = self.run.spec.max_parallelism.and_then(|m| usize::try_from(m).ok()).unwrap_or(usize::MAX);
        let known: std::collections::BTreeSet<usize> = self.children.iter().map(|(index, _)| *index).collect();
        let wanted = (0..batch.variable_contexts.len())
            .filter(|i| !known.contains(i) && !self.completed.0.contains(i) && !self.failed.0.contains(i));
        let create: Vec<Task> = wanted.take(limit.saturating_sub(open)).map(|index| self.child(batch, index)).collect();
        self.plan.create = create;
    }

    fn child(&self, batch: &BatchSpec, index: usize) -> Task {
        let template = self.run.spec.task_template.clone().and_then(|t| t.metadata).unwrap_or_default();
        let (mut task_labels, mut annotations) = (template.labels, template.annotations);
        task_labels.insert(labels::BATCHRUN.to_owned(), names::label_value(self.name()));
        annotations.extend(names::full_name_annotation(labels::BATCHRUN, self.name()));
        annotations.insert(labels::BATCH_INDEX.to_owned(), index.to_string());
        let suffix = index.to_string();
        let name = format!("{}-{suffix}", names::shorten(self.name(), names::NAME_MAX - suffix.len() - 1));
        let variable = batch.variable_contexts.get(index).cloned().unwrap_or_default();
        let contexts = batch.common_context.iter().cloned().chain(variable).collect();
        let spec = TaskSpec { contexts, agent_ref: batch.agent_ref.clone(), ..TaskSpec::default() };
        let mut task = Task::new(&name, spec);
        task.metadata = ObjectMeta {
            name: Some(name),
            namespace: self.run.metadata.namespace.clone(),
            labels: Some(task_labels),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "BatchRun".to_owned(),
                name: self.name().to_owned(),
                uid: self.run.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        };
        task
    }

    fn sum_up(&mut self, total: usize, paused: bool) {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let running = self.children.iter().filter(|(_, t)| t.phase() == TaskPhase::Running).count();
        let (completed, failed) = (self.completed.0.len(), self.failed.0.len());
        let pending = total.saturating_sub(running + completed + failed);
        self.status.progress = Some(BatchProgress {
            total: count(total),
            pending: count(pending),
            running: count(running),
            completed: count(completed),
            failed: count(failed),
        });
        self.status.completed_indexes = self.completed.text();
        self.status.failed_indexes = self.failed.text();
        let prefix = self.name();
        self.status.failed_tasks = self
            .failed
            .0
            .iter()
            .take(FAILED_NAMES)
            .map(|index| {
                let suffix = index.to_string();
                format!("{}-{suffix}", names::shorten(prefix, names::NAME_MAX - suffix.len() - 1))
            })
            .collect();
        let begun = !self.children.is_empty() || !self.plan.create.is_empty() || completed + failed > 0;
        if begun && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
        let phase = if completed + failed >= total {
            if failed > 0 { BatchPhase::Failed } else { BatchPhase::Completed }
        } else if paused {
            BatchPhase::Paused
        } else if begun {
            BatchPhase::Running
        } else {
            BatchPhase::Pending
        };
        match phase {
            BatchPhase::Completed => {
                self.condition(conditions::COMPLETE, true, reasons::COMPLETED, format!("all {total} Tasks completed"));
            }
            BatchPhase::Failed => {
                let message =
                    format!("{failed} of {total} Tasks failed; run them again with: kubetask batch retry {prefix}");
                self.condition(conditions::FAILED, true, reasons::TASKS_FAILED, message);
            }
            BatchPhase::Pending | BatchPhase::Paused | BatchPhase::Running => {}
        }
        let ended = matches!(phase, BatchPhase::Completed | BatchPhase::Failed);
        if ended && self.status.completion_time.is_none() {
            self.status.completion_time = Some(Time(self.now));
        }
        if ended && self.run.status.as_ref().and_then(|s| s.phase) != Some(phase) {
            let condition = self.status.conditions.last().map(|c| c.message.clone()).unwrap_or_default();
            let (warning, reason) =
                if failed > 0 { (true, reasons::TASKS_FAILED) } else { (false, reasons::COMPLETED) };
            self.plan.events.push(EventNote { warning, reason, message: condition });
        }
        self.status.phase = Some(phase);
    }

    fn finish(mut self) -> BatchPlan {
        if self.run.status.as_ref() != Some(&self.status) {
            self.plan.status = Some(self.status);
        }
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use kubetask_api::{BatchRunSpec, Context, TaskStatus};

    use super::*;

    struct World {
        run: BatchRun,
        children: Vec<Arc<Task>>,
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
            Self { run: BatchRun::new("spring", spec), children: vec![] }
        }

        fn step(&mut self) -> usize {
            let now = Timestamp::from_second(1000).unwrap();
            let plan = plan(now, &self.run, None, &self.children);
            self.children.retain(|t| !plan.delete.contains(t.metadata.name.as_ref().unwrap()));
            let created = plan.create.len();
            self.children.extend(plan.create.into_iter().map(Arc::new));
            if let Some(status) = plan.status {
                self.run.status = Some(status);
            }
            created
        }

        fn end(&mut self, name: &str, phase: TaskPhase) {
            let task = self.children.iter_mut().find(|t| t.metadata.name.as_deref() == Some(name)).unwrap();
            Arc::make_mut(task).status = Some(TaskStatus { phase: Some(phase), ..TaskStatus::default() });
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
        let contexts = &world.children[0].spec.contexts;
        assert_eq!(contexts.len(), 2);
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
        assert_eq!(world.step(), 0);
        assert_eq!(world.step(), 1);
        assert_eq!(world.line(), "Running 2 1/0/1/0");
        world.end("spring-1", TaskPhase::Completed);
        world.step();
        assert_eq!(world.line(), "Completed 2 0/0/2/0");
    }

    #[test]
    fn a_batch_that_is_missing_is_waited_for() {
        let spec = BatchRunSpec { batch_ref: Some("later".to_owned()), ..BatchRunSpec::default() };
        let run = BatchRun::new("r", spec);
        let plan = plan(Timestamp::UNIX_EPOCH, &run, None, &[]);
        let status = plan.status.unwrap();
        assert_eq!(status.conditions[0].reason, "BatchNotFound");
        assert_eq!(status.phase, Some(BatchPhase::Pending));
    }
}
