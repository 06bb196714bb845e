//! Resizing a pod: the resources of its containers change, and nothing else.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::edit::{copy, has, items, items_mut, remove, text};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Takes everything but the resources of containers from the pod as it is.
pub(super) fn keep_the_rest(new: &mut Value, old: &Value) {
    let wanted = new["spec"].clone();
    copy(new, old, "spec");
    copy(new, old, "status");
    let Some(spec) = new.get_mut("spec") else { return };
    for list in LISTS {
        for container in items_mut(spec, list) {
            let name = text(container, "name").to_owned();
            if let Some(wanted) = items(&wanted, list).iter().find(|c| text(c, "name") == name) {
                copy(container, wanted, "resources");
                copy(container, wanted, "resizePolicy");
            }
        }
    }
}

/// What is wrong with new sizes.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    if has(&old["metadata"]["annotations"], "kubernetes.io/config.mirror") {
        *errors = vec![Error::forbidden(&Path::new(""), "static pods cannot be resized")];
        return;
    }
    let path = Path::new("spec");
    super::spec::validate_of_pod(&new["spec"], &path, errors);
    if super::qos_class(&new["spec"]) != text(&old["status"], "qosClass") {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&path, text(&new["status"], "qosClass"), why));
    }
    // A node that can resize shows the resources of what it runs.
    let running = |status: &&Value| has(&status["state"], "running");
    let first = items(&old["status"], "containerStatuses").iter().find(running);
    if first.is_some_and(|status| !has(status, "resources")) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let (mut rest, mut before) = (new["spec"].clone(), old["spec"].clone());
    for list in LISTS {
        for (i, (now, was)) in items(&new["spec"], list).iter().zip(items(&old["spec"], list)).enumerate() {
            removed(&now["resources"], &was["resources"], &path.child(list).index(i).child("resources"), errors);
        }
        for spec in [&mut rest, &mut before] {
            items_mut(spec, list).for_each(without_cpu_and_memory);
        }
    }
    if rest != before {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable"));
    }
}

fn removed(now: &Value, was: &Value, path: &Path, errors: &mut Vec<Error>) {
    for kind in ["requests", "limits"] {
        if ["cpu", "memory"].iter().any(|name| has(&was[kind], name) && !has(&now[kind], name)) {
            errors.push(Error::forbidden(&path.child(kind), format!("resource {kind} cannot be removed")));
        }
    }
}

fn without_cpu_and_memory(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    for kind in ["requests", "limits"] {
        let Some(amounts) = resources.get_mut(kind) else { continue };
        remove(amounts, "cpu");
        remove(amounts, "memory");
        if amounts.as_object().is_some_and(serde_json::Map::is_empty) {
            remove(resources, kind);
        }
    }
}
