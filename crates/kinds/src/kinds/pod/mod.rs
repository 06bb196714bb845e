//! Pods: strategy (what a client may set, when), fields to select by; the rest in the modules below.

mod affinity;
pub(crate) mod container;
pub(crate) mod defaults;
mod env;
mod ephemeral;
mod probe;
mod resize;
mod restart;
mod row;
mod security;
pub(crate) mod spec;
mod update;
pub(crate) mod volume;
pub(crate) mod warnings;

use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::edit::{bump_generation, copy, first_generation, items, remove, set, text};
use crate::kind::{Hooks, Part};
use crate::quantity::Quantity;

pub(crate) const HOOKS: Hooks = Hooks {
    default: defaults::pod,
    admit: defaults::admit,
    prepare_create,
    prepare_update,
    validate,
    validate_update: update::validate,
    warnings,
    columns: row::columns,
    row: row::row,
    field,
    ..Hooks::NONE
};

pub(crate) const FIELDS: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

fn field(pod: &Value, name: &str) -> Option<String> {
    match name {
        "spec.hostNetwork" => Some((pod["spec"]["hostNetwork"] == true).to_string()),
        "status.podIPs" => {
            Some(items(&pod["status"], "podIPs").iter().map(|ip| text(ip, "ip")).collect::<Vec<_>>().join(","))
        }
        _ => {
            let (outer, inner) = name.split_once('.')?;
            Some(text(&pod[outer], inner).to_owned())
        }
    }
}

fn prepare_create(pod: &mut Value) {
    first_generation(pod);
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    if !items(&pod["spec"], "schedulingGates").is_empty() {
        set(
            &mut status,
            "conditions",
            json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null,
            }]),
        );
    }
    set(pod, "status", status);
}

fn prepare_update(new: &mut Value, old: &Value, part: Part) {
    match part {
        Part::Status => {
            copy(new, old, "spec");
            let qos = old["status"]["qosClass"].clone();
            if let (Some(status), false) = (new.get_mut("status"), qos.is_null()) {
                set(status, "qosClass", qos);
            }
            if let Some(meta) = new.get_mut("metadata") {
                copy(meta, &old["metadata"], "ownerReferences");
                copy(meta, &old["metadata"], "deletionTimestamp");
            }
        }
        Part::EphemeralContainers => {
            let wanted = new["spec"]["ephemeralContainers"].clone();
            keep_metadata(new, old);
            copy(new, old, "spec");
            if let Some(spec) = new.get_mut("spec") {
                match wanted {
                    Value::Null => remove(spec, "ephemeralContainers"),
                    wanted => set(spec, "ephemeralContainers", wanted),
                }
            }
            copy(new, old, "status");
        }
        Part::Resize => {
            keep_metadata(new, old);
            resize::keep_the_rest(new, old);
        }
        Part::Main | Part::Finalize => copy(new, old, "status"),
    }
    let changed = new["spec"] != old["spec"];
    bump_generation(new, old, changed);
}

/// Of the metadata, a write to such a part changes only who owns what.
fn keep_metadata(new: &mut Value, old: &Value) {
    let Some(meta) = new.get_mut("metadata") else { return };
    let mut kept = old["metadata"].clone();
    for name in ["managedFields", "resourceVersion"] {
        copy(&mut kept, meta, name);
    }
    *meta = kept;
}

/// The quality of service class that follows from requests and limits.
#[must_use]
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            let resources = &container["resources"];
            for name in ["cpu", "memory"] {
                let amount =
                    |kind: &str| text(&resources[kind], name).parse::<Quantity>().ok().filter(|q| q.nano() > 0);
                let (request, limit) = (amount("requests"), amount("limits"));
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(pod: &Value, errors: &mut Vec<Error>) {
    spec::validate_of_pod(&pod["spec"], &Path::new("spec"), errors);
    spec::validate_on_create(&pod["spec"], &Path::new("spec"), errors);
}

fn warnings(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    // Updates can hardly change a pod's spec: the warnings have been given on create.
    if old.is_some() {
        return;
    }
    let wrong = crate::names::dns1123_label(text(&new["metadata"], "name"));
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    warnings::of_spec(&new["spec"], "spec", out);
}
