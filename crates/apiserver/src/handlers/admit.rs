//! Admission: what other objects have to say about a write — namespaces, service accounts, limits and quotas.

use std::sync::Arc;

use kubetask_kinds::Part;
use serde_json::{Value, json};

use super::Call;
use crate::object::{self, metadata_mut};
use crate::registry::Resource;
use crate::request::Target;
use crate::status::{Cause, Failure, GroupResource, Result};

mod limits;
mod priority;
pub(super) mod quota;
pub(super) mod standards;

/// Namespaces that are never deleted.
const FIXED: [&str; 3] = ["default", "kube-system", "kube-public"];
/// How long the token in a pod lives before it is renewed; with the grace Kubernetes adds to an hour.
const TOKEN_SECONDS: i64 = 3607;

/// A namespace, which is decoded once for all who ask until it changes.
fn namespace_of(call: &Call, name: &str) -> Option<Arc<Value>> {
    let entry = call.server.store.get("namespaces", name)?;
    let facts = object::facts(&entry);
    Some(facts.value.get_or_init(|| Arc::new(object::decode(&entry))).clone())
}

/// New objects need a namespace that is there and not going away.
pub(super) fn namespace(call: &Call, resource: &Resource, target: &Target, name: &str) -> Result<()> {
    if !resource.namespaced || resource.bucket.is_empty() {
        return Ok(());
    }
    let namespace = &target.namespace;
    let Some(value) = namespace_of(call, namespace) else {
        return Err(Failure::not_found(GroupResource { group: "", resource: "namespaces" }, namespace));
    };
    if value["metadata"]["deletionTimestamp"].is_string() || value["status"]["phase"] == json!("Terminating") {
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(Failure::forbidden_because(resource.gr(), name, &why, vec![cause]));
    }
    Ok(())
}

/// Some namespaces may not be deleted.
pub(super) fn delete(resource: &Resource, target: &Target) -> Result<()> {
    if resource.is_core("namespaces") && FIXED.contains(&target.name.as_str()) {
        return Err(Failure::forbidden(resource.gr(), &target.name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Changes a new object before it is validated.
pub(super) fn create(call: &Call, resource: &Arc<Resource>, target: &Target, object: &mut Value) -> Result<()> {
    if resource.is_core("pods") || (resource.group.is_empty() && resource.plural == "persistentvolumeclaims") {
        limits::default(call, target, object);
    }
    if resource.is_core("pods") {
        service_account(call, resource, target, object)?;
        priority::of_pod(call, resource, object)?;
    }
    if resource.plural == "priorityclasses" {
        priority::class(call, resource, object)?;
    }
    if resource.is_core("namespaces") {
        label_namespace(object);
    }
    if let Some(kind) = resource.builtin_kind() {
        kind.admit_create(object);
    }
    Ok(())
}

/// What may refuse a finished new object.
pub(super) async fn validate(
    call: &Call,
    resource: &Resource,
    target: &Target,
    object: &Value,
) -> Result<quota::Reservation> {
    if !resource.namespaced {
        return Ok(None);
    }
    limits::check(call, resource, target, object)?;
    quota::reserve(call, resource, target, object, None).await
}

/// What may refuse a finished update.
pub(super) async fn validate_update(
    call: &Call,
    resource: &Resource,
    target: &Target,
    object: &Value,
    old: &Value,
    part: Part,
) -> Result<quota::Reservation> {
    if quota::grows(resource, part) {
        return quota::reserve(call, resource, target, object, Some(old)).await;
    }
    Ok(None)
}

/// Changes an updated object before it is validated.
pub(super) fn update(
    call: &Call,
    resource: &Arc<Resource>,
    target: &Target,
    object: &mut Value,
    part: Part,
) -> Result<()> {
    if resource.is_core("namespaces") {
        label_namespace(object);
    }
    if part == Part::Main && resource.namespaced && !resource.is_custom() {
        limits::check(call, resource, target, object)?;
    }
    Ok(())
}

fn label_namespace(object: &mut Value) {
    let name = object::meta(object, "name").to_owned();
    if name.is_empty() {
        return;
    }
    let meta = metadata_mut(object);
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels["kubernetes.io/metadata.name"] = name.into();
}

/// Gives a pod its service account: the name, image pull secrets, and the token unless it does not want one.
fn service_account(call: &Call, resource: &Resource, target: &Target, pod: &mut Value) -> Result<()> {
    let name = object::meta(pod, "name").to_owned();
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() || !pod["spec"].is_object() {
        return Ok(());
    }
    let spec = &mut pod["spec"];
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        let old_name = spec["serviceAccount"].as_str().unwrap_or_default();
        let account = if old_name.is_empty() { "default" } else { old_name }.to_owned();
        spec["serviceAccountName"] = account.into();
    }
    let account = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    spec["serviceAccount"] = account.as_str().into();
    let Some(entry) = call.server.store.get("serviceaccounts", &format!("{}/{account}", target.namespace)) else {
        let (namespace, account) = (&target.namespace, &account);
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
        return Err(Failure::forbidden(resource.gr(), &name, &why));
    };
    let value = object::decode(&entry);
    let wanted = spec["automountServiceAccountToken"].as_bool();
    if wanted.or_else(|| value["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(spec);
    }
    let secrets = &value["imagePullSecrets"];
    if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && secrets.as_array().is_some_and(|s| !s.is_empty())
    {
        spec["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Adds the projected volume with token, authority and namespace, and mounts it where nothing else is mounted.
fn mount_token(spec: &mut Value) {
    use rand::RngExt as _;
    let mut rng = rand::rng();
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix: String = (0..5).map(|_| char::from(letters[rng.random_range(0..letters.len())])).collect();
    let volume = format!("kube-api-access-{suffix}");
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let Value::Object(members) = container else { continue };
            let mounts = members.entry("volumeMounts").or_insert_with(|| json!([]));
            let Value::Array(mounts) = mounts else { continue };
            if mounts.iter().any(|mount| mount["mountPath"] == json!(TOKEN_DIR)) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_DIR}));
            mounted = true;
        }
    }
    if !mounted {
        return;
    }
    let source = json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    match &mut spec["volumes"] {
        Value::Array(volumes) => volumes.push(source),
        other => *other = json!([source]),
    }
}
