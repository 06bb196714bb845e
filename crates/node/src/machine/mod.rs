//! A pod as a state machine: events in, commands out. No I/O, no clock: time arrives as `now`.
//!
//! Main type: [`Machine`]. [`Machine::handle`] takes one [`Event`], changes the state and then *steps*: from what is
//! known it works out what has to happen next, whatever the event was. So a repeated or late event does no harm, and a
//! machine rebuilt after a restart goes on where it was. The status follows from the state ([`Machine::status`]).

mod event;
mod probe;
mod rest;
mod restore;
mod run;
mod slot;
mod status;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodCondition, PodSpec};

pub(crate) use event::{Command, End, Event, Hook, NotStarted, ProbeKind};
use slot::Policy;
pub(crate) use slot::{Kind, Slot, State};

/// How far the pod's volumes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Volumes {
    Idle,
    Preparing,
    Ready,
    Failed { retry_at: Timestamp },
}

/// Why a whole pod is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It ran longer than `activeDeadlineSeconds`, or used more than it may.
    CutShort,
    /// Its object is being deleted.
    Deleted,
}

/// Final phase of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Every container ended well.
    Succeeded,
    /// One did not.
    Failed,
}

/// Facts about the node that a status shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// Address of the node and of its pods.
    pub(crate) address: String,
    /// Prefix of container ids: the engine's name.
    pub(crate) engine: String,
}

/// One pod.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pod: Arc<Pod>,
    host: Host,
    slots: Vec<Slot>,
    volumes: Volumes,
    mount_failures: u32,
    bound: bool,
    start_time: Timestamp,
    ending: Option<Ending>,
    stopping_since: Option<Timestamp>,
    /// Why it is ended before its time: reason and message for its status.
    cut_short: Option<(&'static str, String)>,
    settled: Option<Settled>,
    finalized: bool,
    gone: bool,
    cleaned: bool,
    /// The node ends: what runs gets at most so long.
    shutdown: Option<Duration>,
    conditions: Vec<PodCondition>,
    /// The pod, while it is put away: then `pod` and the slots' specifications are empty.
    at_rest: Option<Box<[u8]>>,
}

impl Machine {
    /// A pod that has not run here yet.
    pub(crate) fn new(pod: Arc<Pod>, host: Host, now: Timestamp) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let policy = Policy::parse(spec.restart_policy.as_deref());
        let slots = containers(spec).map(|(kind, container)| Slot::new(container, kind, policy)).collect();
        let status = pod.status.clone().unwrap_or_default();
        Self {
            host,
            slots,
            volumes: Volumes::Idle,
            mount_failures: 0,
            bound: false,
            start_time: status.start_time.map_or(now, |time| time.0),
            ending: None,
            stopping_since: None,
            cut_short: [DEADLINE_EXCEEDED, EVICTED, TERMINATED]
                .into_iter()
                .find(|reason| status.reason.as_deref() == Some(*reason))
                .map(|reason| (reason, status.message.clone().unwrap_or_default())),
            settled: match status.phase.as_deref() {
                Some("Succeeded") => Some(Settled::Succeeded),
                Some("Failed") => Some(Settled::Failed),
                _ => None,
            },
            finalized: false,
            gone: false,
            cleaned: false,
            shutdown: None,
            conditions: status.conditions.unwrap_or_default(),
            at_rest: None,
            pod,
        }
    }

    /// The object, as last seen.
    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Its containers: init containers first, and last those that came to look into it.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether nothing is left to do, ever.
    pub(crate) fn cleaned(&self) -> bool {
        self.cleaned
    }

    /// Whether any container runs or may run.
    pub(crate) fn active(&self) -> bool {
        self.slots.iter().any(Slot::active)
    }

    /// The final phase, once it is certain.
    pub(crate) fn settled(&self) -> Option<Settled> {
        self.settled
    }

    /// Takes one event and says what to do now.
    pub(crate) fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Pod(pod) => self.see(pod, now),
            Event::Bound => self.bound = true,
            Event::Prepared(Ok(())) => {
                self.volumes = Volumes::Ready;
                self.mount_failures = 0;
            }
            Event::Prepared(Err(messages)) => self.mount_failed(now, messages, &mut out),
            Event::Poke => self.poke(now),
            Event::Evict(message) => self.evict(message, &mut out),
            Event::Shutdown(grace) => self.shut_down(grace),
            Event::Started { slot, attempt, at, adopted } if self.is_current(slot, attempt) => {
                self.container_started(slot, now, at, adopted, &mut out);
            }
            Event::NotStarted { slot, attempt, why } if self.is_current(slot, attempt) => {
                self.container_not_started(slot, now, why, &mut out);
            }
            Event::Ended { slot, attempt, end } if self.is_current(slot, attempt) => {
                self.container_ended(slot, end, &mut out);
            }
            Event::HookDone { slot, attempt, hook, result } if self.is_current(slot, attempt) => {
                self.hook_done(slot, now, hook, result, &mut out);
            }
            Event::Probed { slot, attempt, kind, result } if self.is_current(slot, attempt) => {
                self.probed(slot, now, kind, result, &mut out);
            }
            Event::Gone => self.gone = true,
            _ => {}
        }
        self.step(now, &mut out);
        self.update_conditions(now);
        out
    }

    /// When [`Event::Tick`] is due, with nothing else happening.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        let mut times = Vec::new();
        if !self.gone && self.settled.is_none() && self.ending.is_none() {
            if let Volumes::Failed { retry_at } = self.volumes {
                times.push(retry_at);
            }
            times.extend(
                self.slots.iter().filter(|slot| !slot.active() && !slot.finished()).filter_map(|slot| slot.retry_at),
            );
            times.extend(self.deadline());
        }
        for slot in &self.slots {
            times.extend(slot.stopping.as_ref().filter(|stop| stop.hooking && !stop.killed).map(|stop| stop.deadline));
        }
        times.extend(self.next_probe());
        times.into_iter().min()
    }

    fn is_current(&self, slot: usize, attempt: u32) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.attempt == Some(attempt) && slot.active())
    }

    /// A newer version of the object: only what may change matters.
    fn see(&mut self, pod: Arc<Pod>, now: Timestamp) {
        let images_changed = {
            let spec = pod.spec.as_ref();
            let containers =
                spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
            let mut changed = false;
            for container in containers {
                let differs = |slot: &&mut Slot| slot.spec.name == container.name && slot.spec.image != container.image;
                for slot in self.slots.iter_mut().filter(differs) {
                    Arc::make_mut(&mut slot.spec).image.clone_from(&container.image);
                    changed = true;
                }
            }
            changed
        };
        for container in pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten()) {
            if !self.slots.iter().any(|slot| slot.spec.name == container.name) {
                self.slots.push(Slot::new(as_container(container.clone()), Kind::Ephemeral, Policy::Never));
            }
        }
        self.pod = pod;
        if images_changed {
            self.poke(now);
        }
    }

    fn mount_failed(&mut self, now: Timestamp, messages: Vec<String>, out: &mut Vec<Command>) {
        let wait =
            Duration::from_millis(500).saturating_mul(1 << self.mount_failures.min(8)).min(Duration::from_secs(122));
        self.mount_failures += 1;
        self.volumes = Volumes::Failed { retry_at: after(now, wait) };
        for message in messages {
            out.push(Command::Emit { warning: true, reason: "FailedMount", message, slot: None });
        }
    }

    /// Whatever waits for something that was missing is tried again now.
    fn poke(&mut self, now: Timestamp) {
        if let Volumes::Failed { retry_at } = &mut self.volumes {
            *retry_at = now;
        }
        for slot in &mut self.slots {
            if matches!(slot.state, State::Waiting { .. }) && slot.retry_at.is_some() {
                slot.retry_at = Some(now);
            }
        }
    }

    /// It used more than it may.
    fn evict(&mut self, message: String, out: &mut Vec<Command>) {
        if self.settled.is_none() && self.cut_short.is_none() {
            self.cut_short = Some((EVICTED, message.clone()));
            out.push(Command::Emit { warning: true, reason: EVICTED, message, slot: None });
        }
    }

    /// The node ends. What runs is ended with it; what does not run yet stays as it is, for the node's next start.
    fn shut_down(&mut self, grace: Duration) {
        self.shutdown = Some(grace);
        if self.active() && self.settled.is_none() && self.cut_short.is_none() {
            self.cut_short = Some((TERMINATED, TERMINATED_MESSAGE.to_owned()));
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        Some(after(self.start_time, Duration::from_secs(u64::try_from(seconds).ok()?)))
    }

    /// Works out what has to happen from what is known.
    fn step(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.gone {
            self.stop_all(now, Duration::from_secs(1), out);
            if !self.active() && !self.cleaned {
                self.cleaned = true;
                out.push(Command::CleanUp);
            }
            return;
        }
        if self.settled.is_none() && self.cut_short.is_none() && self.deadline().is_some_and(|at| at <= now) {
            let message = DEADLINE_MESSAGE.to_owned();
            self.cut_short = Some((DEADLINE_EXCEEDED, message.clone()));
            out.push(Command::Emit { warning: false, reason: DEADLINE_EXCEEDED, message, slot: None });
        }
        if self.cut_short.is_some() && self.settled.is_none() {
            self.ending = self.ending.or(Some(Ending::CutShort));
        }
        if self.bound && self.pod.metadata.deletion_timestamp.is_some() {
            self.ending = Some(Ending::Deleted);
        }
        match self.ending {
            Some(ending) => {
                self.stop_all(now, self.grace(), out);
                if !self.active() {
                    self.settle();
                    if ending == Ending::Deleted && !self.finalized {
                        self.finalized = true;
                        out.push(Command::Finalize);
                    }
                }
            }
            None if self.settled.is_some() => self.stop_all(now, self.grace(), out),
            None if self.shutdown.is_some() => {}
            None => self.advance(now, out),
        }
        self.step_stops(now, out);
        self.step_probes(now, out);
    }

    /// Brings the pod one step further: volumes, init containers in order, containers, the end.
    fn advance(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        match self.volumes {
            Volumes::Idle => {
                self.volumes = Volumes::Preparing;
                out.push(Command::Prepare);
            }
            Volumes::Failed { retry_at } if retry_at <= now => {
                self.volumes = Volumes::Preparing;
                out.push(Command::Prepare);
            }
            _ => {}
        }
        if self.volumes != Volumes::Ready || !self.bound {
            return;
        }
        let mains_began = self.slots.iter().any(|slot| slot.kind == Kind::Main && slot.attempt.is_some());
        let mut turn = true;
        for index in 0..self.slots.len() {
            match self.slots[index].kind {
                Kind::Init if mains_began => continue,
                Kind::Init if self.slots[index].succeeded() => continue,
                Kind::Init => {
                    if turn && self.slots[index].finished() {
                        return self.wind_down(now, out);
                    }
                    if turn {
                        self.maybe_start(index, now, out);
                    }
                    turn = false;
                }
                Kind::Sidecar => {
                    let known = self.slots[index].ever_started || mains_began;
                    if (turn || known) && !self.mains_finished() {
                        self.maybe_start(index, now, out);
                    }
                    turn &= known;
                }
                Kind::Main => {
                    if turn {
                        self.maybe_start(index, now, out);
                    }
                }
                Kind::Ephemeral if self.mains_finished() => {}
                Kind::Ephemeral => self.maybe_start(index, now, out),
            }
        }
        if self.mains_finished() {
            self.wind_down(now, out);
        }
    }

    fn mains_finished(&self) -> bool {
        let mut mains = self.slots.iter().filter(|slot| slot.kind == Kind::Main);
        mains.all(Slot::finished)
    }

    /// Nothing more will be started: sidecars end, last one first, and then the pod is over.
    fn wind_down(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let grace = self.grace();
        if let Some(last) = self.slots.iter().rposition(Slot::active) {
            self.stop(last, now, grace, None, out);
        } else {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if self.settled.is_some() {
            return;
        }
        let mains_well = self.slots.iter().filter(|slot| slot.kind == Kind::Main).all(Slot::succeeded);
        let well = mains_well && self.cut_short.is_none();
        self.settled = Some(if well { Settled::Succeeded } else { Settled::Failed });
    }

    fn maybe_start(&mut self, index: usize, now: Timestamp, out: &mut Vec<Command>) {
        let slot = &mut self.slots[index];
        if slot.wants_start(now) {
            let attempt = slot.begin();
            out.push(Command::Start { slot: index, attempt });
        }
    }

    /// Time that a container has to end by itself.
    fn grace(&self) -> Duration {
        let asked = self.pod.metadata.deletion_grace_period_seconds;
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = Duration::from_secs(asked.or(spec).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30));
        self.shutdown.map_or(grace, |most| grace.min(most))
    }
}

/// The containers of a pod, in the order of its slots.
fn containers(spec: PodSpec) -> impl Iterator<Item = (Kind, Container)> {
    let init = spec.init_containers.into_iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (if sidecar { Kind::Sidecar } else { Kind::Init }, container)
    });
    let main = spec.containers.into_iter().map(|container| (Kind::Main, container));
    let ephemeral = spec.ephemeral_containers.into_iter().flatten();
    init.chain(main).chain(ephemeral.map(|container| (Kind::Ephemeral, as_container(container))))
}

/// An ephemeral container as one of any other kind: it has the same members, but for its target.
fn as_container(container: EphemeralContainer) -> Container {
    Container {
        name: container.name,
        image: container.image,
        command: container.command,
        args: container.args,
        working_dir: container.working_dir,
        env: container.env,
        env_from: container.env_from,
        volume_mounts: container.volume_mounts,
        volume_devices: container.volume_devices,
        termination_message_path: container.termination_message_path,
        termination_message_policy: container.termination_message_policy,
        image_pull_policy: container.image_pull_policy,
        security_context: container.security_context,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        ..Container::default()
    }
}

const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
const EVICTED: &str = "Evicted";
/// The kubelet's words for pods that it ends because its node goes down.
const TERMINATED: &str = "Terminated";
const TERMINATED_MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn emit(out: &mut Vec<Command>, slot: usize, reason: &'static str, message: impl Into<String>) {
    out.push(Command::Emit { warning: false, reason, message: message.into(), slot: Some(slot) });
}

/// `name_namespace(uid)`, as the kubelet names a pod in its messages.
fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}

#[cfg(test)]
mod tests;
