//! Validation of containers: names, images, ports, mounts, resources, probes.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::env;
use super::volume::VolumeNames;
use crate::kinds::check::{not_negative, one_of, required, required_format, within};
use crate::kinds::edit::{has, items, text};
use crate::kinds::resources as names;
use crate::names::{dns1123_label, port_name};
use crate::quantity::Quantity;

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// Validates all containers of a pod spec at `path`.
pub(super) fn validate_all(spec: &Value, path: &Path, volumes: &VolumeNames, errors: &mut Vec<Error>) {
    let mut names = BTreeSet::new();
    let containers = items(spec, "containers");
    if containers.is_empty() {
        errors.push(Error::required(&path.child("containers"), ""));
    }
    for (i, container) in containers.iter().enumerate() {
        one(container, &path.child("containers").index(i), volumes, &mut names, errors);
    }
    host_ports(containers, &path.child("containers"), errors);
    if spec["hostNetwork"] == true {
        host_network(containers, &path.child("containers"), errors);
    }
    for (i, container) in items(spec, "initContainers").iter().enumerate() {
        let path = path.child("initContainers").index(i);
        one(container, &path, volumes, &mut names, errors);
        if text(container, "restartPolicy") == "Always" {
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if has(container, field) {
                let text = "may not be set for init containers without restartPolicy=Always";
                errors.push(Error::forbidden(&path.child(field), text));
            }
        }
    }
}

/// What holds for every container.
pub(super) fn one<'a>(
    container: &'a Value,
    path: &Path,
    volumes: &VolumeNames,
    names: &mut BTreeSet<&'a str>,
    errors: &mut Vec<Error>,
) {
    let name = text(container, "name");
    required_format(container, "name", dns1123_label, path, errors);
    if !name.is_empty() && !names.insert(name) {
        errors.push(Error::duplicate(&path.child("name"), name));
    }
    let image = text(container, "image");
    if image.is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    } else if image.trim() != image {
        errors.push(Error::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"));
    }
    if required(container, "imagePullPolicy", path, errors) {
        one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    }
    if required(container, "terminationMessagePolicy", path, errors) {
        one_of(container, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"], path, errors);
    }
    one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    ports(container, path, errors);
    env::validate(container, path, errors);
    mounts(container, path, volumes, errors);
    resources(&container["resources"], &path.child("resources"), errors);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, name) {
            probe(&container[name], name, &path.child(name), errors);
        }
    }
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if !handler.is_null() {
            self::handler(handler, &path.child("lifecycle").child(hook), errors);
        }
    }
    security_context(&container["securityContext"], &path.child("securityContext"), errors);
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

fn host_network(containers: &[Value], path: &Path, errors: &mut Vec<Error>) {
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in items(container, "ports").iter().enumerate() {
            let bad = port["hostPort"].as_i64().unwrap_or(0);
            if bad != 0 && port["hostPort"] != port["containerPort"] {
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
        recursive_read_only(mount, &path, errors);
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
            let why = "can only use volume source type of PersistentVolumeClaim for block mode";
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

fn probe(probe: &Value, kind: &str, path: &Path, errors: &mut Vec<Error>) {
    handler(probe, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(probe, field, path, errors);
    }
    if probe["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n <= 0) {
        let field = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&field, probe["terminationGracePeriodSeconds"].clone(), "must be greater than 0"));
    }
    if kind == "readinessProbe" && has(probe, "terminationGracePeriodSeconds") {
        let field = path.child("terminationGracePeriodSeconds");
        let value = probe["terminationGracePeriodSeconds"].clone();
        errors.push(Error::invalid(&field, value, "must not be set for readinessProbes"));
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.push(Error::invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1"));
    }
}

fn handler(handler: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut found = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        if !has(handler, kind) {
            continue;
        }
        found += 1;
        let action = &handler[kind];
        let path = path.child(kind);
        if found > 1 {
            errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" if items(action, "command").is_empty() => {
                errors.push(Error::required(&path.child("command"), ""));
            }
            "httpGet" => {
                if text(action, "path").is_empty() {
                    errors.push(Error::required(&path.child("path"), ""));
                }
                port(&action["port"], &path.child("port"), errors);
                one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
                for header in items(action, "httpHeaders") {
                    let name = text(header, "name");
                    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                        let text = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                        errors.push(Error::invalid(&path.child("httpHeaders"), name, text));
                    }
                }
            }
            "tcpSocket" => port(&action["port"], &path.child("port"), errors),
            "grpc" => within(action, "port", 1, 65535, &path, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn port(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    match value {
        Value::String(name) => {
            errors.extend(port_name(name).into_iter().map(|m| Error::invalid(path, name.as_str(), m)))
        }
        other => {
            let number = other.as_i64().unwrap_or(0);
            if !(1..=65535).contains(&number) {
                errors.push(Error::invalid(path, number, PORT_RANGE));
            }
        }
    }
}

fn security_context(context: &Value, path: &Path, errors: &mut Vec<Error>) {
    if context.is_null() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        within(context, name, 0, 2_147_483_647, path, errors);
    }
    one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    super::spec::seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, context.clone(), text));
        }
        if items(&context["capabilities"], "add").iter().any(|c| c == "CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, context.clone(), text));
        }
    }
}
