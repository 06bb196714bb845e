//! The status that follows from a machine's state, with the words of Kubernetes 1.36.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::event::End;
use super::slot::{Kind, Slot, State, back_off};
use super::{EVICTED, Machine, Settled, TERMINATED, Volumes, full_name};
use crate::names;
use crate::qos;

impl Machine {
    /// The status to publish; `None` while containers of an earlier process are still being looked for.
    pub(crate) fn status(&self) -> Option<PodStatus> {
        if !self.bound || self.slots.iter().any(|slot| slot.state == State::Adopting) {
            return None;
        }
        let address = &self.host.address;
        let began = self.volumes == Volumes::Ready || self.slots.iter().any(|slot| slot.attempt.is_some());
        let cut_short = self.cut_short.as_ref().filter(|_| self.settled.is_some());
        let old = self.pod.status.as_ref();
        let of = |wanted: fn(Kind) -> bool| -> Vec<ContainerStatus> {
            let slots = self.slots.iter().filter(|slot| wanted(slot.kind));
            slots.map(|slot| self.container_status(slot)).collect()
        };
        let (init, mut main) = (of(Kind::is_init), of(|kind| kind == Kind::Main));
        let ephemeral = of(|kind| kind == Kind::Ephemeral);
        main.sort_by(|a, b| a.name.cmp(&b.name));
        Some(PodStatus {
            phase: Some(self.phase().to_owned()),
            conditions: Some(self.conditions.clone()),
            container_statuses: Some(main),
            init_container_statuses: Some(init).filter(|init| !init.is_empty()),
            ephemeral_container_statuses: Some(ephemeral).filter(|ephemeral| !ephemeral.is_empty()),
            host_ip: Some(address.clone()),
            host_ips: Some(vec![HostIP { ip: address.clone() }]),
            pod_ip: began.then(|| address.clone()),
            pod_ips: began.then(|| vec![PodIP { ip: address.clone() }]),
            start_time: Some(Time(self.start_time)),
            qos_class: Some(
                old.and_then(|old| old.qos_class.clone()).unwrap_or_else(|| qos::class(&self.pod).to_owned()),
            ),
            reason: cut_short.map(|(reason, _)| (*reason).to_owned()),
            message: cut_short.map(|(_, message)| message.clone()),
            observed_generation: self.pod.metadata.generation,
            ..PodStatus::default()
        })
    }

    /// The phase that the status shows.
    pub(crate) fn phase(&self) -> &'static str {
        match self.settled {
            Some(Settled::Succeeded) => return "Succeeded",
            Some(Settled::Failed) => return "Failed",
            None => {}
        }
        let never_ran = |slot: &Slot| match slot.state {
            State::Waiting { .. } | State::Starting { .. } => slot.last.is_none(),
            _ => false,
        };
        let waiting = self.slots.iter().filter(|slot| slot.kind == Kind::Main).any(never_ran);
        if waiting { "Pending" } else { "Running" }
    }

    fn container_status(&self, slot: &Slot) -> ContainerStatus {
        let terminated = |end: &End, attempt: u32| ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(self.container_id(slot, attempt)),
                exit_code: end.code,
                // Kubernetes reports a signal only through the exit code.
                signal: None,
                reason: Some(end.reason.clone()),
                message: end.message.clone(),
                started_at: Some(Time(end.started_at)),
                finished_at: Some(Time(end.finished_at)),
            }),
            ..ContainerState::default()
        };
        let waiting = |reason: &str, message: Option<String>| ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
            ..ContainerState::default()
        };
        let attempt = slot.attempt.unwrap_or(0);
        let earlier = attempt.saturating_sub(1);
        let last = || slot.last.as_ref().map(|end| terminated(end, earlier)).unwrap_or_default();
        let has_init = self.slots.iter().any(|slot| slot.kind.is_init());
        let turn = if has_init { "PodInitializing" } else { "ContainerCreating" };
        let (state, last_state) = match &slot.state {
            State::Waiting { why: Some((reason, message)) } | State::Starting { why: Some((reason, message)) } => {
                (waiting(reason, Some(message.clone()).filter(|text| !text.is_empty())), last())
            }
            // Between two runs the status goes on showing how the first one ended.
            State::Starting { why: None } if slot.last.is_some() => (last(), ContainerState::default()),
            State::Waiting { why: None } | State::Starting { why: None } | State::Adopting => {
                (waiting(turn, None), last())
            }
            State::Running { since } => {
                let running = ContainerStateRunning { started_at: Some(Time(*since)) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, last())
            }
            State::Ended(end) if slot.in_back_off() && self.settled.is_none() && self.ending.is_none() => {
                let wait = go_duration(back_off(slot.crashes.saturating_sub(2)));
                let (name, pod) = (&slot.spec.name, full_name(&self.pod));
                let message = format!("back-off {wait} restarting failed container={name} pod={pod}");
                (waiting("CrashLoopBackOff", Some(message)), terminated(end, attempt))
            }
            State::Ended(end) => (terminated(end, attempt), last()),
        };
        let this_ran = matches!(slot.state, State::Running { .. } | State::Ended(_));
        let shown = if this_ran { attempt } else { earlier };
        let ran = this_ran || slot.last.is_some();
        let image = slot.spec.image.clone().unwrap_or_default();
        ContainerStatus {
            name: slot.spec.name.clone(),
            container_id: ran.then(|| self.container_id(slot, shown)),
            image_id: if ran { names::shown_image_id(&image) } else { String::new() },
            image,
            ready: slot.ready(),
            started: Some(slot.started),
            restart_count: i32::try_from(shown).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: Some(last_state),
            ..ContainerStatus::default()
        }
    }

    /// Why a container waits, in the status's word.
    pub(crate) fn waiting_reason(&self, slot: &Slot) -> Option<&'static str> {
        let has_init = self.slots.iter().any(|slot| slot.kind.is_init());
        match &slot.state {
            State::Waiting { why: Some((reason, _)) } | State::Starting { why: Some((reason, _)) } => Some(reason),
            State::Starting { why: None } if slot.last.is_some() => None,
            State::Waiting { why: None } | State::Starting { why: None } => {
                Some(if has_init { "PodInitializing" } else { "ContainerCreating" })
            }
            State::Ended(_) if slot.in_back_off() && self.settled.is_none() && self.ending.is_none() => {
                Some("CrashLoopBackOff")
            }
            _ => None,
        }
    }

    fn container_id(&self, slot: &Slot, attempt: u32) -> String {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        names::shown_container_id(&self.host.engine, &names::container_id(uid, &slot.spec.name, attempt))
    }

    /// Brings the conditions up to date; those that keep their status keep their time.
    pub(super) fn update_conditions(&mut self, now: Timestamp) {
        let old_generation = self.pod.metadata.generation;
        let mut fresh = vec![self.ready_to_start(), self.initialized(), self.ready(), self.containers_ready()];
        if self.bound {
            fresh.push(("PodScheduled", true, None, None));
        }
        if let Some((EVICTED | TERMINATED, message)) = &self.cut_short {
            fresh.push(("DisruptionTarget", true, Some("TerminationByKubelet"), Some(message.clone())));
        }
        let conditions = fresh.into_iter().map(|(type_, status, reason, message)| {
            let status = if status { "True" } else { "False" };
            let before = self.conditions.iter().find(|before| before.type_ == type_ && before.status == status);
            let since = before.and_then(|before| before.last_transition_time.clone());
            PodCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.map(str::to_owned),
                message,
                last_transition_time: Some(since.unwrap_or(Time(now))),
                last_probe_time: None,
                observed_generation: old_generation,
            }
        });
        self.conditions = conditions.collect();
    }

    fn ready_to_start(&self) -> Condition {
        let up = self.bound && self.volumes == Volumes::Ready && self.settled.is_none();
        ("PodReadyToStartContainers", up, None, None)
    }

    fn initialized(&self) -> Condition {
        const NAME: &str = "Initialized";
        if self.settled == Some(Settled::Succeeded) {
            return (NAME, true, Some("PodCompleted"), None);
        }
        let began = self.slots.iter().any(|slot| {
            slot.kind == Kind::Main
                && (slot.last.is_some() || matches!(slot.state, State::Running { .. } | State::Ended(_)))
        });
        let pending = self.slots.iter().filter(|slot| match slot.kind {
            Kind::Init => !slot.succeeded(),
            Kind::Sidecar => !slot.ever_started,
            Kind::Main | Kind::Ephemeral => false,
        });
        let names: Vec<&str> = pending.map(|slot| slot.spec.name.as_str()).collect();
        if began || names.is_empty() {
            return (NAME, true, None, None);
        }
        let message = format!("containers with incomplete status: [{}]", names.join(" "));
        (NAME, false, Some("ContainersNotInitialized"), Some(message))
    }

    fn containers_ready(&self) -> Condition {
        const NAME: &str = "ContainersReady";
        match self.settled {
            Some(Settled::Succeeded) => return (NAME, false, Some("PodCompleted"), None),
            Some(Settled::Failed) => return (NAME, false, Some("PodFailed"), None),
            None => {}
        }
        let unready = self.slots.iter().filter(|slot| matches!(slot.kind, Kind::Main | Kind::Sidecar) && !slot.ready());
        let names: Vec<&str> = unready.map(|slot| slot.spec.name.as_str()).collect();
        if names.is_empty() {
            return (NAME, true, None, None);
        }
        let message = format!("containers with unready status: [{}]", names.join(" "));
        (NAME, false, Some("ContainersNotReady"), Some(message))
    }

    fn ready(&self) -> Condition {
        const NAME: &str = "Ready";
        let (_, ready, reason, message) = self.containers_ready();
        if !ready {
            return (NAME, false, reason, message);
        }
        let gates = self.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        let known = self.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let closed = gates.filter_map(|gate| {
            let type_ = &gate.condition_type;
            match known.into_iter().flatten().find(|condition| &condition.type_ == type_) {
                None => Some(format!("corresponding condition of pod readiness gate \"{type_}\" does not exist.")),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{type_}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        });
        let closed: Vec<String> = closed.collect();
        if closed.is_empty() {
            return (NAME, true, None, None);
        }
        (NAME, false, Some("ReadinessGatesNotReady"), Some(closed.join(", ")))
    }
}

/// Type, whether it holds, reason, message.
type Condition = (&'static str, bool, Option<&'static str>, Option<String>);

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
