//! Validation of volumes.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::container::{local_path, no_backsteps};
use super::env::{VOLUME_FIELDS, field_ref, resource_ref};
use crate::kinds::check::{NOT_NEGATIVE, one_of, required, required_format};
use crate::kinds::edit::{has, items, text};
use crate::names::{config_key, dns1123_label, dns1123_subdomain};
use crate::quantity::Quantity;

/// Names of the volumes which containers may mount.
#[derive(Default)]
pub(super) struct VolumeNames {
    names: BTreeSet<String>,
    claims: BTreeSet<String>,
}

impl VolumeNames {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the volume is a claim, which may be a block device.
    pub(super) fn is_claim(&self, name: &str) -> bool {
        self.claims.contains(name)
    }
}

const MODE_RANGE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Validates the volumes of a pod spec; returns their names.
pub(super) fn validate_all(spec: &Value, path: &Path, errors: &mut Vec<Error>) -> VolumeNames {
    let mut names = VolumeNames::default();
    for (i, volume) in items(spec, "volumes").iter().enumerate() {
        let path = path.index(i);
        let name = text(volume, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            let wrong = dns1123_label(name);
            errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
            if !names.names.insert(name.to_owned()) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            if has(volume, "persistentVolumeClaim") {
                names.claims.insert(name.to_owned());
            }
        }
        source(volume, &path, errors);
    }
    names
}

fn source(volume: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut first = true;
    for (kind, value) in volume.as_object().into_iter().flatten().filter(|(k, v)| *k != "name" && !v.is_null()) {
        let path = path.child(kind);
        if !first {
            errors.push(Error::forbidden(&path, "may not specify more than 1 volume type"));
            continue;
        }
        first = false;
        match kind.as_str() {
            "emptyDir" => {
                if let Ok(limit) = text(value, "sizeLimit").parse::<Quantity>()
                    && limit.is_negative()
                {
                    let text = "SizeLimit field must be a valid resource quantity";
                    errors.push(Error::forbidden(&path.child("sizeLimit"), text));
                }
            }
            "hostPath" => {
                if required(value, "path", &path, errors) {
                    no_backsteps(text(value, "path"), &path.child("path"), errors);
                }
                let types = [
                    "",
                    "BlockDevice",
                    "CharDevice",
                    "Directory",
                    "DirectoryOrCreate",
                    "File",
                    "FileOrCreate",
                    "Socket",
                ];
                one_of(value, "type", &types, &path, errors);
            }
            "secret" => {
                required(value, "secretName", &path, errors);
                mode(value, "defaultMode", &path, errors);
                keys(value, &path, errors);
            }
            "configMap" => {
                required(value, "name", &path, errors);
                mode(value, "defaultMode", &path, errors);
                keys(value, &path, errors);
            }
            "persistentVolumeClaim" => {
                required(value, "claimName", &path, errors);
            }
            "downwardAPI" => {
                mode(value, "defaultMode", &path, errors);
                downward(value, &path, errors);
            }
            "projected" => projected(value, &path, errors),
            "nfs" => {
                required(value, "server", &path, errors);
                if required(value, "path", &path, errors) && !text(value, "path").starts_with('/') {
                    errors.push(Error::invalid(&path.child("path"), text(value, "path"), "must be an absolute path"));
                }
            }
            "csi" => {
                required_format(value, "driver", dns1123_subdomain, &path, errors);
            }
            "ephemeral" if !has(value, "volumeClaimTemplate") => {
                errors.push(Error::required(&path.child("volumeClaimTemplate"), ""));
            }
            _ => {}
        }
    }
    if first {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

fn mode(value: &Value, name: &str, path: &Path, errors: &mut Vec<Error>) {
    if let Some(mode) = value[name].as_i64()
        && !(0..=0o777).contains(&mode)
    {
        errors.push(Error::invalid(&path.child(name), mode, MODE_RANGE));
    }
}

fn file_path(item: &Value, path: &Path, errors: &mut Vec<Error>) {
    if required(item, "path", path, errors) {
        local_path(text(item, "path"), &path.child("path"), errors);
        if text(item, "path").starts_with("..") && !text(item, "path").split('/').any(|p| p == "..") {
            errors.push(Error::invalid(&path.child("path"), text(item, "path"), "must not start with '..'"));
        }
    }
}

fn keys(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, item) in items(value, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        required_format(item, "key", config_key, &path, errors);
        file_path(item, &path, errors);
        mode(item, "mode", &path, errors);
    }
}

fn downward(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, item) in items(value, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        file_path(item, &path, errors);
        match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
            (true, true) => {
                errors.push(Error::invalid(
                    &path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
            (true, false) => field_ref(&item["fieldRef"], VOLUME_FIELDS, &path.child("fieldRef"), errors),
            (false, true) => resource_ref(&item["resourceFieldRef"], true, &path.child("resourceFieldRef"), errors),
            (false, false) => {
                errors.push(Error::required(&path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    mode(value, "defaultMode", path, errors);
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for (i, source) in items(value, "sources").iter().enumerate() {
        let path = path.child("sources").index(i);
        let mut first = true;
        for (kind, value) in source.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
            let path = path.child(kind);
            if !first {
                errors.push(Error::forbidden(&path, "may not specify more than 1 volume type per source"));
                continue;
            }
            first = false;
            match kind.as_str() {
                "secret" | "configMap" => {
                    required(value, "name", &path, errors);
                    keys(value, &path, errors);
                }
                "downwardAPI" => downward(value, &path, errors),
                "serviceAccountToken" => {
                    let seconds = value["expirationSeconds"].as_i64().unwrap_or(3600);
                    if seconds < 600 {
                        let field = path.child("expirationSeconds");
                        errors.push(Error::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
                    }
                    file_path(value, &path, errors);
                }
                _ => {}
            }
            for file in items(value, "items").iter().map(|f| text(f, "path")).chain([text(value, "path")]) {
                if !file.is_empty() && !paths.insert(file) {
                    errors.push(Error::invalid(&path, file, "conflicting duplicate paths"));
                }
            }
        }
    }
}

/// Quantities of a claim or quota must not be negative.
pub(crate) fn amounts(list: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (name, amount) in list.as_object().into_iter().flatten() {
        if let Some(quantity) = amount.as_str().and_then(|a| a.parse::<Quantity>().ok())
            && quantity.is_negative()
        {
            errors.push(Error::invalid(&path.key(name), quantity.to_string(), NOT_NEGATIVE));
        }
    }
}
