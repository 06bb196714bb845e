//! Nodes: stored objects; what a node reports is its own business.

use jiff::Timestamp;
use serde_json::Value;

use super::edit::{copy, has, items, text};
use super::{finalizers_on_create, finalizers_only};
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const HOOKS: Hooks = Hooks {
    prepare_update,
    validate: finalizers_on_create,
    validate_update: finalizers_only,
    columns: || &COLUMNS,
    row,
    field: |node, _| Some((node["spec"]["unschedulable"] == true).to_string()),
    ..Hooks::NONE
};

pub(crate) const FIELDS: &[&str] = &["spec.unschedulable"];

static COLUMNS: [Column; 10] = [
    NAME,
    column("Status", "The status of the node", 0),
    column("Roles", "The roles of the node", 0),
    AGE,
    column("Version", "Kubelet Version reported by the node.", 0),
    column(
        "Internal-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).",
        1,
    ),
    column(
        "External-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).",
        1,
    ),
    column("OS-Image", "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).", 1),
    column("Kernel-Version", "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).", 1),
    column(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
        1,
    ),
];

fn prepare_update(new: &mut Value, old: &Value, part: Part) {
    copy(new, old, if part == Part::Status { "spec" } else { "status" });
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> Value {
    Value::from(if text.is_empty() { otherwise } else { text })
}

fn row(node: &Value, now: Timestamp) -> Row {
    let info = &node["status"]["nodeInfo"];
    let address = |type_: &str| {
        let found = items(&node["status"], "addresses").iter().find(|a| text(a, "type") == type_);
        or(found.map_or("", |a| text(a, "address")), "<none>")
    };
    Row {
        cells: vec![
            name(node),
            Value::from(status(node)),
            Value::from(roles(node)),
            age(node, now),
            Value::from(text(info, "kubeletVersion")),
            address("InternalIP"),
            address("ExternalIP"),
            or(text(info, "osImage"), "<unknown>"),
            or(text(info, "kernelVersion"), "<unknown>"),
            or(text(info, "containerRuntimeVersion"), "<unknown>"),
        ],
        conditions: Vec::new(),
    }
}

fn status(node: &Value) -> String {
    let ready = items(&node["status"], "conditions").iter().find(|c| text(c, "type") == "Ready");
    let mut parts = vec![match ready {
        Some(condition) if text(condition, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node["spec"]["unschedulable"] == true {
        parts.push("SchedulingDisabled");
    }
    parts.join(",")
}

fn roles(node: &Value) -> String {
    let labels = &node["metadata"]["labels"];
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            _ if key == "kubernetes.io/role" && has(labels, key) => {
                roles.extend(value.as_str().filter(|v| !v.is_empty()))
            }
            _ => {}
        }
    }
    roles.sort_unstable();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}
