//! A machine rebuilt after a restart of the node, from the record on disk and the status in the API server.
//!
//! Invariant: a container that may have been started is looked for ([`Command::Adopt`]), never started on a guess.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::event::{Command, End};
use super::slot::State;
use super::{Host, Machine, Volumes};
use crate::record::{Record, SlotRecord};

impl Machine {
    /// What has to be on disk before the next container starts.
    pub(crate) fn record(&self) -> Record {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let slots = self.slots.iter().filter_map(|slot| {
            let attempt = slot.attempt?;
            Some(SlotRecord {
                name: slot.spec.name.clone(),
                attempt,
                crashes: slot.crashes,
                ever_started: slot.ever_started,
                ended: match &slot.state {
                    State::Ended(end) => Some(end.clone()),
                    _ => None,
                },
                last: slot.last.clone(),
            })
        });
        Record {
            version: Record::VERSION,
            namespace: part(&self.pod.metadata.namespace),
            name: part(&self.pod.metadata.name),
            uid: part(&self.pod.metadata.uid),
            engine: self.host.engine.clone(),
            start_time: self.start_time,
            slots: slots.collect(),
        }
    }

    /// The record as it will be once the first containers are asked for: written early, it costs no time later. A
    /// container that is in a record and was not started is simply not found.
    pub(crate) fn first_record(&self) -> Record {
        let mut early = self.clone();
        let first = if early.slots.iter().any(|slot| slot.kind.is_init()) { 1 } else { early.slots.len() };
        for slot in early.slots.iter_mut().take(first) {
            slot.attempt = slot.attempt.or(Some(0));
        }
        early.record()
    }

    /// A pod that may have run here before. The commands look for its containers.
    pub(crate) fn restore(pod: Arc<Pod>, host: Host, record: Option<Record>, now: Timestamp) -> (Self, Vec<Command>) {
        let mut machine = Self::new(pod, host, now);
        machine.bound = true;
        let mut out = Vec::new();
        if let Some(record) = &record {
            machine.start_time = record.start_time;
        }
        let status = machine.pod.status.clone().unwrap_or_default();
        let settled = machine.settled.is_some();
        let known: Vec<ContainerStatus> =
            [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses]
                .into_iter()
                .flatten()
                .flatten()
                .collect();
        for (index, slot) in machine.slots.iter_mut().enumerate() {
            let recorded =
                record.as_ref().and_then(|record| record.slots.iter().find(|entry| entry.name == slot.spec.name));
            let known = known.iter().find(|status| status.name == slot.spec.name);
            let shown = known.filter(|status| status.container_id.is_some());
            let shown_attempt = shown.and_then(|status| u32::try_from(status.restart_count).ok());
            slot.last =
                recorded.and_then(|entry| entry.last.clone()).or_else(|| Some(from_status(shown?, true)).flatten());
            slot.crashes = recorded.map_or(shown_attempt.unwrap_or(0), |entry| entry.crashes);
            slot.ever_started = recorded.is_some_and(|entry| entry.ever_started)
                || known.is_some_and(|status| status.started == Some(true));
            slot.attempt = match (recorded.map(|entry| entry.attempt), shown_attempt) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
            let Some(attempt) = slot.attempt else { continue };
            let told = shown.filter(|_| shown_attempt == Some(attempt)).and_then(|status| from_status(status, false));
            if let Some(end) = recorded.and_then(|entry| entry.ended.clone()).or(told) {
                // Through the same door as a fresh end, so that the back-off goes on where it was.
                slot.crashes = slot.crashes.saturating_sub(1);
                slot.end(end);
                continue;
            }
            if settled {
                continue;
            }
            slot.state = State::Adopting;
            let ran = shown_attempt == Some(attempt);
            out.push(Command::Adopt { slot: index, attempt, ran });
        }
        if out.is_empty() && settled {
            machine.volumes = Volumes::Ready;
        }
        (machine, out)
    }
}

/// How a run ended, as the API server knows it: the current run, or the one before.
fn from_status(status: &ContainerStatus, last: bool) -> Option<End> {
    let state = if last { status.last_state.as_ref() } else { status.state.as_ref() };
    let ended = state?.terminated.as_ref()?;
    Some(End {
        code: ended.exit_code,
        signal: ended.signal,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone(),
        started_at: ended.started_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        finished_at: ended.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}
