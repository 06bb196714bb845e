//! Namespaces: made, filled, emptied, finalized.

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{Cluster, create};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_namespaces_are_there_and_filled() -> Result<()> {
    let cluster = Cluster::start().await?;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease", "kubetask-system"] {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), name);
        cluster.until("the account", async |_| Ok(accounts.get_opt("default").await?)).await?;
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), name);
        let map = cluster.until("the root", async |_| Ok(maps.get_opt("kube-root-ca.crt").await?)).await?;
        assert_eq!(map.data.and_then(|d| d.get("ca.crt").cloned()).as_deref(), Some("the root"));
    }
    cluster.controllers.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_comes_back() -> Result<()> {
    let cluster = Cluster::start().await?;
    let accounts: Api<ServiceAccount> = cluster.api();
    let first = cluster.until("the account", async |_| Ok(accounts.get_opt("default").await?)).await?;
    accounts.delete("default", &DeleteParams::default()).await?;
    let other = async |_: &Cluster| {
        let found = accounts.get_opt("default").await?;
        Ok(found.filter(|account| account.metadata.uid != first.metadata.uid))
    };
    cluster.until("a new account", other).await?;

    let maps = cluster.maps();
    let root = async |_: &Cluster| {
        let map = maps.get_opt("kube-root-ca.crt").await?;
        Ok(map.filter(|m| m.data.iter().flatten().any(|(_, v)| v == "the root")))
    };
    cluster.until("the root", root).await?;
    let forged = Patch::Merge(json!({ "data": { "ca.crt": "forged" } }));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &forged).await?;
    cluster.until("the true root", root).await?;
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await?;
    cluster.until("the root again", root).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_when_it_is_empty() -> Result<()> {
    let cluster = Cluster::start().await?;
    let namespaces = cluster.all::<Namespace>();
    create(&namespaces, json!({ "metadata": { "name": "team" } })).await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "team");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "team");
    create(&secrets, json!({ "metadata": { "name": "s" } })).await?;
    create(&maps, json!({ "metadata": { "name": "held", "finalizers": ["example.test/hold"] } })).await?;
    namespaces.delete("team", &DeleteParams::default()).await?;
    cluster.until_gone(&secrets, "s").await?;

    let remaining = async |_: &Cluster| {
        let namespace = namespaces.get("team").await?;
        let conditions = namespace.status.and_then(|s| s.conditions).unwrap_or_default();
        let found = conditions.iter().any(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True");
        Ok(found.then_some(conditions))
    };
    let conditions = cluster.until("the conditions", remaining).await?;
    let messages: Vec<_> =
        conditions.iter().map(|c| format!("{}: {}", c.type_, c.message.clone().unwrap_or_default())).collect();
    assert_eq!(
        messages,
        [
            "NamespaceDeletionDiscoveryFailure: All resources successfully discovered",
            "NamespaceDeletionGroupVersionParsingFailure: All legacy kube types successfully parsed",
            "NamespaceDeletionContentFailure: All content successfully deleted, may be waiting on finalization",
            "NamespaceContentRemaining: Some resources are remaining: configmaps. has 1 resource instances",
            "NamespaceFinalizersRemaining: Some content in the namespace has finalizers remaining: example.test/hold in 1 resource instances",
        ]
    );
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("held", &PatchParams::default(), &release).await?;
    cluster.until_gone(&namespaces, "team").await
}
