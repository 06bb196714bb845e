//! `ObjectMeta` as the type system sees it: which members there are.

use serde_json::{Map, Value};

const OBJECT_META: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
const OWNER_REFERENCE: &[&str] = &["apiVersion", "blockOwnerDeletion", "controller", "kind", "name", "uid"];
const MANAGED_FIELDS: &[&str] =
    &["apiVersion", "fieldsType", "fieldsV1", "manager", "operation", "subresource", "time"];

/// Whether every Kubernetes object has the member, whatever its schema says.
#[must_use]
pub fn is_object_member(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// Removes members of the metadata of `object` that `ObjectMeta` does not have; their paths go to `unknown`.
pub(crate) fn prune_object(object: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let Some(Value::Object(meta)) = object.get_mut("metadata") else { return };
    let path = if path.is_empty() { "metadata".to_owned() } else { format!("{path}.metadata") };
    keep(meta, OBJECT_META, &path, unknown);
    for (list, known) in [("ownerReferences", OWNER_REFERENCE), ("managedFields", MANAGED_FIELDS)] {
        let Some(Value::Array(items)) = meta.get_mut(list) else { continue };
        for (index, item) in items.iter_mut().enumerate() {
            if let Value::Object(members) = item {
                keep(members, known, &format!("{path}.{list}[{index}]"), unknown);
            }
        }
    }
}

fn keep(members: &mut Map<String, Value>, known: &[&str], path: &str, unknown: &mut Vec<String>) {
    members.retain(|name, _| {
        let is_known = known.contains(&name.as_str());
        if !is_known {
            unknown.push(format!("{path}.{name}"));
        }
        is_known
    });
}
