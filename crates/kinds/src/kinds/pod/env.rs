//! Validation of a container's environment, and of references to the pod's own fields.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::{format, required, required_format};
use crate::kinds::edit::{has, items, text};
use crate::names::{config_key, dns1123_label, dns1123_subdomain, env_var_name, qualified_name};

use super::container::no_backsteps;

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
        if has(source, "fieldRef") {
            field_ref(&source["fieldRef"], ENV_FIELDS, &path.child("fieldRef"), errors);
        }
        if has(source, "resourceFieldRef") {
            resource_ref(&source["resourceFieldRef"], false, &path.child("resourceFieldRef"), errors);
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            if has(source, kind) {
                let path = path.child(kind);
                let name = text(&source[kind], "name");
                errors
                    .extend(dns1123_subdomain(name).into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
                required_format(&source[kind], "key", config_key, &path, errors);
            }
        }
        if has(source, "fileKeyRef") {
            let (file, path) = (&source["fileKeyRef"], path.child("fileKeyRef"));
            required_format(file, "key", env_var_name, &path, errors);
            required_format(file, "volumeName", dns1123_label, &path, errors);
            if required(file, "path", &path, errors) {
                no_backsteps(text(file, "path"), &path.child("path"), errors);
            }
        }
        let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        let why = match known.iter().filter(|k| has(source, k)).count() {
            0 => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            _ if !text(variable, "value").is_empty() => "may not be specified when `value` is not empty",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(Error::invalid(&path, "", why));
    }
}

/// Variables that are read from files need volumes in which containers can write them.
pub(super) fn file_volumes(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            for (j, variable) in items(container, "env").iter().enumerate() {
                let file = &variable["valueFrom"]["fileKeyRef"];
                if file.is_null() {
                    continue;
                }
                let name = text(file, "volumeName");
                let field = path.child(list).index(i).child("env").index(j).child("valueFrom").child("fileKeyRef");
                let field = field.child("volumeName");
                match items(spec, "volumes").iter().find(|volume| text(volume, "name") == name) {
                    None => errors.push(Error::not_found(&field, name)),
                    Some(volume) if !has(volume, "emptyDir") => {
                        errors.push(Error::invalid(&field, name, "referenced volume must be of type emptyDir"));
                    }
                    Some(_) => {}
                }
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
    let outer = path;
    let path = path.child("fieldPath");
    if let Some((map, key)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        if map == "metadata.annotations" || map == "metadata.labels" {
            // This is told of the whole reference.
            errors.extend(qualified_name(&key).into_iter().map(|m| Error::invalid(outer, key.as_str(), m)));
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
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(reference, "resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if volume && text(reference, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !KNOWN.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, &KNOWN));
    }
    let divisor = text(reference, "divisor");
    if divisor.is_empty() || divisor == "0" {
        return;
    }
    const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let unit = match resource {
        "limits.cpu" | "requests.cpu" if !["1m", "1"].contains(&divisor) => {
            let why = "only divisor's values 1m and 1 are supported with the cpu resource";
            return errors.push(Error::invalid(&path.child("divisor"), resource, why));
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !SIZES.contains(&divisor) {
        let why = format!("only divisor's values {} are supported with the {unit} resource", SIZES.join(", "));
        errors.push(Error::invalid(&path.child("divisor"), resource, why));
    }
}

fn environment_from(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    // What a source is, or is not, is told of the list.
    let list = path.child("envFrom");
    for (i, source) in items(container, "envFrom").iter().enumerate() {
        let path = list.index(i);
        format(source, "prefix", env_var_name, &path, errors);
        let both = ["configMapRef", "secretRef"];
        match both.iter().filter(|k| has(source, k)).count() {
            0 => errors.push(Error::invalid(&list, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(Error::invalid(&list, "", "may not have more than one field specified at a time")),
        }
        for kind in both {
            if has(source, kind) {
                required_format(&source[kind], "name", dns1123_subdomain, &path.child(kind), errors);
            }
        }
    }
}
