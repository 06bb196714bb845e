//! Owners and what they own.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{Cluster, create, uid};

fn owned(name: &str, owners: &[&ConfigMap]) -> Value {
    let references: Vec<_> = owners
        .iter()
        .map(|o| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": o.metadata.name, "uid": o.metadata.uid, "blockOwnerDeletion": true }))
        .collect();
    json!({ "metadata": { "name": name, "ownerReferences": references } })
}

async fn map(cluster: &Cluster, name: &str) -> Result<ConfigMap> {
    create(&cluster.maps(), json!({ "metadata": { "name": name } })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (maps, secrets) = (cluster.maps(), cluster.api::<Secret>());
    let owner = map(&cluster, "o").await?;
    let middle = create(&maps, owned("m", &[&owner])).await?;
    create(&secrets, owned("leaf", &[&middle])).await?;
    maps.delete("o", &DeleteParams::background()).await?;
    assert!(maps.get_opt("o").await?.is_none(), "the owner goes at once");
    cluster.until_gone(&maps, "m").await?;
    cluster.until_gone(&secrets, "leaf").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = cluster.maps();
    let owner = map(&cluster, "o").await?;
    let mut held = owned("d", &[&owner]);
    held["metadata"]["finalizers"] = json!(["example.test/hold"]);
    create(&maps, held).await?;
    maps.delete("o", &DeleteParams::foreground()).await?;
    let going = async |_: &Cluster| Ok(maps.get("d").await?.metadata.deletion_timestamp);
    cluster.until("the dependent to be deleted", going).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(maps.get("o").await?.metadata.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
    maps.patch("d", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await?;
    cluster.until_gone(&maps, "d").await?;
    cluster.until_gone(&maps, "o").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphan() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = cluster.maps();
    let owner = map(&cluster, "o").await?;
    create(&maps, owned("d", &[&owner])).await?;
    maps.delete("o", &DeleteParams::orphan()).await?;
    cluster.until_gone(&maps, "o").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(maps.get("d").await?.metadata.owner_references, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_owners_is_enough() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = cluster.maps();
    let (first, second) = (map(&cluster, "first").await?, map(&cluster, "second").await?);
    create(&maps, owned("d", &[&first, &second])).await?;
    maps.delete("first", &DeleteParams::background()).await?;
    let disowned = async |_: &Cluster| {
        let owners = maps.get("d").await?.metadata.owner_references.unwrap_or_default();
        Ok((owners.len() == 1 && owners[0].uid == uid(&second)).then_some(()))
    };
    cluster.until("the reference to go", disowned).await?;
    maps.delete("second", &DeleteParams::background()).await?;
    cluster.until_gone(&maps, "d").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_that_never_were() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = cluster.maps();
    let mut ghost = map(&cluster, "real").await?;
    ghost.metadata.uid = Some("11111111-2222-3333-4444-555555555555".to_owned());
    create(&maps, owned("another-of-that-name", &[&ghost])).await?;
    ghost.metadata.name = Some("ghost".to_owned());
    create(&maps, owned("nobody", &[&ghost])).await?;
    cluster.until_gone(&maps, "another-of-that-name").await?;
    cluster.until_gone(&maps, "nobody").await?;

    let elsewhere: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-system");
    cluster.until("kube-system", async |_| Ok(elsewhere.list(&Default::default()).await.ok())).await?;
    let real = maps.get("real").await?;
    create(&elsewhere, owned("abroad", &[&real])).await?;
    cluster.until_gone(&elsewhere, "abroad").await?;
    assert!(maps.get_opt("real").await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_goes() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = cluster.maps();
    let first = map(&cluster, "first").await?;
    let second = create(&maps, owned("second", &[&first])).await?;
    let close = json!({ "metadata": { "ownerReferences": owned("", &[&second])["metadata"]["ownerReferences"] } });
    maps.patch("first", &PatchParams::default(), &Patch::Merge(close)).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    maps.delete("first", &DeleteParams::foreground()).await?;
    cluster.until_gone(&maps, "second").await?;
    cluster.until_gone(&maps, "first").await
}
