//! The course of one run of a container: started, not started and why, ended.

use jiff::Timestamp;

use super::event::{Command, End, Hook, NotStarted};
use super::slot::{State, back_off};
use super::{Machine, after, emit, full_name};

impl Machine {
    pub(super) fn container_started(
        &mut self,
        index: usize,
        now: Timestamp,
        at: Timestamp,
        adopted: bool,
        out: &mut Vec<Command>,
    ) {
        let timeout = self.grace();
        let slot = &mut self.slots[index];
        slot.state = State::Running { since: at };
        slot.failures = 0;
        let hook = slot.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        slot.hooked = adopted || hook.is_none();
        if !adopted {
            emit(out, index, "Created", "Container created");
            emit(out, index, "Started", "Container started");
            if let (false, Some(attempt)) = (slot.hooked, slot.attempt) {
                out.push(Command::Hook { slot: index, attempt, hook: Hook::PostStart, timeout });
            }
        }
        self.begin_probes(index, now, at);
    }

    pub(super) fn container_not_started(
        &mut self,
        index: usize,
        now: Timestamp,
        why: NotStarted,
        out: &mut Vec<Command>,
    ) {
        let slot = &mut self.slots[index];
        slot.stopping = None;
        if why == NotStarted::Never {
            slot.state = State::Waiting { why: None };
            return;
        }
        let image = slot.spec.image.clone().unwrap_or_default();
        let wait = back_off(slot.failures);
        let repeated = slot.failures > 0;
        slot.failures += 1;
        let mut warn = |reason: &'static str, message: String| {
            out.push(Command::Emit { warning: true, reason, message, slot: Some(index) });
        };
        let (reason, message) = match why {
            NotStarted::Never => return,
            NotStarted::Start(message) => {
                warn("Failed", format!("Error: {message}"));
                let end = End {
                    code: 128,
                    signal: None,
                    reason: "StartError".to_owned(),
                    message: Some(message),
                    started_at: Timestamp::UNIX_EPOCH,
                    finished_at: now,
                };
                self.container_ended(index, end, out);
                return;
            }
            NotStarted::Config(message) => {
                warn("Failed", format!("Error: {message}"));
                ("CreateContainerConfigError", message)
            }
            NotStarted::Create(message) => {
                warn("Failed", format!("Error: {message}"));
                ("CreateContainerError", message)
            }
            NotStarted::InvalidImage(message) => {
                warn("InspectFailed", message.clone());
                warn("Failed", "Error: InvalidImageName".to_owned());
                ("InvalidImageName", message)
            }
            NotStarted::NeverPull(message) => {
                warn("ErrImageNeverPull", message.clone());
                warn("Failed", "Error: ErrImageNeverPull".to_owned());
                ("ErrImageNeverPull", message)
            }
            NotStarted::Pull(message) if repeated => {
                warn("Failed", "Error: ImagePullBackOff".to_owned());
                ("ImagePullBackOff", format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"))
            }
            NotStarted::Pull(message) => {
                warn("Failed", format!("Failed to pull image \"{image}\": {message}"));
                warn("Failed", "Error: ErrImagePull".to_owned());
                ("ErrImagePull", message)
            }
        };
        slot.state = State::Waiting { why: Some((reason, message)) };
        slot.retry_at = Some(after(now, wait));
    }

    pub(super) fn container_ended(&mut self, index: usize, end: End, out: &mut Vec<Command>) {
        let ended_on_purpose = self.ending.is_some() || self.gone;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let wait = slot.end(end);
        if wait.is_some() && !ended_on_purpose {
            let message =
                format!("Back-off restarting failed container {} in pod {}", slot.spec.name, full_name(&self.pod));
            out.push(Command::Emit { warning: true, reason: "BackOff", message, slot: Some(index) });
        }
    }
}
