//! Validation of a container's environment, and of references to the pod's own fields.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::{format, required, required_format};
use crate::kinds::edit::{has, items, text};
use crate::names::{config_key, dns1123_subdomain, env_var_name, qualified_name};

/// Everything that is wrong with `env` and `envFrom`.
pub(super) fn validate(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    environment(container, path, errors);
    environment_from(container, path, errors);
}

fn environment(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, variable) in items(container, "env").iter().enumerate() {
        let path = path.child("env").index(i);
        required_format(variable, "name", env_var_name, &path, errors);
        let source = &variable["valueFrom"];
        if source.is_null() {
            continue;
        }
        let path = path.child("valueFrom");
        if !text(variable, "value").is_empty() {
            errors.push(Error::invalid(&path, "", "may not be specified when `value` is not empty"));
        }
        let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        match known.iter().filter(|k| has(source, k)).count() {
            0 => errors.push(Error::invalid(
                &path,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            )),
            1 => {}
            _ => errors.push(Error::invalid(&path, "", "may not have more than one field specified at a time")),
        }
        if has(source, "fieldRef") {
            field_ref(&source["fieldRef"], ENV_FIELDS, &path.child("fieldRef"), errors);
        }
        if has(source, "resourceFieldRef") {
            resource_ref(&source["resourceFieldRef"], false, &path.child("resourceFieldRef"), errors);
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            if has(source, kind) {
                let path = path.child(kind);
                required(&source[kind], "name", &path, errors);
                required_format(&source[kind], "key", config_key, &path, errors);
            }
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields which a downward API volume may show.
pub(super) const VOLUME_FIELDS: &[&str] =
    &["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];

/// A reference to a field of the pod itself.
pub(super) fn field_ref(reference: &Value, known: &[&str], path: &Path, errors: &mut Vec<Error>) {
    if !required(reference, "apiVersion", path, errors) || !required(reference, "fieldPath", path, errors) {
        return;
    }
    let field = text(reference, "fieldPath");
    let path = path.child("fieldPath");
    if let Some((map, key)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        if map == "metadata.annotations" || map == "metadata.labels" {
            errors.extend(qualified_name(&key).into_iter().map(|m| Error::invalid(&path, key.as_str(), m)));
        } else {
            let text = format!("error converting fieldPath: field label does not support subscript: {field}");
            errors.push(Error::invalid(&path, field, text));
        }
        return;
    }
    let all =
        ["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.hostNetwork", "status.nominatedNodeName"];
    if known.contains(&field) {
    } else if all.contains(&field) || ENV_FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field) {
        errors.push(Error::not_supported(&path, field, known));
    } else {
        let text = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(Error::invalid(&path, field, text));
    }
}

/// A reference to a container's requests or limits; in a volume it must name the container.
pub(super) fn resource_ref(reference: &Value, volume: bool, path: &Path, errors: &mut Vec<Error>) {
    if volume {
        required(reference, "containerName", path, errors);
    }
    if !required(reference, "resource", path, errors) {
        return;
    }
    let resource = text(reference, "resource");
    let known = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if !known.contains(&resource) && !resource.contains(".hugepages-") {
        errors.push(Error::not_supported(&path.child("resource"), resource, &known));
        return;
    }
    let divisor = text(reference, "divisor");
    let allowed: &[&str] = if resource.ends_with(".cpu") {
        &["0", "1m", "1"]
    } else {
        &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
    };
    if !divisor.is_empty() && !allowed.contains(&divisor) {
        let unit = resource.rsplit('.').next().unwrap_or_default();
        let text = if unit == "cpu" {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        } else {
            format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {unit} resource"
            )
        };
        errors.push(Error::invalid(&path.child("divisor"), divisor, text));
    }
}

fn environment_from(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, source) in items(container, "envFrom").iter().enumerate() {
        let path = path.child("envFrom").index(i);
        format(source, "prefix", env_var_name, &path, errors);
        let both = ["configMapRef", "secretRef"];
        match both.iter().filter(|k| has(source, k)).count() {
            0 => errors.push(Error::invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(Error::invalid(&path, "", "may not have more than one field specified at a time")),
        }
        for kind in both {
            if has(source, kind) {
                required_format(&source[kind], "name", dns1123_subdomain, &path.child(kind), errors);
            }
        }
    }
}
