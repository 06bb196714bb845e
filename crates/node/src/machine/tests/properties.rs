//! What holds in whatever order things happen.

use proptest::prelude::*;

use super::*;

/// What the outside world can throw at a machine, in any order.
fn any_event() -> impl Strategy<Value = String> {
    let slot = prop::sample::select(vec!["i", "s", "m", "k"]);
    let attempt = 0_u32..3;
    prop_oneof![
        Just("tick".to_owned()),
        Just("bound".to_owned()),
        Just("prepared".to_owned()),
        Just("prepared M".to_owned()),
        Just("poke".to_owned()),
        Just("delete 3".to_owned()),
        Just("gone".to_owned()),
        (slot.clone(), attempt.clone()).prop_map(|(slot, attempt)| format!("started {slot}#{attempt}")),
        (slot.clone(), attempt.clone(), 0..2)
            .prop_map(|(slot, attempt, code)| format!("ended {slot}#{attempt} {code}")),
        (slot.clone(), attempt.clone(), prop::sample::select(vec!["config x", "start x", "never", "pull x"]))
            .prop_map(|(slot, attempt, why)| format!("refused {slot}#{attempt} {why}")),
        (slot.clone(), attempt.clone(), any::<bool>()).prop_map(|(slot, attempt, ok)| format!(
            "probe liveness {slot}#{attempt} {}",
            if ok { "ok" } else { "no" }
        )),
        (slot, attempt).prop_map(|(slot, attempt)| format!("hook pre {slot}#{attempt} ok")),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no run is started twice, nothing starts once the pod is over or being deleted,
    /// a final phase stays, and when everything that was started has ended, a vanished pod is cleaned up.
    #[test]
    fn no_order_of_events_breaks_the_rules(
        policy in prop::sample::select(vec!["Never", "OnFailure", "Always"]),
        events in prop::collection::vec((any_event(), 0.0..30.0), 0..80),
    ) {
        let probe = json!({"exec": {}, "failureThreshold": 1});
        let spec = json!({"restartPolicy": policy, "activeDeadlineSeconds": 600,
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "m", "livenessProbe": probe}, {"name": "k", "lifecycle": {"preStop": {"exec": {}}}}]});
        let mut scene = Scene::new(&spec);
        let mut started = std::collections::BTreeSet::new();
        let mut refused = std::collections::BTreeSet::new();
        let mut deleted = false;
        let mut finals = 0;
        for (text, wait) in events {
            scene.now += wait;
            let event = scene.event(&text);
            let before = scene.machine.settled();
            if let Event::NotStarted { slot, attempt, .. } = &event {
                refused.insert((*slot, *attempt));
            }
            deleted |= text == "gone" || (text.starts_with("delete") && scene.machine.bound);
            for command in scene.machine.handle(time(scene.now), event) {
                match command {
                    Command::Start { slot, attempt } => {
                        prop_assert!(started.insert((slot, attempt)) || refused.remove(&(slot, attempt)), "{slot}#{attempt} twice");
                        prop_assert!(!deleted && before.is_none(), "started after the end: {text}");
                    }
                    Command::Finalize | Command::CleanUp => {
                        prop_assert!(!scene.machine.active(), "ended while something runs");
                        finals += 1;
                    }
                    _ => {}
                }
            }
            prop_assert!(before.is_none() || scene.machine.settled() == before, "a final phase changed");
            let json = serde_json::to_value(scene.machine.status()).unwrap();
            prop_assert!(json.is_null() || json["conditions"].is_array());
        }
        prop_assert!(finals <= 2);
        // Healing: everything that runs ends, and nothing is left.
        scene.machine.handle(time(scene.now), Event::Gone);
        for index in 0..scene.machine.slots.len() {
            let slot = &scene.machine.slots[index];
            if let (true, Some(attempt)) = (slot.active(), slot.attempt) {
                let name = slot.spec.name.clone();
                let event = scene.event(&format!("ended {name}#{attempt} 137"));
                scene.machine.handle(time(scene.now), event);
            }
        }
        prop_assert!(scene.machine.cleaned());
    }
}
