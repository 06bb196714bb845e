//! Agents say what they do and what they lack; a KubeTaskConfig is read where it is named default.

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubetask_api::{Agent, AgentStatus, Task, TaskPhase, conditions, reasons};
use kubetask_testkit::{Script, TestCluster, TestConfig};

use crate::{agent, task};

async fn wait_for(
    cluster: &TestCluster,
    name: &str,
    what: &str,
    wished: impl Fn(&AgentStatus) -> bool + Send + Sync,
) -> anyhow::Result<AgentStatus> {
    let wished = |agent: Option<&Agent>| agent.and_then(|a| a.status.as_ref()).is_some_and(&wished);
    let agent = cluster.wait_for(&cluster.api::<Agent>(), name, what, wished).await?;
    Ok(agent.unwrap().status.unwrap())
}

fn counts(active: i32, queued: i32) -> impl Fn(&AgentStatus) -> bool {
    move |status| (status.active_tasks, status.queued_tasks) == (Some(active), Some(queued))
}

fn ready(status: &AgentStatus) -> (&str, &str) {
    conditions::find(&status.conditions, conditions::READY).map_or(("", ""), |c| (&c.status, &c.reason))
}

#[tokio::test]
async fn agent_tells_how_many_tasks_it_has() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&agent("a", "{maxConcurrentTasks: 2}")).await?;
    let idle = wait_for(&cluster, "a", "idle", counts(0, 0)).await?;
    assert_eq!(ready(&idle), ("True", reasons::READY));
    cluster.apply(&(0..5).map(|n| task(&format!("t{n}"), "{agentRef: a, prompt: hi}")).collect::<String>()).await?;
    wait_for(&cluster, "a", "busy", counts(2, 3)).await?;
    for n in 0..5 {
        cluster.api::<Task>().delete(&format!("t{n}"), &DeleteParams::background()).await?;
    }
    wait_for(&cluster, "a", "idle again", counts(0, 0)).await?;
    // Tasks do not depend on it: they are not looked at because it was written.
    assert!(cluster.requests().count("patch", "agents/status") < 12);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn agent_names_what_is_missing_and_heals() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    let spec = "{credentials: [{name: c, secretRef: {name: token}}], defaultContexts: [
        {type: File, file: {filePath: /g, source: {configMapKeyRef: {name: guide, key: k}}}},
        {type: File, file: {filePath: /o, source: {configMapKeyRef: {name: other, key: k, optional: true}}}}]}";
    cluster.apply(&agent("a", spec)).await?;
    let lacks = wait_for(&cluster, "a", "lacking", |s| ready(s) == ("False", reasons::CONFIG_MAP_NOT_FOUND)).await?;
    let message = &conditions::find(&lacks.conditions, conditions::READY).unwrap().message;
    assert!(message.contains("ConfigMap \"guide\", Secret \"token\""), "{message}");
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: guide}, data: {k: v}}").await?;
    wait_for(&cluster, "a", "half", |s| ready(s) == ("False", reasons::SECRET_NOT_FOUND)).await?;
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: token}, stringData: {k: v}}").await?;
    wait_for(&cluster, "a", "ready", |s| ready(s) == ("True", reasons::READY)).await?;
    cluster.api::<k8s_openapi::api::core::v1::Secret>().delete("token", &DeleteParams::background()).await?;
    wait_for(&cluster, "a", "lacking again", |s| ready(s) == ("False", reasons::SECRET_NOT_FOUND)).await?;
    cluster.shutdown().await;
    Ok(())
}

/// Who is first counts from the first moment on, in whatever order the Tasks are seen.
#[tokio::test]
async fn queue_goes_by_priority_then_age_when_the_operator_starts() -> anyhow::Result<()> {
    const TASKS: usize = 8;
    let config = TestConfig { without_operator: true, ..TestConfig::default() };
    let mut cluster = TestCluster::with(config).await?;
    cluster.apply(&agent("a", "{maxConcurrentTasks: 1}")).await?;
    // The later a name comes in lists, the more urgent it is.
    for n in 0..TASKS {
        cluster.apply(&task(&format!("t{n}"), &format!("{{agentRef: a, prompt: hi, priority: {n}}}"))).await?;
    }
    cluster.start_operator();
    for n in 0..TASKS {
        cluster.wait_for_phase(&format!("t{n}"), TaskPhase::Completed).await?;
    }
    let all = cluster.api::<Task>().list(&ListParams::default()).await?;
    let order: Vec<String> = cluster
        .engine()
        .started()
        .iter()
        .filter_map(|spec| spec.env.iter().find(|(name, _)| name == "TASK_NAME").map(|(_, value)| value.clone()))
        .collect();
    let mut expect: Vec<String> = all.items.iter().map(ResourceExt::name_any).collect();
    expect.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(order, expect);
    cluster.shutdown().await;
    Ok(())
}
