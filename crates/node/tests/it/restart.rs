use std::sync::Arc;
use std::time::Duration;

use kubetask_engine::fake::Script;
use kubetask_engine::spec::ContainerId;
use kubetask_engine::{ContainerEngine, EngineRouter, FakeEngine};
use serde_json::json;

use crate::world::{World, id, until};

#[tokio::test(flavor = "multi_thread")]
async fn running_containers_are_found_again() {
    let mut world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let going = world.create("going", json!({"restartPolicy": "Never"})).await;
    let ending = world.create("ending", json!({"restartPolicy": "Never"})).await;
    world.phase("going", "Running").await;
    let before = world.phase("ending", "Running").await;
    world.stop_node().await;
    // The world goes on without the node.
    world.engine.finish(&id(&ending, "main", 0), 5);
    world.start_node().await;
    let after = world.phase("ending", "Failed").await;
    let terminated = &after["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 5);
    assert_eq!(terminated["startedAt"], before["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]);
    assert_eq!(world.phase("going", "Running").await["status"]["containerStatuses"][0]["restartCount"], 0);
    world.engine.finish(&id(&going, "main", 0), 0);
    world.phase("going", "Succeeded").await;
    for pod in [&going, &ending] {
        assert_eq!(world.engine.starts(&id(pod, "main", 0)), 1, "started once");
    }
    assert_eq!(world.engine.started().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stopped_at_any_moment_starts_nothing_twice() {
    let mut world = World::new().await;
    world.engine.always(Script::exits(0).after(Duration::from_millis(15)));
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "i:1"}],
        "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]});
    let mut pods = Vec::new();
    for index in 0..12_u64 {
        pods.push(world.create(&format!("p{index}"), spec.clone()).await);
        tokio::time::sleep(Duration::from_millis(index * 3)).await;
        world.stop_node().await;
        world.start_node().await;
    }
    for (index, pod) in pods.iter().enumerate() {
        world.phase(&format!("p{index}"), "Succeeded").await;
        for name in ["i", "a", "b"] {
            assert_eq!(world.engine.starts(&id(pod, name, 0)), 1, "p{index} {name}");
            assert_eq!(world.engine.starts(&id(pod, name, 1)), 0, "p{index} {name} again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_go_once_the_list_was_read() {
    let mut world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let kept = world.create("kept", json!({})).await;
    let lost = world.create("lost", json!({})).await;
    world.phase("kept", "Running").await;
    world.phase("lost", "Running").await;
    world.stop_node().await;
    // Removed by force while nobody looked: the finalizing node is away.
    world.delete("lost", 0).await;
    world.gone("lost").await;
    let directory = world.root.path().join("node/pods").join(lost.metadata.uid.as_deref().unwrap());
    assert!(directory.exists());
    let stray = ContainerId("stray".to_owned());
    world.start_node().await;
    until("the orphan's directory is removed", || !directory.exists()).await;
    let engine = world.engine.clone();
    let list = || async { engine.list(None).await.unwrap().into_iter().map(|state| state.id).collect::<Vec<_>>() };
    let began = std::time::Instant::now();
    while list().await.contains(&id(&lost, "main", 0)) {
        assert!(began.elapsed() < Duration::from_secs(10), "the orphan is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(list().await, [id(&kept, "main", 0)]);
    assert_ne!(list().await[0], stray);
    assert_eq!(world.engine.starts(&id(&kept, "main", 0)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_lost_is_not_run_again() {
    let mut world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let pod = world.create("p", json!({"restartPolicy": "Never"})).await;
    world.phase("p", "Running").await;
    world.stop_node().await;
    // The machine was reset: neither engine nor disk know anything.
    std::fs::remove_dir_all(world.root.path().join("node")).unwrap();
    world.engine.finish(&id(&pod, "main", 0), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.engine.remove(&id(&pod, "main", 0)).await.unwrap();
    world.start_node().await;
    let status = world.phase("p", "Failed").await;
    let terminated = &status["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&json!("ContainerStatusUnknown"), &json!(137)));
    assert_eq!(world.engine.starts(&id(&pod, "main", 0)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_made_anew_from_the_engine() {
    let mut world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let pod = world.create("p", json!({"restartPolicy": "Never"})).await;
    world.phase("p", "Running").await;
    world.stop_node().await;
    let record = world.root.path().join("node/pods").join(pod.metadata.uid.as_deref().unwrap()).join("record.json");
    std::fs::write(record, "{\"version\":1,\"slots\":[").unwrap();
    world.start_node().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.engine.finish(&id(&pod, "main", 0), 4);
    let status = world.phase("p", "Failed").await;
    assert_eq!(status["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
    assert_eq!(world.engine.started().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_engine_is_not_configured_any_more_is_left_as_it_was() {
    let mut world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let pod = world.create("p", json!({"restartPolicy": "Never"})).await;
    let before = world.phase("p", "Running").await;
    world.stop_node().await;
    let mut config = world.config();
    config.engines = Arc::new(EngineRouter::new(vec![Arc::new(FakeEngine::named("other"))]));
    world.start_node_with(config).await;
    let events = world.events("p", 5).await;
    assert!(events.iter().any(|event| event.contains("cannot be looked for")), "{events:#?}");
    assert_eq!(world.phase("p", "Running").await["status"], before["status"]);
    world.stop_node().await;
    world.start_node().await;
    world.engine.finish(&id(&pod, "main", 0), 0);
    world.phase("p", "Succeeded").await;
    assert_eq!(world.engine.started().len(), 1);
}
