//! Definitions of another version let objects in that this operator cannot read: they are passed over, and the others are
//! carried out.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use kubetask_api::{Agent, Task, TaskPhase};
use kubetask_testkit::{TestCluster, TestConfig};
use serde_json::json;

use crate::{agent, task};

/// From now on everything passes for an object of the kind.
async fn accept_anything(cluster: &TestCluster, name: &str) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut definition = definitions.get(name).await?;
    for version in &mut definition.spec.versions {
        let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        version.schema = Some(serde_json::from_value(anything)?);
        version.selectable_fields = None;
        version.subresources.as_mut().unwrap().scale = None;
    }
    definitions.replace(name, &PostParams::default(), &definition).await?;
    Ok(())
}

async fn create<K: kube::Resource<DynamicType = ()>>(
    cluster: &TestCluster,
    name: &str,
    spec: serde_json::Value,
) -> anyhow::Result<()> {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::default_namespaced_with(cluster.client(), &resource);
    api.create(&PostParams::default(), &DynamicObject::new(name, &resource).data(json!({ "spec": spec }))).await?;
    Ok(())
}

#[tokio::test]
async fn tasks_that_cannot_be_read_are_there_at_the_start() -> anyhow::Result<()> {
    let mut cluster = TestCluster::with(TestConfig { without_operator: true, ..TestConfig::default() }).await?;
    accept_anything(&cluster, "tasks.kubetask.io").await?;
    create::<Task>(&cluster, "odd", json!({"prompt": ["no text"]})).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.start_operator();
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn tasks_and_agents_that_cannot_be_read_come_later() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply(&task("before", "{prompt: hi}")).await?;
    cluster.wait_for_phase("before", TaskPhase::Completed).await?;
    for kind in ["tasks.kubetask.io", "agents.kubetask.io"] {
        accept_anything(&cluster, kind).await?;
    }
    create::<Task>(&cluster, "odd", json!({"prompt": "hi", "priority": "high"})).await?;
    create::<Agent>(&cluster, "odd", json!("no object")).await?;
    cluster.apply(&(agent("a", "{agentImage: acme}") + &task("after", "{agentRef: a, prompt: hi}"))).await?;
    cluster.wait_for_phase("after", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}
