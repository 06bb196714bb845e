//! What may change in a pod.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kind::Part;
use crate::kinds::edit::{copy, has, items, items_mut, remove, set, text};

const WHAT_MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    crate::meta::validate_builtin_finalizers(
        &new["metadata"]["finalizers"],
        &Path::new("metadata").child("finalizers"),
        errors,
    );
    match part {
        Part::EphemeralContainers => return super::ephemeral::validate_update(new, old, errors),
        Part::Resize => return super::resize::validate(new, old, errors),
        Part::Main | Part::Status | Part::Finalize => {}
    }
    if part != Part::Main || new["spec"] == old["spec"] {
        return;
    }
    let path = Path::new("spec");
    let (new, old) = (&new["spec"], &old["spec"]);
    super::spec::validate_of_pod(new, &path, errors);
    for list in ["containers", "initContainers"] {
        if items(new, list).len() != items(old, list).len() {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    if !deadline(new, old, &path, errors) {
        return;
    }
    tolerations(new, old, &path, errors);
    scheduling_gates(new, old, &path, errors);

    // What may change is made equal; whatever still differs may not.
    let mut rest = new.clone();
    for list in ["containers", "initContainers"] {
        for (i, container) in items_mut(&mut rest, list).enumerate() {
            if let Some(before) = items(old, list).get(i) {
                copy(container, before, "image");
            }
        }
    }
    copy(&mut rest, old, "activeDeadlineSeconds");
    copy(&mut rest, old, "tolerations");
    copy(&mut rest, old, "schedulingGates");
    if !items(old, "schedulingGates").is_empty() {
        // A pod that is not scheduled yet may still narrow where it wants to go.
        if rest["nodeSelector"] != old["nodeSelector"] {
            node_selector(new, old, &path, errors);
            copy(&mut rest, old, "nodeSelector");
        }
        copy_node_affinity(&mut rest, old);
    }
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n < 0)
        && new["terminationGracePeriodSeconds"].as_i64() == Some(1)
    {
        set(&mut rest, "terminationGracePeriodSeconds", old["terminationGracePeriodSeconds"].clone());
    }
    if &rest != old {
        errors.push(Error::forbidden(&path, WHAT_MAY_CHANGE));
    }
}

/// Whether to go on looking.
fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(Error::invalid(&path, new, "must be between 0 and 2147483647, inclusive"));
            false
        }
        (Some(new), Some(old)) if new > old => {
            errors.push(Error::invalid(&path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            errors.push(Error::invalid(&path, Value::Null, "must not update from a positive integer to nil value"));
            true
        }
        _ => true,
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let now: Vec<Value> = items(new, "tolerations").iter().map(without_seconds).collect();
    if !items(old, "tolerations").iter().all(|t| now.contains(&without_seconds(t))) {
        errors.push(Error::forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}

fn scheduling_gates(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, gate) in items(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !items(old, "schedulingGates").iter().any(|gate| text(gate, "name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path.child("schedulingGates").index(i).child("name"), why));
        }
    }
}

fn node_selector(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let kept = |(key, value): (&String, &Value)| new["nodeSelector"].get(key) == Some(value);
    if !old["nodeSelector"].as_object().into_iter().flatten().all(kept) {
        let why = "only additions are allowed (no mutations or deletions)";
        errors.push(Error::invalid(&path.child("nodeSelector"), new["nodeSelector"].clone(), why));
    }
}

/// Makes the affinity to nodes as it was; one that then says nothing goes where there was none.
fn copy_node_affinity(spec: &mut Value, old: &Value) {
    if spec["affinity"]["nodeAffinity"] == old["affinity"]["nodeAffinity"] {
        return;
    }
    if let Some(affinity) = crate::kinds::edit::ensure(spec, "affinity") {
        copy(affinity, &old["affinity"], "nodeAffinity");
        if !has(old, "affinity") && affinity.as_object().is_some_and(serde_json::Map::is_empty) {
            remove(spec, "affinity");
        }
    }
}
