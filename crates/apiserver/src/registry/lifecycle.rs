//! CustomResourceDefinitions on their way in and out.
//!
//! A definition whose names nobody else has is established at once, so that its resources are served before the answer. Disputed names, and the removal of a deleted definition's objects, are a controller's business.

use serde_json::{Value, json};

use super::Snapshot;
use crate::object;

/// Keeps a deleted definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Accepts the names of a new definition; false if another definition has one of them.
pub(crate) fn establish(object: &mut Value, snapshot: &Snapshot, now: &str) -> bool {
    if disputed(object, snapshot) {
        return false;
    }
    let condition = |type_: &str, reason: &str, message: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    let accepted = object["spec"]["names"].clone();
    object["status"]["acceptedNames"] = accepted;
    object["status"]["conditions"] = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]);
    true
}

/// Whether another definition of the group has one of the names.
fn disputed(object: &Value, snapshot: &Snapshot) -> bool {
    let spec = &object["spec"];
    let names = &spec["names"];
    let text = |name: &str| names[name].as_str().unwrap_or_default();
    let mut resources = vec![text("plural"), text("singular")];
    resources.extend(names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str));
    let kinds = [text("kind"), text("listKind")];
    let own = object::meta(object, "name");
    let others = snapshot.definitions.values().filter(|d| d.group == spec["group"].as_str().unwrap_or_default());
    others.filter(|d| d.name != own).flat_map(|d| d.resources()).any(|other| {
        let taken =
            |name: &str| other.plural == name || other.singular == name || other.short_names.iter().any(|s| s == name);
        resources.iter().any(|name| taken(name))
            || kinds.iter().any(|kind| other.kind == *kind || other.list_kind == *kind)
    })
}

/// The condition of a definition that is being deleted.
pub(crate) fn mark_terminating(object: &mut Value) {
    let now = object::now();
    let condition = json!({"type": "Terminating", "status": "True", "lastTransitionTime": now,
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"});
    let conditions = &mut object["status"]["conditions"];
    if let Value::Array(list) = conditions {
        list.retain(|c| c["type"] != json!("Terminating"));
        list.push(condition);
    } else {
        *conditions = json!([condition]);
    }
}
