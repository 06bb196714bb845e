//! What a BatchRun wants done now: [`plan`].
//!
//! The status remembers by index which Tasks ended, so that they are not run again when they are gone. A run that has
//! ended stays as it is, whatever becomes of its Batch; only a retry opens it again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kubetask_api::batchrun::{BatchPhase, BatchProgress};
use kubetask_api::{BatchRun, BatchRunStatus, BatchSpec, Task, TaskPhase, TaskSpec, conditions, labels, reasons};

use super::Indexes;
use crate::child::{Child, Maker, MakerKind, NewTask};
use crate::names;
use crate::task::EventNote;

/// How many names of failed Tasks the status holds.
const FAILED_NAMES: usize = 100;

/// What a BatchRun wants done now, in this order: delete, create, status. Plan again after creating: the status of the
/// second plan counts what was created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchPlan {
    /// Failed Tasks that are to be run again. Each counts as going from then on.
    pub delete: Vec<Child>,
    /// Tasks to create.
    pub create: Vec<NewTask>,
    /// The whole new status; `None` when it is as it should be.
    pub status: Option<BatchRunStatus>,
    /// What to tell when the status is written.
    pub events: Vec<EventNote>,
}

/// What shall be done for a BatchRun. `batch` is what `batchRef` names, where it exists; `children` are the Tasks it
/// made; `refused` is what the server said when it did not take the next one.
pub fn plan(
    now: Timestamp,
    run: &BatchRun,
    batch: Option<&BatchSpec>,
    children: &[Child],
    refused: Option<&str>,
) -> BatchPlan {
    if run.metadata.deletion_timestamp.is_some() {
        return BatchPlan::default();
    }
    let mut work = Work::new(now, run, children, refused);
    work.retry();
    if work.status.completion_time.is_none() {
        work.count();
        match run.spec.batch_spec.as_ref().or(batch) {
            Some(batch) => work.run(batch),
            None => work.batch_missing(),
        }
    }
    work.finish()
}

struct Work<'a> {
    now: Timestamp,
    run: &'a BatchRun,
    /// Tasks by index.
    children: BTreeMap<usize, Child>,
    refused: Option<&'a str>,
    completed: Indexes,
    failed: Indexes,
    status: BatchRunStatus,
    plan: BatchPlan,
}

impl<'a> Work<'a> {
    fn new(now: Timestamp, run: &'a BatchRun, children: &'a [Child], refused: Option<&'a str>) -> Self {
        let mut status = run.status.clone().unwrap_or_default();
        status.observed_generation = run.metadata.generation;
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default());
        let (completed, failed) = (read(&status.completed_indexes), read(&status.failed_indexes));
        let children = children.iter().filter_map(|child| Some((child.index?, child.clone()))).collect();
        Self { now, run, children, refused, completed, failed, status, plan: BatchPlan::default() }
    }

    fn name(&self) -> &'a str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    fn child_name(&self, index: usize) -> String {
        let suffix = index.to_string();
        format!("{}-{suffix}", names::shorten(self.name(), names::NAME_MAX - suffix.len() - 1))
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        self.run.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn condition(&mut self, type_: &str, status: bool, reason: &str, message: String) {
        let generation = self.run.metadata.generation;
        conditions::set(&mut self.status.conditions, &Time(self.now), generation, (type_, status, reason), message);
    }

    /// Something stands in the way until somebody changes it: told once.
    fn trouble(&mut self, reason: &'static str, message: String) {
        let old = self.run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if conditions::find(old, conditions::ACCEPTED)
            .is_none_or(|c| (c.reason.as_str(), &c.message) != (reason, &message))
        {
            self.plan.events.push(EventNote { warning: true, reason, message: message.clone() });
        }
        self.condition(conditions::ACCEPTED, false, reason, message);
    }

    /// A new value of the retry annotation runs again what failed.
    fn retry(&mut self) {
        let Some(value) = self.annotation(labels::RETRY).filter(|v| !v.is_empty()) else { return };
        if self.status.last_retry.as_deref() == Some(value) {
            return;
        }
        self.status.last_retry = Some(value.to_owned());
        for child in self.children.values_mut().filter(|c| c.phase == TaskPhase::Failed && !c.going) {
            self.plan.delete.push(child.clone());
            // Its name is free only when it is gone.
            child.going = true;
        }
        if self.plan.delete.is_empty() && self.failed.0.is_empty() {
            return;
        }
        self.failed = Indexes::default();
        self.status.completion_time = None;
        self.status.conditions.retain(|c| c.type_ == conditions::ACCEPTED);
    }

    /// Takes over which Tasks have ended.
    fn count(&mut self) {
        for (index, child) in &self.children {
            match child.phase {
                TaskPhase::Completed => drop(self.completed.0.insert(*index)),
                // One that goes is to be run again.
                TaskPhase::Failed if !child.going => drop(self.failed.0.insert(*index)),
                TaskPhase::Failed | TaskPhase::Pending | TaskPhase::Running => {}
            }
        }
        self.failed.0.retain(|index| !self.completed.0.contains(index));
    }

    fn batch_missing(&mut self) {
        let name = self.run.spec.batch_ref.as_deref().unwrap_or_default();
        let message = format!("Batch \"{name}\" does not exist; the BatchRun goes on when it is created");
        self.trouble(reasons::BATCH_NOT_FOUND, message);
        let total = self.status.progress.map_or(0, |p| usize::try_from(p.total).unwrap_or(0));
        if total > 0 {
            self.sum_up(total);
        } else {
            self.status.phase = Some(BatchPhase::Pending);
        }
    }

    fn run(&mut self, batch: &BatchSpec) {
        let total = batch.variable_contexts.len();
        self.completed.0.retain(|index| *index < total);
        self.failed.0.retain(|index| *index < total);
        if let Some(said) = self.refused {
            self.trouble(reasons::TASK_REJECTED, format!("the next Task was refused: {said}"));
        } else {
            self.condition(conditions::ACCEPTED, true, reasons::ACCEPTED, "the Batch is there".to_owned());
            if !self.is_paused() {
                self.create(batch);
            }
        }
        self.sum_up(total);
    }

    fn is_paused(&self) -> bool {
        self.annotation(labels::PAUSE) == Some("true")
    }

    /// As many Tasks as may run, in order.
    fn create(&mut self, batch: &BatchSpec) {
        let open = self.children.values().filter(|c| c.is_open()).count();
        let limit = self.run.spec.max_parallelism.and_then(|m| usize::try_from(m).ok()).unwrap_or(usize::MAX);
        let ended: BTreeSet<usize> = self.completed.0.union(&self.failed.0).copied().collect();
        let wanted =
            (0..batch.variable_contexts.len()).filter(|i| !self.children.contains_key(i) && !ended.contains(i));
        self.plan.create = wanted.take(limit.saturating_sub(open)).map(|index| self.child(batch, index)).collect();
    }

    fn child(&self, batch: &BatchSpec, index: usize) -> NewTask {
        let template = self.run.spec.task_template.clone().and_then(|t| t.metadata).unwrap_or_default();
        let (mut task_labels, mut annotations) = (template.labels, template.annotations);
        task_labels.insert(labels::BATCHRUN.to_owned(), names::label_value(self.name()));
        annotations.extend(names::full_name_annotation(labels::BATCHRUN, self.name()));
        annotations.insert(labels::BATCH_INDEX.to_owned(), index.to_string());
        let name = self.child_name(index);
        let variable = batch.variable_contexts.get(index).cloned().unwrap_or_default();
        let contexts = batch.common_context.iter().cloned().chain(variable).collect();
        let spec = TaskSpec { contexts, agent_ref: batch.agent_ref.clone(), ..TaskSpec::default() };
        let mut task = Task::new(&name, spec);
        task.metadata = ObjectMeta {
            name: Some(name),
            namespace: self.run.metadata.namespace.clone(),
            labels: Some(task_labels),
            annotations: Some(annotations),
            owner_references: Some(vec![Maker::reference(MakerKind::BatchRun, &self.run.metadata)]),
            ..ObjectMeta::default()
        };
        let message = format!("Created Task {}", self.child_name(index));
        NewTask { task, note: EventNote { warning: false, reason: reasons::TASK_CREATED, message } }
    }

    fn sum_up(&mut self, total: usize) {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let running = self.children.iter().filter(|(i, c)| **i < total && c.phase == TaskPhase::Running).count();
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
        self.status.failed_tasks = self.failed.0.iter().take(FAILED_NAMES).map(|i| self.child_name(*i)).collect();
        let begun = !self.children.is_empty() || !self.plan.create.is_empty() || completed + failed > 0;
        if begun && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
        let phase = if completed + failed >= total {
            if failed > 0 { BatchPhase::Failed } else { BatchPhase::Completed }
        } else if self.is_paused() {
            BatchPhase::Paused
        } else if begun {
            BatchPhase::Running
        } else {
            BatchPhase::Pending
        };
        self.status.phase = Some(phase);
        match phase {
            BatchPhase::Completed => {
                self.ended(conditions::COMPLETE, reasons::COMPLETED, format!("all {total} Tasks completed"));
            }
            BatchPhase::Failed => {
                let name = self.name();
                let message =
                    format!("{failed} of {total} Tasks failed; run them again with: kubetask batch retry {name}");
                self.ended(conditions::FAILED, reasons::TASKS_FAILED, message);
            }
            BatchPhase::Pending | BatchPhase::Paused | BatchPhase::Running => {}
        }
    }

    fn ended(&mut self, condition: &str, reason: &'static str, message: String) {
        self.status.completion_time = Some(Time(self.now));
        let warning = condition == conditions::FAILED;
        self.plan.events.push(EventNote { warning, reason, message: message.clone() });
        self.condition(condition, true, reason, message);
    }

    fn finish(mut self) -> BatchPlan {
        if self.run.status.as_ref() != Some(&self.status) {
            self.plan.status = Some(self.status);
        }
        self.plan
    }
}

#[cfg(test)]
mod tests;
