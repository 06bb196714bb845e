//! PRODUCT, "Agents": human in the loop with keep-alive.

use kubetask_api::TaskPhase;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn agents_human_in_the_loop_waits_for_a_person_and_ends_with_the_agents_exit_code() {
    let world = World::new("human").await;
    world.agent("a", "echo worked; exit 4", json!({"humanInTheLoop": {"enabled": true, "keepAliveSeconds": 8}})).await;
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x"})).await;
    let waits = world.reason("t", "WaitingForHuman").await;
    assert_eq!(waits.phase(), TaskPhase::Running);
    let message = waits.status.as_ref().unwrap().message.clone().unwrap();
    assert!(message.contains("kubetask exec") && message.contains("8 seconds"), "{message}");
    assert!(world.log(&waits).await.contains("worked"), "the agent has worked");
    let ended = world.phase("t", TaskPhase::Failed).await;
    assert_eq!(ended.status.as_ref().unwrap().exit_code, Some(4));
    assert!(world.log(&ended).await.contains("kubetask: the agent ended with exit code 4"));
    world.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_human_in_the_loop_is_ended_early_by_stop() {
    let world = World::new("human-stop").await;
    world.agent("a", "true", json!({})).await;
    let human = json!({"enabled": true, "keepAliveSeconds": 3600});
    world.ours("Task", "t", json!({"agentRef": "a", "prompt": "x", "humanInTheLoop": human})).await;
    world.reason("t", "WaitingForHuman").await;
    world.patch("t", json!({"spec": {"stop": true}})).await;
    let ended = world.task("t", "over", |task| task.phase().is_finished()).await;
    assert!(world.log(&ended).await.contains("enter it"), "its log stays");
    world.done().await;
}
