//! The requests that several controllers make, and the parameters they make them with.

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, Resource};

use crate::MANAGER;

pub(crate) fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

pub(crate) fn patch() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// Deletes exactly the object that was decided about, not one of the same name.
pub(crate) fn delete(uid: &str, policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    }
}

/// Objects of any kind: in a namespace, or of the whole cluster.
pub(crate) fn dynamic(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// `namespace/name`, or the name alone.
pub(crate) fn key(object: &impl Resource) -> String {
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// A resource version as a number. Kubernetes promises that it is one, and that they can be compared.
pub(crate) fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
