//! Deletes what is in a namespace and reports what is left.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::Client;
use kube::api::{DeleteParams, ListParams};

use crate::error::Answer;
use crate::gone::Remaining;
use crate::kinds::{Kind, discover};
use crate::requests::dynamic;

/// What a round of deleting found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Why the kinds could not be listed.
    pub(super) discovery_error: Option<String>,
    /// What could not be deleted, and why.
    pub(super) errors: Vec<String>,
    /// How many objects are left, by `plural.group`.
    pub(super) left: BTreeMap<String, usize>,
    /// How many of those each finalizer holds.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// Something to wait for.
    pub(super) first_left: Option<Remaining>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && !self.failed()
    }

    pub(super) fn failed(&self) -> bool {
        self.discovery_error.is_some() || !self.errors.is_empty()
    }
}

/// Deletes everything once; Pods first, and the rest only when there are none any more, so that what a Pod uses is there
/// until it has ended.
pub(super) async fn delete(client: &Client, namespace: &str) -> Found {
    let kinds = match discover(client).await {
        Ok(kinds) => kinds,
        Err(error) => return Found { discovery_error: Some(error.to_string()), ..Found::default() },
    };
    let deletable = |kind: &&Kind| kind.namespaced && kind.can("list") && kind.can("delete");
    let is_pod = |kind: &&Kind| kind.resource.group.is_empty() && kind.resource.plural == "pods";
    let mut found = Found::default();
    let pods = kinds.iter().filter(deletable).filter(is_pod);
    for (kind, result) in join_all(pods.map(|kind| delete_kind(client, kind, namespace))).await {
        found.add(kind, namespace, result);
    }
    if found.is_empty() {
        let rest = kinds.iter().filter(deletable).filter(|kind| !is_pod(kind));
        for (kind, result) in join_all(rest.map(|kind| delete_kind(client, kind, namespace))).await {
            found.add(kind, namespace, result);
        }
    }
    found
}

/// What is left of one kind.
struct Left {
    finalizers: Vec<Vec<String>>,
    version: String,
}

async fn delete_kind<'a>(client: &Client, kind: &'a Kind, namespace: &str) -> (&'a Kind, Result<Left, kube::Error>) {
    (kind, try_delete_kind(client, kind, namespace).await)
}

async fn try_delete_kind(client: &Client, kind: &Kind, namespace: &str) -> Result<Left, kube::Error> {
    let none = || Left { finalizers: Vec::new(), version: String::new() };
    let api = dynamic(client, &kind.resource, Some(namespace));
    // Most kinds are not there at all, which is the cheapest to find out.
    let Some(one) = api.list_metadata(&ListParams::default().limit(1)).await.unless_missing()? else {
        return Ok(none());
    };
    if one.items.is_empty() {
        return Ok(none());
    }
    if kind.can("deletecollection") {
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await.unless_missing()?;
    } else {
        for object in api.list_metadata(&ListParams::default()).await?.items {
            let name = object.metadata.name.unwrap_or_default();
            api.delete(&name, &DeleteParams::background()).await.unless_missing()?;
        }
    }
    let Some(list) = api.list_metadata(&ListParams::default()).await.unless_missing()? else { return Ok(none()) };
    Ok(Left {
        version: list.metadata.resource_version.unwrap_or_default(),
        finalizers: list.items.into_iter().map(|o| o.metadata.finalizers.unwrap_or_default()).collect(),
    })
}

impl Found {
    fn add(&mut self, kind: &Kind, namespace: &str, result: Result<Left, kube::Error>) {
        let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
        match result {
            Err(error) => self.errors.push(format!("unexpected error deleting {name}: {error}")),
            Ok(left) if left.finalizers.is_empty() => {}
            Ok(left) => {
                self.left.insert(name, left.finalizers.len());
                for finalizer in left.finalizers.into_iter().flatten() {
                    *self.finalizers.entry(finalizer).or_default() += 1;
                }
                self.first_left.get_or_insert(Remaining {
                    resource: kind.resource.clone(),
                    namespace: Some(namespace.to_owned()),
                    version: left.version,
                });
            }
        }
    }
}
