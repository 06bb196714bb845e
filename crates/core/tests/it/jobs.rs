//! What a Task and its Agent become, as people see it.

use kubetask_core::task::{Action, Settings};
use serde_json::json;

use crate::fixtures::{agent, config_map, plain_agent, prompt_task, secret, task};
use crate::world::World;

/// Everything that is created, as YAML; secrets are decoded for the reader.
fn created(world: &World) -> String {
    let plan = world.plan(0);
    assert!(plan.why.len() == 1, "it waits: {:?}", plan.why);
    let mut out = String::new();
    for action in &plan.actions {
        let value = match action {
            Action::PutConfigMap(config_map) => serde_json::to_value(config_map),
            Action::CreateJob(job) => serde_json::to_value(job),
            Action::PutSecret(secret) => {
                let mut value = serde_json::to_value(secret).unwrap();
                for (key, bytes) in secret.data.iter().flatten() {
                    value["data"][key] = json!(String::from_utf8_lossy(&bytes.0));
                }
                Ok(value)
            }
            other => panic!("unexpected {other:?}"),
        };
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(&value.unwrap()).unwrap());
    }
    out
}

#[test]
fn a_prompt() {
    insta::assert_snapshot!(created(&World::new(prompt_task(), Some(plain_agent()))));
}

#[test]
fn the_built_in_agent() {
    let world = World::new(task(json!({"contexts": []})), None);
    insta::assert_snapshot!(created(&world));
}

#[test]
fn everything_at_once() {
    let agent = agent(json!({
        "agentImage": "quay.io/acme/claude:1",
        "command": ["claude", "-p", "do it"],
        "serviceAccountName": "robot",
        "toolsImage": "quay.io/acme/tools:2",
        "humanInTheLoop": {"enabled": true, "keepAliveSeconds": 60},
        "podLabels": {"network-policy": "restricted", "kubetask.io/task": "not yours"},
        "env": [{"name": "MODEL", "value": "large"}, {"name": "TASK_NAME", "value": "not yours"}],
        "credentials": [
            {"name": "token", "secretRef": {"name": "github", "key": "token"}, "env": "GITHUB_TOKEN"},
            {"name": "ssh", "secretRef": {"name": "ssh-keys", "key": "id_rsa"}, "mountPath": "/home/agent/.ssh/id_rsa", "fileMode": 256},
            {"name": "all", "secretRef": {"name": "cloud"}},
            {"name": "dir", "secretRef": {"name": "certs"}, "mountPath": "/etc/certs"},
        ],
        "defaultContexts": [
            {"type": "File", "file": {"filePath": "/workspace/task.md", "source": {"inline": "House rules."}}},
        ],
        "scheduling": {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ai", "effect": "NoSchedule"}],
        },
        "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
        "workspace": {"persistentVolumeClaim": {"claimName": "work"}},
        "imagePullSecrets": [{"name": "pull"}],
        "imagePullPolicy": "Always",
        "runtimeClassName": "gvisor",
        "runtime": "Docker",
    }));
    let mut task = task(json!({
        "agentRef": "claude",
        "prompt": "Fix the login.",
        "timeoutSeconds": 900,
        "retries": 2,
        "contexts": [
            {"type": "File", "file": {"filePath": "/workspace/task.md", "source": {"configMapKeyRef": {"name": "guides", "key": "pr.md"}}}},
            {"type": "File", "file": {"filePath": "/workspace/secret.md", "source": {"secretKeyRef": {"name": "github", "key": "token"}}}},
            {"type": "File", "file": {"dirPath": "/workspace/configs", "source": {"configMapRef": {"name": "guides"}}}},
            {"type": "File", "file": {"filePath": "/workspace/configs/extra.md", "source": {"inline": "extra"}}},
            {"type": "File", "file": {"dirPath": "/workspace/keys", "source": {"secretRef": {"name": "keys", "optional": true}}}},
            {"type": "Repository", "repository": {"org": "acme", "repo": "service-a", "ref": "main", "credentials": {"secretRef": {"name": "github"}}}},
            {"type": "Repository", "repository": {"url": "git@example.com:acme/lib.git", "path": "/src/lib", "depth": 0}},
            {"type": "RemoteFile", "remoteFile": {"filePath": "/workspace/spec.md", "url": "https://example.com/$(HOME)/spec.md",
                "headers": [{"name": "Accept", "value": "text/markdown"}, {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "github", "key": "token"}}}]}},
            {"type": "File", "file": {"filePath": "/workspace/spec.md", "source": {"secretKeyRef": {"name": "github", "key": "token"}}}},
        ],
    }));
    task.metadata.labels = Some([("kubetask.io/batchrun".to_owned(), "spring".to_owned())].into());
    let mut world = World::new(task, Some(agent)).with(
        vec![config_map("guides", json!({"pr.md": "How to open a pull request.\n"}))],
        vec![
            secret("github", &[("token", "t0ken")]),
            secret("ssh-keys", &[("id_rsa", "key")]),
            secret("cloud", &[]),
            secret("certs", &[]),
        ],
    );
    world.settings = Settings::restricted();
    insta::assert_snapshot!(created(&world));
}

#[test]
fn changes_are_collected_beside_the_agent() {
    let agent = agent(json!({
        "serviceAccountName": "default",
        "command": ["work"],
        "credentials": [{"name": "key", "secretRef": {"name": "ssh-keys", "key": "id_rsa"}, "mountPath": "/src/lib/.key"}],
        "resources": {"limits": {"cpu": "4", "memory": "8Gi"}},
    }));
    let repository = |path: &str, collect: bool| json!({"type": "Repository", "repository": {"url": "https://x/y.git", "path": path, "collectChanges": collect}});
    let task = task(json!({"agentRef": "claude", "contexts": [
        repository("/workspace/app", true),
        repository("/workspace/app/vendor/$(HOME)", false),
        repository("/src/lib", true),
        {"type": "File", "file": {"filePath": "/workspace/app/AGENTS.md", "source": {"inline": "be kind"}}},
        {"type": "File", "file": {"filePath": "/workspace/application", "source": {"inline": "not in it"}}},
    ]}));
    let world = World::new(task, Some(agent)).with(vec![], vec![secret("ssh-keys", &[("id_rsa", "key")])]);
    insta::assert_snapshot!(created(&world));
}

#[test]
fn secrets_never_reach_a_config_map() {
    let key = |kind: &str| json!({"name": "s", "key": "k", "optional": kind == "optional"});
    let task = task(json!({"agentRef": "claude", "contexts": [
        {"type": "File", "file": {"filePath": "/a", "source": {"secretKeyRef": key("")}}},
        {"type": "File", "file": {"filePath": "/a", "source": {"inline": "plain"}}},
        {"type": "RemoteFile", "remoteFile": {"filePath": "/b", "url": "http://x/y",
            "headers": [{"name": "X", "valueFrom": {"secretKeyRef": key("optional")}}]}},
        {"type": "File", "file": {"filePath": "/b", "source": {"secretKeyRef": key("")}}},
    ]}));
    let world = World::new(task, Some(plain_agent())).with(vec![], vec![secret("s", &[("k", "hush-hush")])]);
    for action in world.plan(0).actions {
        match action {
            Action::PutSecret(secret) => {
                let stored = serde_json::to_string(&secret).unwrap();
                // Base64 of the aggregated file does not show the word; its keys show both files.
                assert_eq!(secret.data.unwrap().len(), 2, "{stored}");
            }
            Action::PutConfigMap(map) => assert!(!serde_json::to_string(&map).unwrap().contains("hush-hush")),
            Action::CreateJob(job) => assert!(!serde_json::to_string(&job).unwrap().contains("hush-hush")),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn similar_paths_are_stored_apart() {
    let file = |path: &str, text: &str| json!({"type": "File", "file": {"filePath": path, "source": {"inline": text}}});
    let task = task(
        json!({"contexts": [file("/a/b", "1"), file("/a-b", "2"), file("/a_b", "3"), file("/ä/b", "4"), file("/ö/b", "5")]}),
    );
    let world = World::new(task, None);
    let plan = world.plan(0);
    let Some(Action::PutConfigMap(map)) = plan.actions.first() else { panic!("{plan:?}") };
    let mut texts: Vec<&str> = map.data.as_ref().unwrap().values().map(String::as_str).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["1", "2", "3", "4", "5"]);
}

#[test]
fn kueue_is_honoured() {
    let mut task = prompt_task();
    task.metadata.labels = Some([("kueue.x-k8s.io/queue-name".to_owned(), "gpu".to_owned())].into());
    let mut world = World::new(task, Some(plain_agent()));
    world.settle(0);
    let job = world.job();
    assert_eq!(job.spec.unwrap().suspend, Some(true));
    assert_eq!(job.metadata.labels.unwrap()["kueue.x-k8s.io/queue-name"], "gpu");
    assert_eq!(world.line(), "Pending Suspended: waits in the Kueue queue \"gpu\"");
}
