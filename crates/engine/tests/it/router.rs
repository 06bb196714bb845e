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
