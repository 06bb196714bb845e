//! Pods of agents: what Pod Security "restricted" asks for, no token, and no Secret's content where it does not belong.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use kubetask_core::task::{Action, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixtures::{agent, config_map, plain_agent, prompt_task, secret, task};
use crate::world::World;

fn pod_spec(world: &World) -> PodSpec {
    let plan = world.plan(0);
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => Some(job.clone()),
        _ => None,
    });
    job.unwrap_or_else(|| panic!("it waits: {:?}", plan.why)).spec.unwrap().template.spec.unwrap()
}

/// What of the profile "restricted" (Kubernetes' Pod Security Standards) a Pod violates.
fn violations(pod: &PodSpec) -> Vec<String> {
    let mut out = Vec::new();
    let mut forbid = |what: &str, bad: bool| {
        if bad {
            out.push(what.to_owned());
        }
    };
    forbid("host namespaces", [pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true)));
    let allowed = |volume: &k8s_openapi::api::core::v1::Volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.empty_dir.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some()
            || volume.persistent_volume_claim.is_some()
            || volume.ephemeral.is_some()
            || volume.csi.is_some()
    };
    forbid("volumes", !pod.volumes.iter().flatten().all(allowed));
    let of_pod = pod.security_context.clone().unwrap_or_default();
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let Container { name, security_context, ports, .. } = container;
        let of = security_context.clone().unwrap_or_default();
        forbid(&format!("{name}: privileged"), of.privileged == Some(true));
        forbid(&format!("{name}: escalation"), of.allow_privilege_escalation != Some(false));
        forbid(&format!("{name}: non-root"), of.run_as_non_root.or(of_pod.run_as_non_root) != Some(true));
        forbid(&format!("{name}: root"), of.run_as_user.or(of_pod.run_as_user) == Some(0));
        let seccomp = of.seccomp_profile.or_else(|| of_pod.seccomp_profile.clone());
        forbid(
            &format!("{name}: seccomp"),
            seccomp.is_none_or(|s| s.type_ != "RuntimeDefault" && s.type_ != "Localhost"),
        );
        let capabilities = of.capabilities.unwrap_or_default();
        forbid(&format!("{name}: drop ALL"), capabilities.drop.is_none_or(|drop| !drop.contains(&"ALL".to_owned())));
        let added = capabilities.add.unwrap_or_default();
        forbid(&format!("{name}: capabilities"), added.iter().any(|added| added != "NET_BIND_SERVICE"));
        forbid(&format!("{name}: host ports"), ports.iter().flatten().any(|port| port.host_port.is_some()));
    }
    out
}

/// An Agent and a Task that use everything there is.
fn everything() -> World {
    let agent = agent(json!({
        "agentImage": "acme/a", "command": ["a"], "toolsImage": "acme/tools",
        "humanInTheLoop": {"enabled": true},
        "credentials": [
            {"name": "token", "secretRef": {"name": "github", "key": "token"}, "env": "TOKEN", "mountPath": "/token"},
            {"name": "all", "secretRef": {"name": "github"}}],
    }));
    let task = task(json!({"prompt": "hi", "contexts": [
        {"type": "File", "file": {"filePath": "/workspace/s", "source": {"secretKeyRef": {"name": "github", "key": "token"}}}},
        {"type": "File", "file": {"dirPath": "/dir", "source": {"secretRef": {"name": "github"}}}},
        {"type": "Repository", "repository": {"org": "acme", "repo": "app"}},
        {"type": "RemoteFile", "remoteFile": {"filePath": "/workspace/r", "url": "https://example.com/r",
            "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "github", "key": "token"}}}]}},
    ]}));
    let mut world = World::new(task, Some(agent)).with(vec![], vec![secret("github", &[("token", "s3cr3t-value")])]);
    world.settings = Settings::restricted();
    world
}

#[test]
fn pods_are_restricted_unless_the_agent_says_otherwise() {
    let pod = pod_spec(&everything());
    assert_eq!(violations(&pod), Vec::<String>::new());
    assert!(pod.init_containers.unwrap().len() >= 3);
    // An Agent may relax it; nobody else does.
    let relaxed = agent(json!({"agentImage": "acme/a", "securityContext": {"runAsUser": 0, "runAsNonRoot": false}}));
    let mut world = World::new(prompt_task(), Some(relaxed));
    world.settings = Settings::restricted();
    let violations = violations(&pod_spec(&world));
    assert!(violations.contains(&"agent: root".to_owned()), "{violations:?}");
}

#[test]
fn tokens_are_mounted_only_where_the_agent_asks() {
    let check = |spec: Value, expect: bool| {
        let pod = pod_spec(&World::new(prompt_task(), Some(agent(spec))));
        assert_eq!(pod.automount_service_account_token, Some(expect));
        assert!(!serde_json::to_string(&pod.volumes).unwrap().contains("serviceAccountToken"));
    };
    check(json!({"agentImage": "a"}), false);
    check(json!({"agentImage": "a", "serviceAccountName": "robot"}), false);
    check(json!({"agentImage": "a", "automountServiceAccountToken": true}), true);
    let built_in = pod_spec(&World::new(task(json!({"prompt": "hi"})), None));
    assert_eq!(built_in.automount_service_account_token, Some(false));
}

#[test]
fn nothing_but_a_secret_holds_a_secrets_content() {
    let world = everything();
    for action in world.plan(0).actions {
        match action {
            Action::PutSecret(_) => {}
            other => assert!(!format!("{other:?}").contains("s3cr3t-value"), "{other:?}"),
        }
    }
}

/// Paths that a careless name for a stored file would mix up.
fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("a-b".to_owned()),
        Just("a_b".to_owned()),
        Just("a.b".to_owned()),
        Just("ü".to_owned()),
        Just("名前".to_owned()),
        Just("A".to_owned()),
        Just("x".repeat(70)),
        Just("-".to_owned()),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    /// Files of whatever paths and sources: each has a key of its own, and no ConfigMap holds what comes from a Secret.
    #[test]
    fn files_never_mix(files in proptest::collection::vec((path(), any::<bool>()), 1..8)) {
        let contexts: Vec<Value> = files.iter().enumerate().map(|(index, (path, of_secret))| {
            let source = if *of_secret {
                json!({"secretKeyRef": {"name": "s", "key": "k"}})
            } else {
                json!({"inline": format!("plain-{index}.")})
            };
            json!({"type": "File", "file": {"filePath": path, "source": source}})
        }).collect();
        let world = World::new(task(json!({"contexts": contexts, "agentRef": "claude"})), Some(plain_agent()))
            .with(vec![config_map("unused", json!({}))], vec![secret("s", &[("k", "s3cr3t-value")])]);
        let plan = world.plan(0);
        // A file below another cannot be mounted: the Task says so.
        prop_assume!(plan.actions.iter().any(|action| matches!(action, Action::CreateJob(_))));
        let paths: std::collections::BTreeSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        let mut keys = 0;
        let mut text = String::new();
        for action in &plan.actions {
            match action {
                Action::PutConfigMap(map) => {
                    let data = map.data.clone().unwrap_or_default();
                    let whole = format!("{map:?}");
                    prop_assert!(!whole.contains("s3cr3t-value"), "{}", whole);
                    keys += data.len();
                    text.extend(data.values().map(String::as_str));
                }
                Action::PutSecret(stored) => {
                    let data = stored.data.clone().unwrap_or_default();
                    keys += data.len();
                    data.values().for_each(|value| text.push_str(&String::from_utf8_lossy(&value.0)));
                }
                _ => {}
            }
        }
        prop_assert_eq!(keys, paths.len());
        for (index, (_, of_secret)) in files.iter().enumerate() {
            prop_assert!(*of_secret || text.contains(&format!("plain-{index}.")), "file {} is lost", index);
        }
        // Names of keys and mounts are what Kubernetes takes.
        for action in &plan.actions {
            if let Action::PutConfigMap(map) = action {
                for key in map.data.iter().flat_map(|data| data.keys()) {
                    let sound = key.len() <= 253 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                    prop_assert!(sound, "{}", key);
                }
            }
        }
    }
}
