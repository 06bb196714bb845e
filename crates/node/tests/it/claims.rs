use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::PostParams;
use kubetask_engine::fake::Script;
use serde_json::json;

use crate::world::{World, until};

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_directories_that_outlive_pods() {
    let world = World::new().await;
    world.engine.always(Script::exits(0).writes("/data/f", "kept"));
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    let spec = json!({"restartPolicy": "Never", "volumes": volumes,
        "containers": [{"name": "main", "image": "i:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}]});
    world.create("p", spec).await;
    let pod = world.wait("p", |pod| pod.to_string().contains("Unschedulable")).await;
    assert!(pod.to_string().contains("persistentvolumeclaim \\\"data\\\" not found"), "{pod:#}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), "default");
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    world.phase("p", "Succeeded").await;
    let bound = serde_json::to_value(claims.get("data").await.unwrap()).unwrap();
    assert_eq!(bound["status"]["phase"], "Bound");
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    let directory = world.root.path().join("node/claims").join(format!("pvc-{}", claim.metadata.uid.unwrap()));
    assert_eq!(std::fs::read_to_string(directory.join("f")).unwrap(), "kept");
    world.delete("p", 0).await;
    world.gone("p").await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(directory.join("f").exists());
    claims.delete("data", &Default::default()).await.unwrap();
    until("the claim's data is removed", || !directory.exists()).await;
}
