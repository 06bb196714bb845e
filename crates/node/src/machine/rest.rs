//! A pod that runs, and of which nothing is heard: its specification, many kilobytes once decoded, is put away as text until
//! something happens. Agents run for hours.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::slot::Slot;
use super::{Machine, Volumes, containers};

static NO_POD: LazyLock<Arc<Pod>> = LazyLock::new(Arc::default);
static NO_CONTAINER: LazyLock<Arc<Container>> = LazyLock::new(Arc::default);

impl Machine {
    /// Whether all that is to come is the end of what runs.
    pub(crate) fn may_rest(&self) -> bool {
        let settled = |slot: &Slot| {
            if slot.active() { slot.running() && slot.hooked && slot.stopping.is_none() } else { slot.finished() }
        };
        let ending = self.gone || self.ending.is_some() || self.settled.is_some() || self.shutdown.is_some();
        !ending
            && self.bound
            && self.volumes == Volumes::Ready
            && self.active()
            && self.slots.iter().all(settled)
            && self.next_probe().is_none()
    }

    /// Puts the pod away. Until [`Machine::rouse`] there is nothing to ask of this machine.
    pub(crate) fn rest(&mut self) {
        if self.at_rest.is_some() {
            return;
        }
        let Ok(text) = serde_json::to_vec(&*self.pod) else { return };
        // What could not be had again as it is stays.
        let Ok(again) = serde_json::from_slice::<Pod>(&text) else { return };
        if again != *self.pod {
            return;
        }
        let names = containers(again.spec.unwrap_or_default()).map(|(_, container)| container.name);
        if !names.eq(self.slots.iter().map(|slot| slot.spec.name.clone())) {
            return;
        }
        self.at_rest = Some(text.into_boxed_slice());
        self.pod = Arc::clone(&NO_POD);
        for slot in &mut self.slots {
            slot.spec = Arc::clone(&NO_CONTAINER);
        }
    }

    /// Takes the pod out again.
    pub(crate) fn rouse(&mut self) {
        let Some(text) = self.at_rest.take() else { return };
        match serde_json::from_slice::<Pod>(&text) {
            Ok(pod) => {
                let containers = containers(pod.spec.clone().unwrap_or_default());
                for (slot, (_, container)) in self.slots.iter_mut().zip(containers) {
                    slot.spec = Arc::new(container);
                }
                self.pod = Arc::new(pod);
            }
            Err(error) => tracing::error!(%error, "a pod that was put away cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::machine::{Event, Host};

    fn running() -> Machine {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
                "containers": [
                    {"name": "b", "image": "x:1", "command": ["sleep", "1"], "resources": {"limits": {"cpu": "100m"}}},
                    {"name": "a", "image": "x:2"},
                ],
                "volumes": [{"name": "v", "configMap": {"name": "c"}}],
            },
        }))
        .unwrap();
        let mut machine = Machine::new(Arc::new(pod), Host::default(), Timestamp::UNIX_EPOCH);
        machine.handle(Timestamp::UNIX_EPOCH, Event::Bound);
        machine.handle(Timestamp::UNIX_EPOCH, Event::Prepared(Ok(())));
        for slot in 0..3 {
            assert!(!machine.may_rest());
            let at = Timestamp::UNIX_EPOCH;
            machine.handle(at, Event::Started { slot, attempt: 0, at, adopted: false });
        }
        machine
    }

    #[test]
    fn what_was_put_away_comes_back_as_it_was() {
        let mut machine = running();
        assert!(machine.may_rest());
        let (pod, status, record) = (Arc::clone(machine.pod()), machine.status(), machine.record());
        machine.rest();
        assert_eq!(**machine.pod(), Pod::default(), "it is put away");
        machine.rest();
        machine.rouse();
        machine.rouse();
        assert_eq!((machine.pod(), machine.status(), machine.record()), (&pod, status, record));
        let names: Vec<&str> = machine.slots().iter().map(|slot| slot.spec.name.as_str()).collect();
        assert_eq!(names, ["side", "b", "a"]);
        assert!(machine.may_rest());
    }

    #[test]
    fn a_pod_that_ends_does_not_rest() {
        let mut machine = running();
        machine.handle(Timestamp::UNIX_EPOCH, Event::Gone);
        assert!(!machine.may_rest());
    }
}
