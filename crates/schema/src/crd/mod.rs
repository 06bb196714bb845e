//! CustomResourceDefinitions: defaulting and validation of the objects that define kinds.
//!
//! [`default_crd`] and [`prepare_create`]/[`prepare_update`] fill in what Kubernetes fills in; [`validate_crd`] and
//! [`validate_crd_update`] find everything that is wrong, with paths as Kubernetes names them: what all versions have
//! in common is reported as if it stood at the top (`spec.validation…`), as in its internal form. Rules for metadata
//! that all objects share are not repeated here.

mod columns;
mod conversion;
mod defaults;
mod names;
mod rules;
mod schema;
mod spec;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::field::{Error, Path};

/// Annotation that approves definitions in the groups of Kubernetes itself.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Fills in what Kubernetes fills in: singular and list names, the conversion strategy.
pub fn default_crd(crd: &mut Value) {
    let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(names) = spec.entry("names").or_insert_with(|| json!({})).as_object_mut() {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_empty = |names: &Map<String, Value>, name: &str| {
            names.get(name).is_none_or(|v| v.is_null() || v.as_str() == Some(""))
        };
        if is_empty(names, "singular") && !kind.is_empty() {
            names.insert("singular".into(), kind.to_lowercase().into());
        }
        if is_empty(names, "listKind") && !kind.is_empty() {
            names.insert("listKind".into(), format!("{kind}List").into());
        }
    }
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".into(), json!({"strategy": "None"}));
    }
    if let Some(service) = spec.get_mut("conversion").and_then(|c| c.pointer_mut("/webhook/clientConfig/service"))
        && let Some(service) = service.as_object_mut()
    {
        service.entry("port").or_insert_with(|| 443.into());
    }
}

/// Gives a new definition its first status; whatever status came in is dropped.
pub fn prepare_create(crd: &mut Value) {
    let stored = storage_versions(crd);
    if let Some(object) = crd.as_object_mut() {
        object.insert(
            "status".into(),
            json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": stored}),
        );
    }
}

/// Keeps the old status on a write to the definition itself, and notes a new storage version in it.
pub fn prepare_update(new: &mut Value, old: &Value) {
    let storage = storage_versions(new);
    let Some(object) = new.as_object_mut() else { return };
    match old.get("status") {
        Some(status) => object.insert("status".into(), status.clone()),
        None => object.remove("status"),
    };
    let Some(status) = object.entry("status").or_insert_with(|| json!({})).as_object_mut() else { return };
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if stored.is_null() {
        *stored = json!([]);
    }
    if let Some(stored) = stored.as_array_mut() {
        for version in storage {
            if !stored.contains(&version) {
                stored.push(version);
            }
        }
    }
}

/// Everything that is wrong with a new definition, which is defaulted and prepared.
#[must_use]
pub fn validate_crd(crd: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let (plural, group) = (text(crd, "/spec/names/plural"), text(crd, "/spec/group"));
    let name = text(crd, "/metadata/name");
    if !name.is_empty() && name != format!("{plural}.{group}") {
        let detail = r#"must be spec.names.plural+"."+spec.group"#;
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    spec::check(crd, &mut errors);
    stored_versions(crd, &mut errors);
    approval(crd, group, &mut errors);
    errors
}

/// Everything that is wrong with the change of a definition from `old` to `new`, both defaulted and prepared.
#[must_use]
pub fn validate_crd_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    spec::check(new, &mut errors);
    let spec = Path::new("spec");
    let mut immutable = |pointer: &str, at: Path| {
        let (now, before) = (text(new, pointer), text(old, pointer));
        if now != before {
            errors.push(Error::invalid(&at, now, "field is immutable"));
        }
    };
    if is_established(old) {
        immutable("/spec/scope", spec.child("scope"));
        immutable("/spec/names/kind", spec.child("names").child("kind"));
    }
    immutable("/spec/group", spec.child("group"));
    immutable("/spec/names/plural", spec.child("names").child("plural"));
    stored_versions(new, &mut errors);
    if text(old, "/metadata/annotations/api-approved.kubernetes.io")
        != text(new, "/metadata/annotations/api-approved.kubernetes.io")
    {
        approval(new, text(new, "/spec/group"), &mut errors);
    }
    errors
}

fn is_established(crd: &Value) -> bool {
    let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| text(c, "/type") == "Established" && text(c, "/status") == "True")
}

fn versions(crd: &Value) -> &[Value] {
    crd.pointer("/spec/versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn storage_versions(crd: &Value) -> Vec<Value> {
    let is_storage = |v: &&Value| v.get("storage") == Some(&Value::Bool(true));
    versions(crd).iter().filter(is_storage).filter_map(|v| v.get("name").cloned()).collect()
}

fn stored_versions(crd: &Value, errors: &mut Vec<Error>) {
    let at = Path::new("status").child("storedVersions");
    let stored = crd.pointer("/status/storedVersions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if stored.is_empty() {
        errors.push(Error::invalid(&at, Value::Null, "must have at least one stored version"));
        return;
    }
    let known: Vec<&str> = versions(crd).iter().map(|v| text(v, "/name")).collect();
    for version in storage_versions(crd) {
        if !stored.contains(&version) {
            let detail = format!("must have the storage version {}", version.as_str().unwrap_or_default());
            errors.push(Error::invalid(&at, Value::Array(stored.to_vec()), detail));
        }
    }
    for (index, version) in stored.iter().enumerate().filter_map(|(i, version)| Some((i, version.as_str()?))) {
        if !known.contains(&version) {
            let detail = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            );
            errors.push(Error::invalid(&at.index(index), version, detail));
        }
    }
}

/// Groups of Kubernetes itself are only for what its community approved.
fn approval(crd: &Value, group: &str, errors: &mut Vec<Error>) {
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !is_protected {
        return;
    }
    let at = Path::new("metadata").child("annotations").key(APPROVED);
    let annotation = text(crd, "/metadata/annotations/api-approved.kubernetes.io");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    if annotation.is_empty() {
        let detail = format!("protected groups must have approval annotation \"{APPROVED}\", {see}");
        errors.push(Error::required(&at, detail));
    } else if !annotation.starts_with("unapproved") && !annotation.contains("://") {
        let detail = format!(
            "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \"unapproved\", {see}"
        );
        errors.push(Error::invalid(&at, annotation, detail));
    }
}

/// The string at a JSON pointer; empty when there is none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
