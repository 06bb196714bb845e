//! A Task whose Agent names another cluster, as people see it.

use kubetask_api::labels;
use kubetask_core::cluster::{FINALIZER, recorded};
use kubetask_core::task::{Action, ClusterSeen, WAITS_FILE, Waiting};
use serde_json::json;

use crate::fixtures::{agent, secret, task};
use crate::world::World;

fn far(mut world: World) -> World {
    world.seen.cluster = ClusterSeen::Reached { kubeconfig: None };
    world.seen.secrets.insert("away".to_owned(), std::sync::Arc::new(secret("away", &[("kubeconfig", "…")])));
    world.seen.secrets.insert("model".to_owned(), std::sync::Arc::new(secret("model", &[("key", "x")])));
    world
}

fn world() -> World {
    let agent = agent(json!({
        "agentImage": "quay.io/acme/claude:1",
        "command": ["claude", "-p", "costs $$(5)"],
        "serviceAccountName": "robot-there",
        "cluster": {"kubeconfigSecretRef": {"name": "away"}, "namespace": "agents"},
        "credentials": [{"name": "key", "secretRef": {"name": "model", "key": "key"}, "env": "KEY"}],
        "imagePullSecrets": [{"name": "registry"}],
    }));
    far(World::new(
        task(json!({"prompt": "Fix the login.", "agentRef": "claude", "retries": 2, "timeoutSeconds": 60})),
        Some(agent),
    ))
}

#[test]
fn a_relay_runs_here_and_is_told_what_to_make_there() {
    let plan = world().plan(0);
    let mut out = String::new();
    for action in &plan.actions {
        match action {
            Action::HoldForCluster { record } => out += &format!("hold: {record}\n"),
            Action::CreateJob(job) => {
                let mut job = serde_json::to_value(job).unwrap();
                let env = job.pointer_mut("/spec/template/spec/containers/0/env/0/value").unwrap().take();
                let spec: serde_json::Value = serde_json::from_str(&env.as_str().unwrap().replace("$$", "$")).unwrap();
                job.pointer_mut("/spec/template/spec/initContainers/0/env/0/value").unwrap().take();
                out += &format!(
                    "---\n{}--- # there\n{}",
                    serde_saphyr::to_string(&job).unwrap(),
                    serde_saphyr::to_string(&spec).unwrap()
                );
            }
            Action::PutConfigMap(map) => out += &format!("put ConfigMap {}\n", map.metadata.name.as_ref().unwrap()),
            other => panic!("unexpected {other:?}"),
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_cluster_that_cannot_be_used_is_waited_for() {
    let mut world = world();
    let waiting =
        Waiting::ClusterUnavailable { cluster: "Secret away".to_owned(), said: "connection refused".to_owned() };
    world.seen.cluster = ClusterSeen::Trouble(waiting.clone());
    let plan = world.plan(0);
    assert_eq!(plan.why, [waiting]);
    assert_eq!(plan.wake_at, Some(crate::fixtures::at(10)));
    assert!(plan.actions.is_empty());
}

#[test]
fn a_task_that_goes_takes_its_job_there_with_it() {
    let mut world = world();
    let Some(Action::HoldForCluster { record }) = world.plan(0).actions.into_iter().next() else { panic!("not held") };
    let metadata = &mut world.task.metadata;
    metadata.annotations = Some([("kubetask.io/cluster".to_owned(), record)].into());
    metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    let held = recorded(&world.task).unwrap();
    assert_eq!((held.job.as_str(), held.job_namespace.as_str()), ("fix-login-0a1b2c", "agents"));
    assert!(!world.plan(0).actions.iter().any(|a| matches!(a, Action::HoldForCluster { .. })), "held already");
    world.task.metadata.deletion_timestamp = serde_json::from_value(json!("2027-01-15T08:00:00Z")).unwrap();
    assert_eq!(world.plan(0).actions, [Action::ReleaseCluster { record: Some(Box::new(held)) }]);
}

#[test]
fn a_directory_of_this_machine_is_not_on_another_cluster() {
    let mut world = world();
    world.task.spec.contexts = serde_json::from_value(json!([
        {"type": "Repository", "repository": {"url": "file:///home/me/project", "path": "/workspace/src"}},
    ]))
    .unwrap();
    let why = world.plan(0).why;
    assert!(matches!(why.as_slice(), [Waiting::Invalid { what }] if what.contains("/home/me/project")), "{why:?}");
}

#[test]
fn what_the_relay_tells_is_how_the_task_ended() {
    let task = crate::fixtures::prompt_task();
    let job: k8s_openapi::api::batch::v1::Job = serde_json::from_value(json!({
        "metadata": {"name": "fix-login-0a1b2c"},
        "status": {"completionTime": "2027-01-15T08:05:00Z", "conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": "2027-01-15T08:05:00Z"}]},
    }))
    .unwrap();
    let pod =
        crate::fixtures::pod(&task, 1, "Succeeded", json!({"terminated": {"exitCode": 0, "message": "well done"}}));
    let told =
        kubetask_core::cluster::told(crate::fixtures::at(900), &task, &job, &[std::sync::Arc::new(pod)]).unwrap();
    assert!(told.completed);
    assert_eq!((told.exit_code, told.result.as_deref()), (Some(0), Some("well done")));
}

#[test]
fn a_relay_waits_for_a_person_as_its_agent_does() {
    let mut world = world();
    let human = json!({"enabled": true, "keepAliveSeconds": 60});
    world.task.spec.human_in_the_loop = Some(serde_json::from_value(human).unwrap());
    let plan = world.plan(0);
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => Some(job),
        _ => None,
    });
    let job = serde_json::to_value(job.unwrap()).unwrap();
    let template = &job["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"][labels::HUMAN], "60");
    let follow = &template["spec"]["containers"][0];
    assert_eq!(follow["startupProbe"]["exec"]["command"], json!(["kubetask", "relay", "waits"]));
    let mounts = follow["volumeMounts"].as_array().unwrap();
    let writable = mounts.iter().find(|mount| mount["readOnly"] != json!(true)).unwrap();
    assert!(WAITS_FILE.starts_with(writable["mountPath"].as_str().unwrap()));
    assert!(template["spec"]["initContainers"][0].get("startupProbe").is_none());
}
