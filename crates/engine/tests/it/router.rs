//! The router: names, defaults, and finding a container again.

use std::sync::Arc;

use kubetask_engine::spec::ContainerId;
use kubetask_engine::{ContainerEngine, EngineError, EngineRouter, FakeEngine};

use crate::world::World;

#[tokio::test]
async fn routes() {
    let (local, docker) = (FakeEngine::named("local"), FakeEngine::named("docker"));
    let engines: Vec<Arc<dyn ContainerEngine>> = vec![Arc::new(local.clone()), Arc::new(docker.clone())];
    let router = EngineRouter::new(engines);
    assert_eq!(router.names(), ["local", "docker"]);
    assert_eq!(router.engine(None).unwrap().name(), "local");
    assert_eq!(router.engine(Some("Docker")).unwrap().name(), "docker");
    let error = router.engine(Some("podman")).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "no engine \"podman\" here (there is: local, docker)");

    let world = World::fake().await.unwrap();
    let spec = world.sh("sleep 1000");
    docker.start(&spec).await.unwrap();
    let found = async |route| router.locate(&spec.id, route).await.map(|engine| engine.name());
    assert_eq!(found(Some("docker")).await.unwrap(), "docker");
    assert_eq!(found(Some("local")).await.unwrap(), "docker", "the route is stale: the others are asked");
    assert_eq!(found(None).await.unwrap(), "docker");
    local.unavailable(Some("down"));
    assert_eq!(found(None).await.unwrap(), "docker");
    docker.unavailable(Some("down"));
    assert!(matches!(found(None).await, Err(EngineError::Unavailable { .. })), "it may be there: not \"not found\"");
    local.unavailable(None);
    docker.unavailable(None);
    let nobody = ContainerId("nobody".to_owned());
    assert!(matches!(router.locate(&nobody, None).await, Err(EngineError::NotFound(_))));
}

#[tokio::test]
async fn everything_new_may_go_to_one_engine() {
    let engines: Vec<Arc<dyn ContainerEngine>> =
        vec![Arc::new(FakeEngine::named("kubernetes")), Arc::new(FakeEngine::named("local"))];
    let router = EngineRouter::new(engines);
    assert_eq!(router.choose(Some("local")).unwrap().name(), "local");
    assert!(router.choose(Some("docker")).is_err());
    let router = router.all_to_default();
    for asked in [None, Some("local"), Some("docker")] {
        assert_eq!(router.choose(asked).unwrap().name(), "kubernetes");
    }
    assert_eq!(router.stored("local").unwrap().name(), "local", "what runs stays where it is");
}

#[tokio::test]
async fn a_stored_route_that_is_wrong() {
    let (local, docker) = (FakeEngine::named("local"), FakeEngine::named("docker"));
    let engines: Vec<Arc<dyn ContainerEngine>> = vec![Arc::new(local.clone()), Arc::new(docker.clone())];
    let router = EngineRouter::new(engines);
    let world = World::fake().await.unwrap();
    let (spec, other) = (world.sh("sleep 1000"), world.sh("sleep 1000"));
    docker.start(&spec).await.unwrap();
    let stored = router.stored("local").unwrap();
    assert_eq!(stored.inspect(&spec.id).await.unwrap().id, spec.id);
    stored.start(&spec).await.unwrap();
    stored.start(&other).await.unwrap();
    assert_eq!(local.list(None).await.unwrap().len(), 1, "only the new one is started where the route says");
    stored.stop(&spec.id, std::time::Duration::ZERO).await.unwrap();
    stored.remove(&spec.id).await.unwrap();
    assert!(docker.list(None).await.unwrap().is_empty());
    docker.unavailable(Some("down"));
    let gone = stored.inspect(&spec.id).await.unwrap_err();
    assert!(matches!(gone, EngineError::NotFound(_)), "what the route's engine says counts: {gone}");
    assert!(router.stored("podman").is_err());
}
