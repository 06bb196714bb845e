//! Validation of containers: names, images, ports, mounts, resources.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::volume::VolumeNames;
use super::{env, probe, restart};
use crate::kinds::check::{one_of, required, required_format, within};
use crate::kinds::edit::{has, items, text};
use crate::kinds::resources as names;
use crate::names::{dns1123_label, port_name};
use crate::quantity::Quantity;

pub(super) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// What containers share with the rest of their pod spec.
pub(super) struct Around<'a> {
    /// The pod's own restart policy.
    restart: &'a str,
    /// Whether the pod has the users of its host.
    host_users: bool,
    grace: Option<i64>,
    volumes: &'a VolumeNames,
}

impl<'a> Around<'a> {
    pub(super) fn of(spec: &'a Value, volumes: &'a VolumeNames) -> Self {
        Self {
            restart: text(spec, "restartPolicy"),
            host_users: spec["hostUsers"] != false,
            grace: spec["terminationGracePeriodSeconds"].as_i64(),
            volumes,
        }
    }
}

/// Validates all containers of a pod spec at `path`; `is_pod` where it is not of a template.
pub(super) fn validate_all(spec: &Value, path: &Path, is_pod: bool, volumes: &VolumeNames, errors: &mut Vec<Error>) {
    let around = Around::of(spec, volumes);
    let containers = items(spec, "containers");
    let list = path.child("containers");
    if containers.is_empty() {
        errors.push(Error::required(&list, ""));
    }
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let path = list.index(i);
        one(container, &path, &around, errors);
        if !seen.insert(text(container, "name")) {
            errors.push(Error::duplicate(&path.child("name"), text(container, "name")));
        }
        actions(container, &path, &around, errors);
        restart::validate(container, &path, errors);
    }
    host_ports(containers, &list, errors);
    if spec["hostNetwork"] == true {
        host_network(containers, &list, is_pod, errors);
    }
    let list = path.child("initContainers");
    for (i, container) in items(spec, "initContainers").iter().enumerate() {
        let path = list.index(i);
        one(container, &path, &around, errors);
        restart::validate(container, &path, errors);
        let name = text(container, "name");
        if seen.contains(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else if !name.is_empty() {
            seen.insert(name);
        }
        // They run one after another, so each is looked at alone, as if it were the first.
        host_ports(std::slice::from_ref(container), &list, errors);
        if text(container, "restartPolicy") == "Always" {
            actions(container, &path, &around, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if has(container, field) {
                let text = "may not be set for init containers without restartPolicy=Always";
                errors.push(Error::forbidden(&path.child(field), text));
            }
        }
        for (j, policy) in items(container, "resizePolicy").iter().enumerate() {
            if text(policy, "restartPolicy") == "RestartContainer" {
                let field = path.child("resizePolicy").index(j).child("restartPolicy");
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(Error::invalid(&field, "RestartContainer", why));
            }
        }
    }
}

/// What holds for containers of pods, but not of templates.
pub(super) fn only_for_pod(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    let image = text(container, "image");
    if image.trim() != image {
        errors.push(Error::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"));
    }
}

/// What holds for every container.
pub(super) fn one(container: &Value, path: &Path, around: &Around<'_>, errors: &mut Vec<Error>) {
    required_format(container, "name", dns1123_label, path, errors);
    required(container, "image", path, errors);
    if required(container, "terminationMessagePolicy", path, errors) {
        one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    }
    ports(container, path, errors);
    env::validate(container, path, errors);
    mounts(container, path, around.volumes, errors);
    if required(container, "imagePullPolicy", path, errors) {
        one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    }
    resources(&container["resources"], &path.child("resources"), errors);
    resize_policy(container, &path.child("resizePolicy"), around.restart, errors);
    security_context(&container["securityContext"], &path.child("securityContext"), around.host_users, errors);
}

/// Hooks and probes, which only containers that go on running have.
fn actions(container: &Value, path: &Path, around: &Around<'_>, errors: &mut Vec<Error>) {
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if !handler.is_null() {
            probe::hook(handler, around.grace, &path.child("lifecycle").child(hook), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, name) {
            probe::validate(&container[name], name, &path.child(name), errors);
        }
    }
}

fn resize_policy(container: &Value, path: &Path, pod_restarts: &str, errors: &mut Vec<Error>) {
    let mut seen = BTreeSet::new();
    for (i, policy) in items(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.push(Error::duplicate(&path.index(i), resource));
        }
        // What is wrong with one of them is told of the list.
        for (value, known) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.push(Error::required(path, ""));
            } else if !known.contains(&value) {
                errors.push(Error::not_supported_in_order(path, value, known));
            }
        }
        if pod_restarts == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, why));
        }
    }
}

fn ports(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut names = BTreeSet::new();
    for (i, port) in items(container, "ports").iter().enumerate() {
        let path = path.child("ports").index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = port_name(name);
            if wrong.is_empty() && !names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            n if !(1..=65535).contains(&n) => {
                errors.push(Error::invalid(&path.child("containerPort"), n, PORT_RANGE));
            }
            _ => {}
        }
        match port["hostPort"].as_i64().unwrap_or(0) {
            0 => {}
            n if !(1..=65535).contains(&n) => errors.push(Error::invalid(&path.child("hostPort"), n, PORT_RANGE)),
            _ => {}
        }
        if required(port, "protocol", &path, errors) {
            one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
        }
    }
}

fn host_ports(containers: &[Value], path: &Path, errors: &mut Vec<Error>) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in items(container, "ports").iter().enumerate() {
            let number = port["hostPort"].as_i64().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if !seen.insert(key.clone()) {
                errors.push(Error::duplicate(&path.index(i).child("ports").index(j).child("hostPort"), key));
            }
        }
    }
}

fn host_network(containers: &[Value], path: &Path, is_pod: bool, errors: &mut Vec<Error>) {
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in items(container, "ports").iter().enumerate() {
            let bad = port["hostPort"].as_i64().unwrap_or(0);
            // In a template a port that is not given will be made equal in the pod.
            if (is_pod || bad != 0) && bad != port["containerPort"].as_i64().unwrap_or(0) {
                let field = path.index(i).child("ports").index(j).child("hostPort");
                errors.push(Error::invalid(&field, bad, "must match `containerPort` when `hostNetwork` is true"));
            }
        }
    }
}

fn mounts(container: &Value, path: &Path, volumes: &VolumeNames, errors: &mut Vec<Error>) {
    let mut points = BTreeSet::new();
    let list_path = path.child("volumeMounts");
    let devices = items(container, "volumeDevices");
    for (i, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = list_path.index(i);
        let name = text(mount, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        if !volumes.contains(name) {
            errors.push(Error::not_found(&path.child("name"), name));
        }
        let point = text(mount, "mountPath");
        if point.is_empty() {
            errors.push(Error::required(&path.child("mountPath"), ""));
        }
        if !points.insert(point) {
            errors.push(Error::invalid(&path.child("mountPath"), point, "must be unique"));
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            errors.push(Error::invalid(&path.child("name"), name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| text(device, "devicePath") == point) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&path.child("mountPath"), point, why));
        }
        if !text(mount, "subPath").is_empty() && !text(mount, "subPathExpr").is_empty() {
            let text = "subPathExpr and subPath are mutually exclusive";
            errors.push(Error::invalid(&path.child("subPathExpr"), mount["subPathExpr"].clone(), text));
        }
        // These are told of the list, as Kubernetes does.
        for field in ["subPath", "subPathExpr"] {
            local_path(text(mount, field), &list_path.child(field), errors);
        }
        one_of(mount, "mountPropagation", &["Bidirectional", "HostToContainer", "None"], &list_path, errors);
        if text(mount, "mountPropagation") == "Bidirectional" && container["securityContext"]["privileged"] != true {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&list_path.child("mountPropagation"), why));
        }
        recursive_read_only(mount, &list_path, errors);
    }
    block_devices(container, path, volumes, errors);
}

fn recursive_read_only(mount: &Value, path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("recursiveReadOnly");
    match text(mount, "recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if mount["readOnly"] != true {
                errors.push(Error::forbidden(&at, "may only be specified when readOnly is true"));
            }
            if !matches!(text(mount, "mountPropagation"), "" | "None") {
                errors.push(Error::forbidden(
                    &at,
                    "may only be specified when mountPropagation is None or not specified",
                ));
            }
        }
        other => {
            let known = ["Disabled", "Enabled", "IfPossible"];
            errors.push(Error::not_supported(&at, other, &known));
        }
    }
}

fn block_devices(container: &Value, path: &Path, volumes: &VolumeNames, errors: &mut Vec<Error>) {
    let (mut names, mut points) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in items(container, "volumeDevices").iter().enumerate() {
        let at = path.child("volumeDevices").index(i);
        let (name, point) = (text(device, "name"), text(device, "devicePath"));
        let (name_at, point_at) = (at.child("name"), at.child("devicePath"));
        if name.is_empty() {
            errors.push(Error::required(&name_at, ""));
        } else if !names.insert(name) {
            errors.push(Error::invalid(&name_at, name, "must be unique"));
        }
        if !volumes.contains(name) {
            errors.push(Error::not_found(&name_at, name));
        } else if !volumes.is_claim(name) {
            let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.push(Error::invalid(&name_at, name, why));
        }
        if point.is_empty() {
            errors.push(Error::required(&point_at, ""));
        }
        if points.contains(point) {
            errors.push(Error::invalid(&point_at, point, "must be unique"));
        }
        if point.split('/').any(|part| part == "..") {
            errors.push(Error::invalid(&point_at, point, "can not contain backsteps ('..')"));
        } else {
            points.insert(point);
        }
        let mounts = items(container, "volumeMounts");
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            errors.push(Error::invalid(&name_at, name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == point) {
            errors.push(Error::invalid(&point_at, point, "must not already exist as a path in volumeMounts"));
        }
    }
}

/// A path inside a volume: relative, and it stays inside.
pub(super) fn local_path(value: &str, path: &Path, errors: &mut Vec<Error>) {
    if value.starts_with('/') {
        errors.push(Error::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

/// `..` may not be an element of a path.
pub(super) fn no_backsteps(value: &str, path: &Path, errors: &mut Vec<Error>) {
    if value.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, value, "must not contain '..'"));
    }
}

fn resources(resources: &Value, path: &Path, errors: &mut Vec<Error>) {
    let parse = |kind: &str, name: &str| text(&resources[kind], name).parse::<Quantity>().ok();
    let (mut compute, mut huge) = (false, false);
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            let at = path.child(kind).key(name);
            names::container_name(name, &at, errors);
            names::amount(name, value, &at, errors);
            compute |= matches!(name.as_str(), "cpu" | "memory");
            huge |= name.starts_with("hugepages-");
            let Some(request) = parse(kind, name).filter(|_| kind == "requests") else { continue };
            let fixed = !names::may_be_overcommitted(name);
            match parse("limits", name) {
                Some(limit) if fixed && request != limit => {
                    let text = format!("must be equal to {name} limit of {limit}");
                    errors.push(Error::invalid(&path.child(kind), request.to_string(), text));
                }
                Some(limit) if request > limit => {
                    let text = format!("must be less than or equal to {name} limit of {limit}");
                    errors.push(Error::invalid(&path.child(kind), request.to_string(), text));
                }
                None if fixed => {
                    let text = "Limit must be set for non overcommitable resources";
                    errors.push(Error::required(&path.child("limits"), text));
                }
                _ => {}
            }
        }
    }
    if huge && !compute {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn security_context(context: &Value, path: &Path, host_users: bool, errors: &mut Vec<Error>) {
    if context.is_null() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        within(context, name, 0, 2_147_483_647, path, errors);
    }
    one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    if host_users && text(context, "procMount") == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        errors.push(Error::invalid(&path.child("procMount"), "Unmasked", why));
    }
    super::security::seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    if context["allowPrivilegeEscalation"] == false {
        let mut wrong = |why: &str| {
            let shown = crate::internal::text("SecurityContext", context);
            errors.push(Error::invalid(path, context.clone(), why).show_value(shown));
        };
        if context["privileged"] == true {
            wrong("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if items(&context["capabilities"], "add").iter().any(|c| c == "CAP_SYS_ADMIN") {
            wrong("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    super::security::app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
}
