//! What others may know of a pod that runs here: enough to find its logs and its containers.

use crate::claims;
use crate::config;
use crate::machine::{Machine, Slot, State};

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodView {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// The engine that runs it.
    pub(crate) engine: String,
    /// Its containers.
    pub(crate) containers: Vec<ContainerView>,
    /// Names of the claims it uses.
    pub(crate) claims: Vec<String>,
    /// Whether nothing of it will ever run again.
    pub(crate) over: bool,
    /// Whether any container of it runs or may run.
    pub(crate) active: bool,
    /// Whether it has no network but its own loopback.
    pub(crate) isolated: bool,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerView {
    /// Its name.
    pub(crate) name: String,
    /// Its image.
    pub(crate) image: String,
    /// The run whose log is the current one.
    pub(crate) log: Option<u32>,
    /// The run whose log is the one before.
    pub(crate) previous: Option<u32>,
    /// The run that is going on.
    pub(crate) running: Option<u32>,
    /// Whether it has a terminal, and an open standard input.
    pub(crate) tty: bool,
    /// Why it waits, where it does.
    pub(crate) waiting: Option<String>,
}

impl PodView {
    /// What `machine` shows.
    pub(crate) fn of(machine: &Machine, engine: &str) -> Self {
        let pod = machine.pod();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
            engine: engine.to_owned(),
            containers: machine.slots().iter().map(|slot| view(machine, slot)).collect(),
            claims: claims::names(pod).map(str::to_owned).collect(),
            over: machine.settled().is_some() && !machine.active(),
            active: machine.active(),
            isolated: config::isolated(pod),
        }
    }

    /// The container of this name.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }
}

fn view(machine: &Machine, slot: &Slot) -> ContainerView {
    let earlier = slot.last.as_ref().and(slot.attempt).map(|attempt| attempt.saturating_sub(1));
    let (log, previous) = match &slot.state {
        State::Ended(_) if slot.in_back_off() => (slot.attempt, slot.attempt),
        State::Running { .. } | State::Ended(_) | State::Adopting => (slot.attempt, earlier),
        State::Starting { .. } | State::Waiting { .. } => (earlier, None),
    };
    ContainerView {
        name: slot.spec.name.clone(),
        image: slot.spec.image.clone().unwrap_or_default(),
        log,
        previous,
        running: slot.attempt.filter(|_| slot.running()),
        tty: slot.spec.tty == Some(true),
        waiting: machine.waiting_reason(slot).map(str::to_owned),
    }
}
