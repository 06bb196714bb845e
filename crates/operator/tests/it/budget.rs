//! A Task costs few writes.

use std::collections::BTreeMap;

use kubetask_api::TaskPhase;
use kubetask_testkit::{Script, TestCluster};

use crate::{agent, task};

#[tokio::test]
async fn task_costs_one_config_map_one_secret_one_job_and_three_status_patches() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: s3cret}}\n---\n";
    let spec = "{agentRef: a, prompt: hi, contexts: [
        {type: File, file: {filePath: /workspace/key, source: {secretKeyRef: {name: key, key: token}}}}]}";
    // Everything at once: what is in one manifest must not be reported missing for a moment.
    let all = task("t", spec) + &agent("a", "{agentImage: acme}") + secret;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&all.split("---\n").collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("---\n")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    cluster.engine().finish(&container.id, 0);
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    let expect = [("create configmaps", 1), ("create jobs", 1), ("create secrets", 1), ("patch tasks/status", 3)];
    let mut writes = cluster.requests().writes();
    // Its Agent's status is written once a second at most, however many Tasks it has.
    writes.remove("patch agents/status");
    assert_eq!(writes, BTreeMap::from(expect.map(|(what, n)| (what.to_owned(), n))));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn tasks_that_are_many_cost_no_more_each() -> anyhow::Result<()> {
    const TASKS: usize = 40;
    let cluster = TestCluster::start().await?;
    let all: String = (0..TASKS).map(|n| task(&format!("t{n}"), "{prompt: hi}")).collect();
    cluster.apply(&all).await?;
    for n in 0..TASKS {
        cluster.wait_for_phase(&format!("t{n}"), TaskPhase::Completed).await?;
    }
    let writes = cluster.requests().writes();
    assert_eq!((writes["create jobs"], writes["create configmaps"]), (TASKS, TASKS));
    assert!(writes["patch tasks/status"] <= 3 * TASKS, "{writes:?}");
    assert_eq!(writes.len(), 3, "{writes:?}");
    cluster.shutdown().await;
    Ok(())
}
