//! Probes: when each is due, what its results decide.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;

use super::event::{Command, ProbeKind};
use super::slot::{ProbeState, Slot, State};
use super::{Machine, after};

impl Machine {
    /// Sets up the probes of a run that began.
    pub(super) fn begin_probes(&mut self, index: usize, now: Timestamp, since: Timestamp) {
        let slot = &mut self.slots[index];
        for (at, kind) in ProbeKind::ALL.into_iter().enumerate() {
            slot.probes[at] = slot.probe(kind).map(|probe| ProbeState {
                next: after(since, seconds(probe.initial_delay_seconds, 0)).max(now),
                in_flight: false,
                streak: 0,
                passed: None,
            });
        }
        self.refresh_started(index);
    }

    /// A run has started once its postStart hook is over and its startup probe passed.
    pub(super) fn refresh_started(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let probed = slot.probes[0].as_ref().is_none_or(|probe| probe.passed == Some(true));
        slot.started = slot.running() && slot.hooked && probed;
        slot.ever_started |= slot.started;
    }

    /// Asks for every probe that is due.
    pub(super) fn step_probes(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(attempt) = slot.attempt else { continue };
            for (at, kind) in ProbeKind::ALL.into_iter().enumerate() {
                if !waits(slot, at) {
                    continue;
                }
                if let Some(probe) = &mut slot.probes[at]
                    && probe.next <= now
                {
                    probe.in_flight = true;
                    out.push(Command::Probe { slot: index, attempt, kind });
                }
            }
        }
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        let due = |slot: &Slot| {
            (0..3).filter(|at| waits(slot, *at)).filter_map(|at| Some(slot.probes[at].as_ref()?.next)).min()
        };
        self.slots.iter().filter_map(due).min()
    }

    pub(super) fn probed(
        &mut self,
        index: usize,
        now: Timestamp,
        kind: ProbeKind,
        result: Result<(), String>,
        out: &mut Vec<Command>,
    ) {
        let slot = &mut self.slots[index];
        let at = kind as usize;
        let Some(spec) = slot.probe(kind).cloned() else { return };
        let Some(probe) = &mut slot.probes[at] else { return };
        probe.in_flight = false;
        probe.next = after(now, seconds(spec.period_seconds, 10).max(Duration::from_millis(100)));
        match result {
            Ok(()) => {
                probe.streak = probe.streak.max(0) + 1;
                if probe.streak >= i64::from(spec.success_threshold.unwrap_or(1)) {
                    probe.passed = Some(true);
                }
                self.refresh_started(index);
            }
            Err(text) => {
                probe.streak = probe.streak.min(0) - 1;
                let message = format!("{} probe failed: {text}", kind.title());
                out.push(Command::Emit { warning: true, reason: "Unhealthy", message, slot: Some(index) });
                if -probe.streak >= i64::from(spec.failure_threshold.unwrap_or(3)) {
                    probe.passed = Some(false);
                    self.probe_gave_up(index, now, kind, &spec, out);
                }
            }
        }
    }

    fn probe_gave_up(&mut self, index: usize, now: Timestamp, kind: ProbeKind, spec: &Probe, out: &mut Vec<Command>) {
        if kind == ProbeKind::Readiness || self.slots[index].stopping.is_some() {
            return;
        }
        let own = spec.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let grace = own.map_or(self.grace(), Duration::from_secs);
        let name = self.slots[index].spec.name.clone();
        let kind = kind.title().to_lowercase();
        let message = format!("Container {name} failed {kind} probe, will be restarted");
        self.stop(index, now, grace, Some(message), out);
    }
}

/// Whether a probe of a slot is one that time will make due.
fn waits(slot: &Slot, at: usize) -> bool {
    let Some(probe) = &slot.probes[at] else { return false };
    let running = matches!(slot.state, State::Running { .. }) && slot.stopping.is_none() && slot.hooked;
    let turn = if at == 0 { probe.passed != Some(true) } else { slot.started };
    running && turn && !probe.in_flight
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}
