//! What is missing is named, and the Task goes on the moment it appears.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::DeleteParams;
use kubetask_api::{Agent, TaskPhase, conditions, reasons};
use kubetask_testkit::{Script, TestCluster};

use crate::{agent, jobs, reason, status, task};

const GUIDE: &str =
    "{type: File, file: {filePath: /workspace/g.md, source: {configMapKeyRef: {name: guides, key: style}}}}";

fn guide(data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: guides}}, data: {data}}}")
}

/// A Task that waits for something; what its status must name; and what heals it.
async fn check(before: &str, spec: &str, because: &str, names: &str, heal: &str) -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0));
    if !before.is_empty() {
        cluster.apply(before).await?;
    }
    cluster.apply(&task("t", spec)).await?;
    let waits = cluster.wait_for_reason("t", because).await?;
    assert_eq!(waits.phase(), TaskPhase::Pending);
    let message = status(&waits).message.as_deref().unwrap_or_default();
    assert!(message.contains(names), "{message}");
    assert!(jobs(&cluster).await?.is_empty());
    cluster.apply(heal).await?;
    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    for condition in [conditions::ACCEPTED, conditions::CONTEXTS_RESOLVED, conditions::ADMITTED] {
        assert!(reason(&done, condition, "True").is_some(), "{condition}: {:?}", status(&done).conditions);
    }
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn agent_missing() -> anyhow::Result<()> {
    let spec = "{agentRef: claude, prompt: hi}";
    check("", spec, reasons::AGENT_NOT_FOUND, "\"claude\"", &agent("claude", "{agentImage: acme}")).await
}

#[tokio::test]
async fn service_account_missing() -> anyhow::Result<()> {
    let agent =
        "{apiVersion: kubetask.io/v1alpha1, kind: Agent, metadata: {name: a}, spec: {serviceAccountName: robot}}";
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}";
    let spec = "{agentRef: a, prompt: hi}";
    check(agent, spec, reasons::SERVICE_ACCOUNT_NOT_FOUND, "\"robot\"", account).await
}

#[tokio::test]
async fn config_map_missing() -> anyhow::Result<()> {
    let spec = format!("{{contexts: [{GUIDE}]}}");
    check("", &spec, reasons::CONFIG_MAP_NOT_FOUND, "\"guides\"", &guide("{style: brief}")).await
}

#[tokio::test]
async fn config_map_without_the_key() -> anyhow::Result<()> {
    let spec = format!("{{contexts: [{GUIDE}]}}");
    let before = guide("{stile: brief}");
    check(&before, &spec, reasons::KEY_NOT_FOUND, "\"style\"", &guide("{stile: brief, style: brief}")).await
}

#[tokio::test]
async fn whole_config_map_missing() -> anyhow::Result<()> {
    let spec = "{contexts: [{type: File, file: {dirPath: /guides, source: {configMapRef: {name: guides}}}}]}";
    check("", spec, reasons::CONFIG_MAP_NOT_FOUND, "\"guides\"", &guide("{style: brief}")).await
}

#[tokio::test]
async fn secret_missing() -> anyhow::Result<()> {
    let spec =
        "{contexts: [{type: File, file: {filePath: /workspace/k, source: {secretKeyRef: {name: key, key: token}}}}]}";
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: x}}";
    check("", spec, reasons::SECRET_NOT_FOUND, "\"key\"", secret).await
}

#[tokio::test]
async fn secret_without_the_key() -> anyhow::Result<()> {
    let before = agent("a", "{credentials: [{name: c, secretRef: {name: key, key: token}, env: TOKEN}]}")
        + "{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {other: x}}";
    let heal = "{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {other: x, token: z}}";
    check(&before, "{agentRef: a, prompt: hi}", reasons::KEY_NOT_FOUND, "\"token\"", heal).await
}

#[tokio::test]
async fn everything_missing_is_named_and_heals_in_any_order() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0));
    let spec = format!(
        "{{agentRef: a, contexts: [{GUIDE}, {{type: File, file: {{filePath: /workspace/k, source: {{secretKeyRef: {{name: key, key: token}}}}}}}}]}}"
    );
    cluster.apply(&task("t", &spec)).await?;
    cluster.wait_for_reason("t", reasons::AGENT_NOT_FOUND).await?;
    // Without its Agent nobody knows all its contexts.
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: x}}").await?;
    cluster
        .apply(&agent(
            "a",
            "{defaultContexts: [{type: File, file: {dirPath: /more, source: {configMapRef: {name: more}}}}]}",
        ))
        .await?;
    let waits = cluster.wait_for_reason("t", reasons::CONFIG_MAP_NOT_FOUND).await?;
    let message = status(&waits).message.clone().unwrap();
    assert!(message.contains("\"guides\"") && message.contains("\"more\""), "{message}");
    cluster.apply(&guide("{style: brief}")).await?;
    let said = |message: &str| !message.contains("\"guides\"") && message.contains("\"more\"");
    cluster
        .wait_for_task("t", "waiting for one thing", |t| said(status(t).message.as_deref().unwrap_or_default()))
        .await?;
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: more}, data: {a: b}}").await?;
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn optional_things_are_not_waited_for_but_used() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    let optional = "{prompt: hi, contexts: [
        {type: File, file: {filePath: /workspace/g.md, source: {configMapKeyRef: {name: guides, key: style, optional: true}}}},
        {type: File, file: {dirPath: /secrets, source: {secretRef: {name: none, optional: true}}}}]}";
    cluster.apply(&task("without", optional)).await?;
    let container = cluster.wait_for_agent("without", 1).await?;
    assert!(cluster.file(&container, "/workspace/task.md").is_ok());
    assert!(cluster.file(&container, "/workspace/g.md").is_err());
    // Created just before the Task: the operator's watch may not have told of it yet.
    cluster.apply(&(guide("{style: brief}") + "\n---\n" + &task("with", optional))).await?;
    let container = cluster.wait_for_agent("with", 1).await?;
    assert_eq!(cluster.file(&container, "/workspace/g.md")?, "brief");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn agent_named_default_is_used_even_when_it_came_just_before() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0));
    for round in 0..5 {
        let image = format!("acme:{round}");
        let name = format!("t{round}");
        cluster
            .apply(&(agent("default", &format!("{{agentImage: '{image}'}}")) + &task(&name, "{prompt: hi}")))
            .await?;
        let done = cluster.wait_for_phase(&name, TaskPhase::Completed).await?;
        assert_eq!(reason(&done, conditions::ACCEPTED, "True"), Some(reasons::ACCEPTED));
        if round == 0 {
            assert_eq!(cluster.agents(&name)[0].image, image);
        }
        cluster.api::<Agent>().delete("default", &DeleteParams::default()).await?;
    }
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn deleted_and_created_again() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster
        .apply(&(guide("{style: old}") + "\n---\n" + &task("t", &format!("{{suspend: true, contexts: [{GUIDE}]}}"))))
        .await?;
    cluster.wait_for_reason("t", reasons::SUSPENDED).await?;
    cluster.api::<ConfigMap>().delete("guides", &DeleteParams::default()).await?;
    cluster.wait_for_reason("t", reasons::CONFIG_MAP_NOT_FOUND).await?;
    cluster.patch::<kubetask_api::Task>("t", serde_json::json!({"spec": {"suspend": false}})).await?;
    cluster.apply(&guide("{style: new}")).await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    assert_eq!(cluster.file(&container, "/workspace/g.md")?, "new");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_goes_while_the_task_waits_is_named_too() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0));
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: x}}").await?;
    cluster.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}").await?;
    let agent = "{apiVersion: kubetask.io/v1alpha1, kind: Agent, metadata: {name: a}, spec: {serviceAccountName: robot,
        credentials: [{name: c, secretRef: {name: key}}]}}";
    cluster.apply(&(agent.to_owned() + "\n---\n" + &task("t", "{agentRef: a, prompt: hi, suspend: true}"))).await?;
    cluster.wait_for_reason("t", reasons::SUSPENDED).await?;
    cluster.api::<Secret>().delete("key", &DeleteParams::default()).await?;
    cluster.wait_for_reason("t", reasons::SECRET_NOT_FOUND).await?;
    cluster.api::<ServiceAccount>().delete("robot", &DeleteParams::default()).await?;
    cluster.wait_for_reason("t", reasons::SERVICE_ACCOUNT_NOT_FOUND).await?;
    cluster.api::<Agent>().delete("a", &DeleteParams::default()).await?;
    cluster.wait_for_reason("t", reasons::AGENT_NOT_FOUND).await?;
    cluster.shutdown().await;
    Ok(())
}
