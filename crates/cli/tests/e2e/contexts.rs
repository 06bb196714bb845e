//! PRODUCT, "Contexts".

use kubetask_api::TaskPhase;
use serde_json::json;

use crate::world::World;

fn file(path: &str, source: serde_json::Value) -> serde_json::Value {
    json!({"type": "File", "file": {"filePath": path, "source": source}})
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_from_inline_config_map_and_secret_are_aggregated_in_order() {
    let world = World::new("contexts").await;
    world.config_map("guide", &[("pr.md", "open a pull request")]).await;
    world.config_map("many", &[("a.txt", "A"), ("b.txt", "B")]).await;
    world.secret("key", &[("token", "s3cret")]).await;
    let script = "cat /workspace/task.md; echo; cat /workspace/many/a.txt /workspace/many/b.txt /workspace/token";
    let defaults = json!([file("/workspace/task.md", json!({"inline": "default first"}))]);
    world.agent("a", script, json!({"defaultContexts": defaults})).await;
    let contexts = json!([
        file("/workspace/task.md", json!({"configMapKeyRef": {"name": "guide", "key": "pr.md"}})),
        {"type": "File", "file": {"dirPath": "/workspace/many", "source": {"configMapRef": {"name": "many"}}}},
        file("/workspace/token", json!({"secretKeyRef": {"name": "key", "key": "token"}})),
        file("/workspace/none", json!({"configMapKeyRef": {"name": "none", "key": "x", "optional": true}})),
    ]);
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "the prompt", "contexts": contexts})).await;
    let task = world.phase("t", TaskPhase::Completed).await;
    let log = world.log(&task).await;
    let wrapped = [
        "<context index=\"0\">\ndefault first\n</context>",
        "<context index=\"1\">\nthe prompt\n</context>",
        "<context index=\"2\">\nopen a pull request\n</context>",
    ];
    assert!(log.starts_with(&wrapped.join("\n\n")), "{log}");
    assert!(log.trim_end().ends_with("ABs3cret"), "{log}");
    // Secret content stays out of ConfigMaps.
    let maps = world.api::<k8s_openapi::api::core::v1::ConfigMap>().list(&Default::default()).await.unwrap();
    assert!(!format!("{maps:?}").contains("s3cret"));
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_that_are_missing_are_named_and_heal() {
    let world = World::new("healing").await;
    world
        .ours(
            "Task",
            "t",
            json!({"agentRef": "late", "contexts": [
                file("/workspace/guide", json!({"configMapKeyRef": {"name": "guide", "key": "k"}})),
            ]}),
        )
        .await;
    let task = world.reason("t", "AgentNotFound").await;
    assert!(task.status.unwrap().message.unwrap().contains("late"));
    world.agent("late", "cat /workspace/guide", json!({})).await;
    let task = world.reason("t", "ConfigMapNotFound").await;
    assert!(task.status.unwrap().message.unwrap().contains("guide"));
    world.config_map("guide", &[("k", "here now")]).await;
    let task = world.phase("t", TaskPhase::Completed).await;
    assert_eq!(world.log(&task).await, "here now");
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_get_credentials_env_and_no_token() {
    let world = World::new("agents").await;
    world.secret("cred", &[("token", "t0p"), ("other", "o")]).await;
    let script = "echo $NAME $TOKEN $TASK_NAME; cat /creds/token; stat -c %a /creds/token 2>/dev/null || true; \
                  ls /var/run/secrets/kubernetes.io/serviceaccount 2>/dev/null | wc -l";
    let more = json!({
        "env": [{"name": "NAME", "value": "va lue"}],
        "credentials": [
            {"name": "env", "secretRef": {"name": "cred", "key": "token"}, "env": "TOKEN"},
            {"name": "file", "secretRef": {"name": "cred", "key": "token"}, "mountPath": "/creds/token"},
        ],
    });
    world.agent("a", script, more).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    let task = world.phase("t", TaskPhase::Completed).await;
    let log = world.log(&task).await;
    assert!(log.starts_with("va lue t0p t\nt0p"), "{log}");
    assert!(log.trim_end().ends_with('0'), "no token is mounted: {log}");
    world.done().await;
}
