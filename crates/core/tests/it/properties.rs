//! What holds for every Task, however strange.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use kubetask_core::task::{self, Action, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixtures::{agent, at, config_map, secret, task};
use crate::world::World;

/// Paths that are near each other, and some that no server would let pass.
fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just("a"),
        Just("b"),
        Just("a-b"),
        Just("a_b"),
        Just("a.b"),
        Just("ä"),
        Just(".."),
        Just(""),
        Just("workspace"),
        Just("x y"),
        Just("c:d"),
    ];
    proptest::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn context() -> impl Strategy<Value = Value> {
    let key = |object: &'static str| {
        prop_oneof![Just("k"), Just("gone")]
            .prop_map(move |key| json!({object: {"name": "o", "key": key, "optional": true}}))
    };
    let file_source = prop_oneof![
        "[a-z<>/ \n]{0,12}".prop_map(|text| json!({"inline": text})),
        key("configMapKeyRef"),
        key("secretKeyRef"),
    ];
    let dir_source = prop_oneof![
        Just(json!({"configMapRef": {"name": "o", "optional": true}})),
        Just(json!({"secretRef": {"name": "o"}})),
    ];
    prop_oneof![
        4 => (path(), file_source).prop_map(|(p, s)| json!({"type": "File", "file": {"filePath": p, "source": s}})),
        1 => (path(), dir_source).prop_map(|(p, s)| json!({"type": "File", "file": {"dirPath": p, "source": s}})),
        1 => path().prop_map(|p| json!({"type": "Repository", "repository": {"url": "https://x/y.git", "path": p,
            "credentials": {"secretRef": {"name": "o"}}}})),
        1 => path().prop_map(|p| json!({"type": "RemoteFile", "remoteFile": {"filePath": p, "url": "https://x/y",
            "headers": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "o", "key": "k"}}}]}})),
    ]
}

/// Volumes are all there and all used, and no two mounts share a path.
fn check_job(job: &Job) {
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|v| v.name.as_str()).collect();
    let distinct: BTreeSet<&str> = volumes.iter().copied().collect();
    assert_eq!(distinct.len(), volumes.len(), "volumes {volumes:?}");
    let mut used = BTreeSet::new();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let mut paths = BTreeSet::new();
        for mount in container.volume_mounts.iter().flatten() {
            assert!(distinct.contains(mount.name.as_str()), "no volume {}", mount.name);
            assert!(paths.insert(&mount.mount_path), "twice at {}", mount.mount_path);
            assert!(!mount.mount_path.contains(':') && mount.mount_path.starts_with('/'));
            used.insert(mount.name.as_str());
        }
    }
    assert_eq!(used, distinct, "a volume nobody mounts");
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 253
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        && !key.starts_with("..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_contexts_make_a_sound_job_or_a_clear_word(
        own in proptest::collection::vec(context(), 0..6),
        defaults in proptest::collection::vec(context(), 0..3),
        restricted in any::<bool>(),
    ) {
        let task = task(json!({"agentRef": "claude", "contexts": own}));
        let agent = agent(json!({"defaultContexts": defaults}));
        let mut world = World::new(task, Some(agent))
            .with(vec![config_map("o", json!({"k": "from the map"}))], vec![secret("o", &[("k", "HUSH-HUSH")])]);
        if restricted {
            world.settings = Settings::restricted();
        }
        let plan = world.settle(0);
        match plan.actions.last() {
            None => {
                prop_assert!(world.line().starts_with("Pending InvalidSpec: "), "{}", world.line());
                prop_assert!(!plan.why.is_empty());
            }
            Some(Action::CreateJob(job)) => {
                check_job(job);
                prop_assert!(!serde_json::to_string(job).unwrap().contains("HUSH-HUSH"));
                for action in &plan.actions {
                    match action {
                        Action::PutConfigMap(map) => {
                            prop_assert!(!serde_json::to_string(map).unwrap().contains("HUSH-HUSH"));
                            prop_assert!(map.data.iter().flatten().all(|(key, _)| is_key(key)));
                        }
                        Action::PutSecret(secret) => prop_assert!(secret.data.iter().flatten().all(|(key, _)| is_key(key))),
                        _ => {}
                    }
                }
            }
            Some(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn references_do_not_depend_on_order(mut own in proptest::collection::vec(context(), 0..6), seed in any::<u64>()) {
        let before = task::references(&task(json!({"contexts": own})), None);
        let len = own.len().max(1) as u64;
        own.rotate_left(usize::try_from(seed % len).unwrap());
        prop_assert_eq!(before, task::references(&task(json!({"contexts": own})), None));
    }

    #[test]
    fn the_clock_alone_changes_nothing_before_a_task_is_finished(now in 0i64..10_000_000) {
        let mut world = World::new(task(json!({"prompt": "x"})), None);
        world.settle(0);
        let plan = task::plan(at(now), &world.task, &world.seen, &world.settings);
        prop_assert!(plan.is_quiet());
    }
}
