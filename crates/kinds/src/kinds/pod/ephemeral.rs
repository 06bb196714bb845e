//! Ephemeral containers: what they may say, and that they only ever come to a pod.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::container;
use super::volume::VolumeNames;
use crate::kinds::edit::{has, items, text};

/// What a container for looking into a pod may not have, in the order in which Kubernetes complains.
const NOT_ALLOWED: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// Validates the ephemeral containers of a pod spec at `path`.
pub(super) fn validate(spec: &Value, path: &Path, volumes: &VolumeNames, errors: &mut Vec<Error>) {
    let others: BTreeSet<&str> =
        ["containers", "initContainers"].iter().flat_map(|list| items(spec, list)).map(|c| text(c, "name")).collect();
    let mut names = others.clone();
    let around = container::Around::of(spec, volumes);
    for (i, one) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.child("ephemeralContainers").index(i);
        container::one(one, &path, &around, errors);
        if !names.insert(text(one, "name")) {
            errors.push(Error::duplicate(&path.child("name"), text(one, "name")));
        }
        let target = text(one, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        const WHY: &str = "cannot be set for an Ephemeral Container";
        for field in NOT_ALLOWED {
            let empty = |value: &Value| match value {
                Value::Null => true,
                Value::Object(members) => members.is_empty() && field == "resources",
                _ => false,
            };
            if !empty(&one[field]) {
                errors.push(Error::forbidden(&path.child(field), WHY));
            }
        }
        for (j, mount) in items(one, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if has(mount, field) {
                    errors.push(Error::forbidden(&path.child("volumeMounts").index(j).child(field), WHY));
                }
            }
        }
    }
}

/// What may become of the ephemeral containers of a pod: they come, and then they stay as they are.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    if has(&old["metadata"]["annotations"], "kubernetes.io/config.mirror") {
        *errors = vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
        return;
    }
    super::spec::validate_of_pod(&new["spec"], &Path::new("spec"), errors);
    let path = Path::new("spec").child("ephemeralContainers");
    for before in items(&old["spec"], "ephemeralContainers") {
        let name = text(before, "name");
        match items(&new["spec"], "ephemeralContainers").iter().find(|now| text(now, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(Error::forbidden(&path, why));
            }
            Some(now) if now != before => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(Error::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
}
