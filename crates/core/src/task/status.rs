//! Writing a Task's status: [`Draft`] starts from what stands there, so that what did not change is not written again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kubetask_api::{Task, TaskPhase, TaskStatus, conditions, reasons};

use super::{EventNote, Plan, Waiting, agent_name, ownership};
use crate::cluster;

/// Kubernetes keeps times in whole seconds.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A status in the making.
pub(super) struct Draft<'a> {
    task: &'a Task,
    now: Time,
    pub status: TaskStatus,
}

impl<'a> Draft<'a> {
    pub(super) fn new(now: Timestamp, task: &'a Task) -> Self {
        let mut status = task.status.clone().unwrap_or_default();
        status.agent = Some(agent_name(task).to_owned());
        status.observed_generation = task.metadata.generation;
        Self { task, now: Time(now), status }
    }

    fn set(&mut self, type_: &str, status: bool, reason: &str, message: impl Into<String>) {
        let generation = self.task.metadata.generation;
        conditions::set(&mut self.status.conditions, &self.now, generation, (type_, status, reason), message);
    }

    /// The spec is sound.
    pub(super) fn accept(&mut self, reason: &str, message: &str) {
        self.set(conditions::ACCEPTED, true, reason, message);
    }

    /// Everything referred to is there.
    pub(super) fn resolved(&mut self) {
        self.set(conditions::CONTEXTS_RESOLVED, true, reasons::RESOLVED, "everything the contexts refer to is there");
    }

    fn admitted(&mut self) {
        self.set(conditions::ADMITTED, true, reasons::ADMITTED, "nothing holds the Task back");
    }

    /// A Job exists, so the Task was accepted, whatever became of its Agent since.
    pub(super) fn has_job(&mut self, job: &str) {
        if !conditions::is_true(&self.status.conditions, conditions::ACCEPTED) {
            self.accept(reasons::ACCEPTED, "the Job exists");
        }
        if !conditions::is_true(&self.status.conditions, conditions::CONTEXTS_RESOLVED) {
            self.resolved();
        }
        self.status.job_name = Some(job.to_owned());
    }

    /// The Job is about to be created.
    pub(super) fn job_created(&mut self, name: String, waiting: &Waiting) {
        self.status.job_name = Some(name);
        self.wait(std::slice::from_ref(waiting));
    }

    /// Says what the Task waits for: each condition tells all that concerns it.
    pub(super) fn wait(&mut self, why: &[Waiting]) {
        self.status.queue_position = None;
        for waiting in why {
            if let Waiting::AgentBusy { position, .. } = waiting {
                let position = shown_position(self.task.status.as_ref().and_then(|s| s.queue_position), *position);
                self.status.queue_position = Some(position);
            }
        }
        // What waits for its Pod was admitted.
        if why.iter().all(|w| w.condition() == conditions::RUNNING) {
            self.admitted();
        }
        for type_ in [conditions::ACCEPTED, conditions::CONTEXTS_RESOLVED, conditions::ADMITTED, conditions::RUNNING] {
            let mut concerned = why.iter().filter(|w| w.condition() == type_);
            let Some(first) = concerned.next() else { continue };
            let mut message = self.message_of(first);
            for next in concerned {
                message.push_str("; ");
                message.push_str(&next.to_string());
            }
            self.set(type_, false, first.reason(), message);
        }
    }

    /// A waiting's words; those that would change without news stay as they stand.
    fn message_of(&self, waiting: &Waiting) -> String {
        let stands = conditions::find(&self.status.conditions, waiting.condition())
            .filter(|c| c.status == "False" && c.reason == waiting.reason());
        match (waiting, stands) {
            // "Back-off pulling image" says less than the error before it.
            (Waiting::ImagePull { said, .. }, Some(stands)) if said.starts_with("Back-off") => stands.message.clone(),
            (Waiting::AgentBusy { agent, limit, position }, _) => {
                let shown = self.status.queue_position.and_then(|p| usize::try_from(p).ok()).unwrap_or(*position);
                Waiting::AgentBusy { agent: agent.clone(), limit: *limit, position: shown }.to_string()
            }
            _ => waiting.to_string(),
        }
    }

    /// The agent runs; or it has ended, and its container stays for so many seconds for a person.
    pub(super) fn running(&mut self, since: Option<Timestamp>, human: Option<&str>) {
        self.admitted();
        self.status.start_time.get_or_insert_with(|| since.map_or_else(|| self.now.clone(), Time));
        let Some(seconds) = human else {
            return self.set(conditions::RUNNING, true, reasons::RUNNING, "the agent runs");
        };
        let (namespace, name) = (ownership::namespace(self.task), ownership::name(self.task));
        if cluster::recorded(self.task).is_some() {
            let message = format!(
                "the agent ended, and its container on the other cluster stays for {seconds} seconds: enter it there as \
                 the end of its log says (kubetask logs -n {namespace} {name}), end it with kubetask stop -n \
                 {namespace} {name}"
            );
            return self.set(conditions::RUNNING, true, reasons::WAITING_FOR_HUMAN, message);
        }
        let message = format!(
            "the agent ended, and its container stays for {seconds} seconds: enter it with kubetask exec -n {namespace} \
             -it {name} -- sh, end it with kubetask stop -n {namespace} {name}"
        );
        self.set(conditions::RUNNING, true, reasons::WAITING_FOR_HUMAN, message);
    }

    fn finish(&mut self, at: Timestamp) {
        self.status.queue_position = None;
        self.status.completion_time = Some(Time(whole_seconds(at)));
        if self.status.start_time.is_some() {
            self.set(conditions::RUNNING, false, reasons::FINISHED, "the agent ended");
        } else {
            self.status.conditions.retain(|c| c.type_ != conditions::RUNNING);
        }
    }

    /// The agent did its work.
    pub(super) fn complete(&mut self, message: &str, at: Timestamp) {
        self.finish(at);
        self.set(conditions::COMPLETE, true, reasons::COMPLETED, message);
    }

    /// The Task failed.
    pub(super) fn fail(&mut self, reason: &str, message: impl Into<String>, at: Timestamp) {
        self.finish(at);
        self.set(conditions::FAILED, true, reason, message);
    }

    /// The status, where it is new, and the Event that tells of it.
    pub(super) fn into_plan(self) -> Plan {
        let Self { task, mut status, .. } = self;
        let phase = phase(&status.conditions, status.start_time.is_some());
        status.phase = Some(phase);
        let decides = deciding(&status.conditions);
        status.reason = decides.map(|c| c.reason.clone());
        status.message = decides.map(|c| c.message.clone());
        let old = task.status.as_ref();
        if old == Some(&status) {
            return Plan::default();
        }
        let told = old.is_some_and(|o| o.reason == status.reason && o.phase == status.phase);
        let events = if told { Vec::new() } else { event(&status).into_iter().collect() };
        Plan { status: Some(status), events, ..Plan::default() }
    }
}

/// The Event that tells of a status.
fn event(status: &TaskStatus) -> Option<EventNote> {
    let decides = deciding(&status.conditions)?;
    let reason = reasons::ALL.iter().map(|(word, _)| *word).find(|word| *word == decides.reason)?;
    let phase = status.phase.unwrap_or_default();
    let harmless = [reasons::JOB_CREATED, reasons::SUSPENDED, reasons::AGENT_BUSY, reasons::RETRYING];
    let message = match (reason, &status.job_name) {
        (reasons::JOB_CREATED, Some(job)) => format!("created Job {job}"),
        _ => decides.message.clone(),
    };
    let warning = match phase {
        TaskPhase::Failed => true,
        TaskPhase::Pending => !harmless.contains(&reason),
        TaskPhase::Running => decides.status == "False" && !harmless.contains(&reason),
        TaskPhase::Completed => false,
    };
    Some(EventNote { warning, reason, message })
}

/// The phase that conditions amount to. A Task that is being retried still runs.
fn phase(all: &[Condition], started: bool) -> TaskPhase {
    if conditions::is_true(all, conditions::FAILED) {
        TaskPhase::Failed
    } else if conditions::is_true(all, conditions::COMPLETE) {
        TaskPhase::Completed
    } else if conditions::is_true(all, conditions::ADMITTED)
        && (started || conditions::is_true(all, conditions::RUNNING))
    {
        TaskPhase::Running
    } else {
        TaskPhase::Pending
    }
}

/// The condition that explains the phase: how it ended, else what it waits for, else that it runs.
pub(super) fn deciding(all: &[Condition]) -> Option<&Condition> {
    let ended = [conditions::FAILED, conditions::COMPLETE]
        .into_iter()
        .find_map(|type_| conditions::find(all, type_).filter(|c| c.status == "True"));
    let waits = || {
        [conditions::ACCEPTED, conditions::CONTEXTS_RESOLVED, conditions::ADMITTED, conditions::RUNNING]
            .into_iter()
            .find_map(|type_| conditions::find(all, type_).filter(|c| c.status == "False"))
    };
    ended.or_else(waits).or_else(|| conditions::find(all, conditions::RUNNING))
}

/// The position that is shown. Far back in a queue a small step forward is not news: ten thousand Tasks would all be
/// written whenever one starts.
fn shown_position(shown: Option<i32>, position: usize) -> i32 {
    let position = i32::try_from(position).unwrap_or(i32::MAX);
    match shown {
        Some(shown) if position > 10 && shown >= position && (shown - position) * 10 < shown => shown,
        _ => position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_far_back_change_in_steps() {
        assert_eq!(shown_position(None, 500), 500);
        assert_eq!(shown_position(Some(500), 499), 500);
        assert_eq!(shown_position(Some(500), 450), 450);
        assert_eq!(shown_position(Some(500), 501), 501);
        assert_eq!(shown_position(Some(11), 10), 10);
        assert_eq!(shown_position(Some(3), 2), 2);
    }
}
