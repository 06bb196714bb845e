//! What a Task waits for, and that it goes on by itself.

use std::sync::Arc;

use kubetask_core::task::{Admission, Waiting};
use serde_json::{Value, json};

use crate::fixtures::{agent, config_map, plain_agent, prompt_task, secret, task};
use crate::world::World;

fn key(name: &str, key: &str) -> Value {
    json!({"type": "File", "file": {"filePath": format!("/workspace/{key}"), "source": {"configMapKeyRef": {"name": name, "key": key}}}})
}

#[test]
fn an_agent_that_is_named_is_waited_for() {
    let mut world = World::new(prompt_task(), None);
    world.settle(0);
    assert_eq!(
        world.line(),
        "Pending AgentNotFound: Agent \"claude\" does not exist; the Task goes on when it is created"
    );
    assert_eq!(
        world.events,
        ["Warning AgentNotFound: Agent \"claude\" does not exist; the Task goes on when it is created"]
    );
    world.seen.agent = Some(Arc::new(plain_agent()));
    world.settle(1);
    assert_eq!(world.line(), "Pending JobCreated: the Pod is being prepared");
}

#[test]
fn default_is_not_waited_for_unless_named() {
    let mut world = World::new(task(json!({"prompt": "hi"})), None);
    world.settle(0);
    assert_eq!(world.jobs_created, 1);
    let mut world = World::new(task(json!({"prompt": "hi", "agentRef": "default"})), None);
    world.settle(0);
    assert_eq!(world.jobs_created, 0);
}

#[test]
fn missing_objects_heal_one_by_one() {
    let spec =
        json!({"agentRef": "claude", "contexts": [key("guides", "a.md"), key("guides", "b.md"), key("more", "c.md")]});
    let mut world = World::new(task(spec), Some(plain_agent()));
    let plan = world.settle(0);
    assert_eq!(
        plan.why,
        [
            Waiting::ConfigMapMissing { name: "guides".to_owned() },
            Waiting::ConfigMapMissing { name: "more".to_owned() }
        ]
    );
    world.add_config_map(config_map("guides", json!({"a.md": "A"})));
    world.settle(1);
    assert_eq!(
        world.line(),
        "Pending KeyNotFound: ConfigMap \"guides\" has no key \"b.md\"; the Task goes on when it is added; \
         ConfigMap \"more\" does not exist; the Task goes on when it is created"
    );
    world.add_config_map(config_map("guides", json!({"a.md": "A", "b.md": "B"})));
    world.add_config_map(config_map("more", json!({"c.md": "C"})));
    world.settle(2);
    assert_eq!((world.jobs_created, world.files.len()), (1, 1));
}

#[test]
fn optional_references_are_left_out() {
    let optional = |name: &str| {
        json!({"type": "File", "file": {"filePath": "/workspace/task.md",
        "source": {"configMapKeyRef": {"name": name, "key": "k", "optional": true}}}})
    };
    let spec = json!({"contexts": [optional("gone"), optional("there"), optional("nokey")]});
    let mut world = World::new(task(spec), None)
        .with(vec![config_map("there", json!({"k": "as it is"})), config_map("nokey", json!({}))], vec![]);
    world.settle(0);
    let data = world.files[0].data.clone().unwrap();
    assert_eq!(data.into_values().collect::<Vec<_>>(), ["as it is"]);
}

#[test]
fn credentials_are_waited_for() {
    let agent =
        agent(json!({"credentials": [{"name": "t", "secretRef": {"name": "github", "key": "token"}, "env": "T"}]}));
    let mut world = World::new(prompt_task(), Some(agent));
    world.settle(0);
    assert!(world.line().starts_with("Pending SecretNotFound: Secret \"github\" does not exist"), "{}", world.line());
    world = world.with(vec![], vec![secret("github", &[("other", "x")])]);
    world.settle(1);
    assert!(
        world.line().starts_with("Pending KeyNotFound: Secret \"github\" has no key \"token\""),
        "{}",
        world.line()
    );
    world = world.with(vec![], vec![secret("github", &[("token", "x")])]);
    world.settle(2);
    assert_eq!(world.jobs_created, 1);
}

#[test]
fn a_service_account_is_waited_for_where_somebody_looked() {
    let agent = agent(json!({"serviceAccountName": "robot"}));
    let mut world = World::new(prompt_task(), Some(agent));
    world.seen.service_accounts = Some(["default".to_owned()].into());
    world.settle(0);
    assert!(
        world.line().starts_with("Pending ServiceAccountNotFound: service account \"robot\" of Agent \"claude\""),
        "{}",
        world.line()
    );
    world.seen.service_accounts = None;
    world.settle(1);
    assert_eq!(world.jobs_created, 1);
}

#[test]
fn too_large() {
    let big = "x".repeat(700 * 1024);
    let file = |path: &str| json!({"type": "File", "file": {"filePath": path, "source": {"configMapKeyRef": {"name": "big", "key": "k"}}}});
    let mut world =
        World::new(task(json!({"contexts": [file("/workspace/a"), file("/workspace/b"), file("/workspace/b")]})), None)
            .with(vec![config_map("big", json!({"k": big}))], vec![]);
    world.settle(0);
    let line = world.line();
    assert!(line.starts_with("Pending TooLarge: the files are 2101 KiB together"), "{line}");
    assert!(
        line.contains("the largest is /workspace/b with 1400 KiB, mostly from ConfigMap \"big\" key \"k\""),
        "{line}"
    );
}

#[test]
fn what_cannot_be_mounted_together_is_said() {
    let file = |path: &str| json!({"type": "File", "file": {"filePath": path, "source": {"inline": "x"}}});
    let dir = |path: &str| json!({"type": "File", "file": {"dirPath": path, "source": {"configMapRef": {"name": "c", "optional": true}}}});
    let repo = |path: &str| json!({"type": "Repository", "repository": {"url": "https://x/y.git", "path": path}});
    let remote = |path: &str| json!({"type": "RemoteFile", "remoteFile": {"filePath": path, "url": "http://x"}});
    let check = |contexts: Value, expect: &str| {
        let mut world = World::new(task(json!({"contexts": contexts})), None);
        world.settle(0);
        assert_eq!(world.line(), format!("Pending InvalidSpec: {expect}"));
        assert_eq!(world.jobs_created, 0);
    };
    check(json!([file("/w/a"), file("/w/a/b")]), "/w/a/b cannot lie in /w/a, which is a file; use different paths");
    check(
        json!([file("/w/a"), dir("/w/a")]),
        "/w/a is a file in one context and a directory in another; use different paths",
    );
    check(
        json!([dir("/w/a"), dir("/w/a/b")]),
        "the directory /w/a/b cannot lie in the read-only directory /w/a; use different paths",
    );
    check(
        json!([dir("/w/a"), remote("/w/a/b")]),
        "the file /w/a/b cannot lie in the read-only directory /w/a; use different paths",
    );
    check(
        json!([repo("/w/a"), repo("/w/a")]),
        "/w/a is a repository in one context and a repository in another; use different paths",
    );
    check(json!([file("/workspace")]), "/workspace is the workspace itself; choose a path below it");
    check(
        json!([file("/workspace/../etc/passwd")]),
        "filePath \"/workspace/../etc/passwd\" is not an absolute, clean path",
    );
}

#[test]
fn credentials_and_contexts_may_not_share_a_path() {
    let agent = agent(
        json!({"credentials": [{"name": "t", "secretRef": {"name": "s", "key": "k"}, "mountPath": "/workspace/task.md"}]}),
    );
    let mut world = World::new(prompt_task(), Some(agent)).with(vec![], vec![secret("s", &[("k", "v")])]);
    world.settle(0);
    assert!(
        world.line().starts_with("Pending InvalidSpec: two things want to be mounted at /workspace/task.md"),
        "{}",
        world.line()
    );
}

#[test]
fn human_in_the_loop_needs_a_command() {
    let spec = json!({"prompt": "hi", "agentRef": "claude", "humanInTheLoop": {"enabled": true}});
    let mut world = World::new(task(spec), Some(agent(json!({}))));
    world.settle(0);
    assert!(
        world.line().starts_with("Pending InvalidSpec: humanInTheLoop needs the Agent's command"),
        "{}",
        world.line()
    );
}

#[test]
fn suspend_before_the_job_exists() {
    let mut world = World::new(task(json!({"prompt": "hi", "suspend": true})), None);
    world.settle(0);
    assert_eq!(world.line(), "Pending Suspended: suspended; set spec.suspend to false to go on");
    world.task.spec.suspend = Some(false);
    world.settle(1);
    assert_eq!(world.jobs_created, 1);
}

#[test]
fn a_busy_agent_queues() {
    let mut world = World::new(prompt_task(), Some(plain_agent()));
    world.seen.admission = Admission::Queued { position: 2, limit: 1, behind: Some("other".to_owned()) };
    world.settle(0);
    assert_eq!(
        world.line(),
        "Pending AgentBusy: Agent \"claude\" runs 1 Task at a time; this one is number 2 in its queue"
    );
    assert_eq!(world.status().queue_position, Some(2));
    world.seen.admission = Admission::Free;
    world.settle(1);
    assert_eq!((world.jobs_created, world.status().queue_position), (1, None));
}

#[test]
fn a_refused_job_is_tried_again() {
    let mut world = World::new(prompt_task(), Some(plain_agent()));
    world.seen.refused = Some("exceeded quota: jobs".to_owned());
    let plan = world.settle(0);
    assert_eq!(
        world.line(),
        "Pending JobRejected: the Job was refused: exceeded quota: jobs; it is tried again every half minute"
    );
    assert_eq!(plan.wake_at, Some(crate::fixtures::at(30)));
    world.seen.refused = None;
    world.settle(30);
    assert_eq!(world.jobs_created, 1);
}
