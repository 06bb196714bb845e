//! What may change in a pod.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kind::Part;
use crate::kinds::edit::{copy, has, items, items_mut, set};

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
    for list in ["containers", "initContainers"] {
        if items(new, list).len() != items(old, list).len() {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    super::spec::validate(new, &path, errors);
    deadline(new, old, &path, errors);
    tolerations(new, old, &path, errors);

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
    if has(old, "schedulingGates") && items(new, "schedulingGates").len() < items(old, "schedulingGates").len() {
        copy(&mut rest, old, "schedulingGates");
        // A pod that is not scheduled yet may still narrow where it wants to go.
        copy(&mut rest, old, "nodeSelector");
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

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let path = path.child("activeDeadlineSeconds");
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(new), Some(old)) if new > old => {
            errors.push(Error::invalid(&path, new, format!("must be less than or equal to previous value: {old}")))
        }
        (None, Some(_)) => {
            errors.push(Error::invalid(&path, Value::Null, "must not update from a positive integer to nil value"));
        }
        _ => {}
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let kept = items(old, "tolerations").iter().all(|t| items(new, "tolerations").contains(t));
    if !kept {
        errors.push(Error::forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}
