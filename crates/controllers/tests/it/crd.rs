//! Custom resources: established, and removed with their objects.

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{Cluster, create, uid};

pub(crate) fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.example.test") },
        "spec": {
            "group": "example.test", "scope": "Namespaced",
            "names": { "plural": plural, "singular": plural.trim_end_matches('s'), "kind": kind, "listKind": format!("{kind}List") },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}

fn condition(crd: &Crd, type_: &str) -> Option<(String, String)> {
    let conditions = crd.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == type_)?;
    Some((found.status.clone(), found.message.clone().unwrap_or_default()))
}

/// Creates a definition and one object of the kind.
pub(crate) async fn install(cluster: &Cluster, plural: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let crds = cluster.all::<Crd>();
    let name = format!("{plural}.example.test");
    create(&crds, definition(plural, kind)).await?;
    let established = async |_: &Cluster| {
        let crd = crds.get(&name).await?;
        Ok(condition(&crd, "Established").filter(|(status, _)| status == "True"))
    };
    cluster.until("establishment", established).await?;
    let api = cluster.custom(kind, plural);
    cluster.until("the kind", async |_| Ok(api.list(&Default::default()).await.ok())).await?;
    Ok(api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_definition_to_removal() -> Result<()> {
    let cluster = Cluster::start().await?;
    let crds = cluster.all::<Crd>();
    let api = install(&cluster, "sprockets", "Sprocket").await?;
    let crd = crds.get("sprockets.example.test").await?;
    let status = crd.status.clone().unwrap_or_default();
    assert_eq!(status.accepted_names.as_ref(), Some(&crd.spec.names));
    assert_eq!(status.stored_versions, Some(vec!["v1".to_owned()]));
    assert_eq!(condition(&crd, "NamesAccepted"), Some(("True".to_owned(), "no conflicts found".to_owned())));

    let object = json!({ "apiVersion": "example.test/v1", "kind": "Sprocket", "metadata": { "name": "one" } });
    create(&api, object.clone()).await?;
    let mut held = object;
    held["metadata"] = json!({ "name": "held", "finalizers": ["example.test/hold"] });
    create(&api, held).await?;
    crds.delete("sprockets.example.test", &DeleteParams::default()).await?;
    cluster.until_gone(&api, "one").await?;
    assert!(crds.get_opt("sprockets.example.test").await?.is_some(), "an object is left");
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch("held", &PatchParams::default(), &release).await?;
    cluster.until_gone(&crds, "sprockets.example.test").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_in_use_becomes_free() -> Result<()> {
    let cluster = Cluster::start().await?;
    let crds = cluster.all::<Crd>();
    install(&cluster, "things", "Thing").await?;
    let mut second = definition("stuffs", "Thing");
    second["spec"]["names"]["listKind"] = json!("StuffList");
    create(&crds, second).await?;
    let state = async |type_: &str, wanted: &str| {
        let look = async |_: &Cluster| {
            let crd = crds.get("stuffs.example.test").await?;
            Ok(condition(&crd, type_).filter(|(status, _)| status == wanted).map(|(_, message)| message))
        };
        cluster.until(type_, look).await
    };
    assert_eq!(state("NamesAccepted", "False").await?, "\"Thing\" is already in use");
    assert_eq!(state("Established", "False").await?, "not all names are accepted");
    crds.delete("things.example.test", &DeleteParams::default()).await?;
    assert_eq!(state("Established", "True").await?, "the initial names have been accepted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_objects_own_and_are_owned() -> Result<()> {
    let cluster = Cluster::start().await?;
    let api = install(&cluster, "owners", "Owner").await?;
    let object = json!({ "apiVersion": "example.test/v1", "kind": "Owner", "metadata": { "name": "o" } });
    let owner = create(&api, object).await?;
    let reference = json!([{ "apiVersion": "example.test/v1", "kind": "Owner", "name": "o", "uid": uid(&owner) }]);
    let maps = cluster.maps();
    create(&maps, json!({ "metadata": { "name": "d", "ownerReferences": reference } })).await?;
    api.delete("o", &DeleteParams::default()).await?;
    cluster.until_gone(&maps, "d").await
}
