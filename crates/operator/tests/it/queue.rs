//! Agents that carry out so many Tasks at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster};
use serde_json::json;

use crate::{agent, status, task};

/// The Tasks that have a Job and have not ended.
async fn active(cluster: &TestCluster) -> anyhow::Result<BTreeSet<String>> {
    let all = cluster.api::<Task>().list(&ListParams::default()).await?;
    let is = |t: &&Task| t.status.as_ref().is_some_and(|s| s.job_name.is_some()) && !t.phase().is_finished();
    Ok(all.items.iter().filter(is).map(ResourceExt::name_any).collect())
}

#[tokio::test]
async fn agent_runs_no_more_than_its_limit_at_a_time() -> anyhow::Result<()> {
    const TASKS: usize = 12;
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    // Agent and Tasks at once: the limit counts although the operator has just learned of it.
    let all: String = (0..TASKS).map(|n| task(&format!("t{n:02}"), "{agentRef: a, prompt: hi}")).collect();
    cluster.apply(&(agent("a", "{maxConcurrentTasks: 2}") + &all)).await?;
    let mut ended = BTreeSet::new();
    while ended.len() < TASKS {
        let running = active(&cluster).await?;
        assert!(running.len() <= 2, "{running:?}");
        for name in running {
            let phase = cluster.task(&name).await?.phase();
            if phase == TaskPhase::Running && ended.insert(name.clone()) {
                let container = cluster.wait_for_agent(&name, 1).await?;
                cluster.engine().finish(&container.id, 0);
                cluster.wait_for_phase(&name, TaskPhase::Completed).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(cluster.requests().count("create", "jobs"), TASKS);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn priority_goes_first_and_the_place_is_told() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&(agent("a", "{maxConcurrentTasks: 1}") + &task("busy", "{agentRef: a, prompt: hi}"))).await?;
    cluster.wait_for_phase("busy", TaskPhase::Running).await?;
    cluster.apply(&task("low", "{agentRef: a, prompt: hi}")).await?;
    cluster.wait_for_reason("low", reasons::AGENT_BUSY).await?;
    cluster.apply(&task("high", "{agentRef: a, prompt: hi, priority: 5}")).await?;
    let place = |place: i32| move |t: &Task| t.status.as_ref().and_then(|s| s.queue_position) == Some(place);
    cluster.wait_for_task("high", "first", place(1)).await?;
    let low = cluster.wait_for_task("low", "second", place(2)).await?;
    assert!(status(&low).message.as_deref().unwrap().contains("number 2 in its queue"), "{:?}", status(&low));
    assert_eq!(low.phase(), TaskPhase::Pending);

    // Its turn comes when the place is free; a place is free when a Task is deleted, too.
    cluster.api::<Task>().delete("busy", &DeleteParams::background()).await?;
    let high = cluster.wait_for_phase("high", TaskPhase::Running).await?;
    assert_eq!(status(&high).queue_position, None);
    cluster.wait_for_task("low", "first", place(1)).await?;
    // A Task that waits for something else does not hold up those behind it.
    cluster.patch::<Task>("low", json!({"spec": {"suspend": true}})).await?;
    cluster.wait_for_reason("low", reasons::SUSPENDED).await?;
    cluster.apply(&task("next", "{agentRef: a, prompt: hi}")).await?;
    cluster.wait_for_task("next", "first", place(1)).await?;
    cluster.patch::<Task>("high", json!({"spec": {"stop": true}})).await?;
    cluster.wait_for_phase("next", TaskPhase::Running).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn limit_that_is_raised_or_taken_away_counts_at_once() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    // Tasks that started without a limit count as soon as there is one.
    cluster.apply(&(agent("a", "{agentImage: acme}") + &task("t1", "{agentRef: a, prompt: hi}"))).await?;
    cluster.wait_for_phase("t1", TaskPhase::Running).await?;
    cluster.apply(&agent("a", "{maxConcurrentTasks: 1}")).await?;
    // The operator learns of it in its own time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.apply(&(task("t2", "{agentRef: a, prompt: hi}") + &task("t3", "{agentRef: a, prompt: hi}"))).await?;
    cluster.wait_for_reason("t2", reasons::AGENT_BUSY).await?;
    cluster.wait_for_reason("t3", reasons::AGENT_BUSY).await?;
    cluster.apply(&agent("a", "{maxConcurrentTasks: 2}")).await?;
    cluster.wait_for_phase("t2", TaskPhase::Running).await?;
    assert_eq!(cluster.task("t3").await?.phase(), TaskPhase::Pending);
    cluster.apply(&agent("a", "{agentImage: acme}")).await?;
    cluster.wait_for_phase("t3", TaskPhase::Running).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn limit_holds_over_restarts_of_the_operator() -> anyhow::Result<()> {
    const TASKS: usize = 8;
    let mut cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0).after(Duration::from_millis(150)));
    cluster.apply(&agent("a", "{maxConcurrentTasks: 1}")).await?;
    cluster.apply(&(0..TASKS).map(|n| task(&format!("t{n}"), "{agentRef: a, prompt: hi}")).collect::<String>()).await?;
    let mut done = 0;
    for life in 0u64.. {
        let all = cluster.api::<Task>().list(&ListParams::default()).await?;
        done = all.items.iter().filter(|t| t.phase() == TaskPhase::Completed).count();
        if done == TASKS || life > 300 {
            break;
        }
        let running = active(&cluster).await?;
        assert!(running.len() <= 1, "{running:?} in life {life}");
        // Lives grow longer, so that some are long enough on a busy machine.
        tokio::time::sleep(Duration::from_millis(40 + 7 * (life % 10) + 3 * life)).await;
        if life % 3 == 0 {
            cluster.kill_operator();
            // What a dying process has sent may arrive when another has started: that one admits the same Task.
            cluster.start_operator();
        }
    }
    assert_eq!(done, TASKS);
    cluster.shutdown().await;
    Ok(())
}
