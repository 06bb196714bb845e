//! Ending containers: preStop hook, grace period, kill; sidecars after the rest.

use std::time::Duration;

use jiff::Timestamp;

use super::event::{Command, Hook};
use super::slot::{Kind, State, Stopping};
use super::{Machine, after, emit};

/// A container whose preStop hook used up the grace period still gets this long.
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl Machine {
    /// Ends everything that runs: sidecars once the others are over, within the same grace period.
    pub(super) fn stop_all(&mut self, now: Timestamp, grace: Duration, out: &mut Vec<Command>) {
        let since = *self.stopping_since.get_or_insert(now);
        let others = self.slots.iter().any(|slot| slot.kind != Kind::Sidecar && slot.active());
        for index in (0..self.slots.len()).rev() {
            let slot = &self.slots[index];
            if !slot.active() || (others && slot.kind == Kind::Sidecar) {
                continue;
            }
            let spent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            let grace = if slot.kind == Kind::Sidecar { grace.saturating_sub(spent) } else { grace };
            self.stop(index, now, grace, None, out);
        }
    }

    /// Ends one container; asking again can only shorten its time.
    pub(super) fn stop(
        &mut self,
        index: usize,
        now: Timestamp,
        grace: Duration,
        message: Option<String>,
        out: &mut Vec<Command>,
    ) {
        let slot = &mut self.slots[index];
        let Some(attempt) = slot.attempt else { return };
        let deadline = after(now, grace);
        match (&slot.state, &mut slot.stopping) {
            (State::Starting { .. }, None) => {
                slot.stopping = Some(Stopping { deadline, hooking: false, killed: false });
                out.push(Command::CancelStart { slot: index, attempt });
            }
            (State::Running { .. }, Some(stop)) if (stop.killed || stop.hooking) && deadline >= stop.deadline => {}
            (State::Running { .. }, Some(stop)) if stop.killed || stop.hooking => {
                stop.deadline = deadline;
                if stop.killed {
                    out.push(Command::Kill { slot: index, attempt, grace });
                }
            }
            (State::Running { .. }, _) => {
                let hook = slot.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()).is_some();
                let hooking = hook && !grace.is_zero();
                slot.stopping = Some(Stopping { deadline, hooking, killed: !hooking });
                let message = message.unwrap_or_else(|| format!("Stopping container {}", slot.spec.name));
                emit(out, index, "Killing", message);
                out.push(if hooking {
                    Command::Hook { slot: index, attempt, hook: Hook::PreStop, timeout: grace }
                } else {
                    Command::Kill { slot: index, attempt, grace }
                });
            }
            _ => {}
        }
    }

    pub(super) fn hook_done(
        &mut self,
        index: usize,
        now: Timestamp,
        hook: Hook,
        result: Result<(), String>,
        out: &mut Vec<Command>,
    ) {
        let failed = |out: &mut Vec<Command>, reason, message: String| {
            out.push(Command::Emit { warning: true, reason, message, slot: Some(index) });
        };
        match (hook, result) {
            (Hook::PostStart, Ok(())) => {
                self.slots[index].hooked = true;
                self.refresh_started(index);
            }
            // What a hook said is not told: it may be a secret.
            (Hook::PostStart, Err(_)) => {
                failed(out, "FailedPostStartHook", "PostStartHook failed".to_owned());
                let grace = self.grace();
                self.stop(index, now, grace, Some("FailedPostStartHook".to_owned()), out);
            }
            (Hook::PreStop, result) => {
                if result.is_err() {
                    failed(out, "FailedPreStopHook", "PreStopHook failed".to_owned());
                }
                self.kill_after_hook(index, now, out);
            }
        }
    }

    /// Kills what had its grace period used up by its preStop hook.
    pub(super) fn step_stops(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        for index in 0..self.slots.len() {
            if self.slots[index].stopping.as_ref().is_some_and(|stop| stop.hooking && stop.deadline <= now) {
                self.kill_after_hook(index, now, out);
            }
        }
    }

    fn kill_after_hook(&mut self, index: usize, now: Timestamp, out: &mut Vec<Command>) {
        let slot = &mut self.slots[index];
        let (Some(stop), Some(attempt)) = (&mut slot.stopping, slot.attempt) else { return };
        if stop.hooking && !stop.killed {
            stop.hooking = false;
            stop.killed = true;
            let left = Duration::try_from(stop.deadline.duration_since(now)).unwrap_or_default();
            out.push(Command::Kill { slot: index, attempt, grace: left.max(LEAST_GRACE) });
        }
    }
}
