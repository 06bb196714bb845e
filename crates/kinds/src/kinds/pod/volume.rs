//! Validation of volumes.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::container::{local_path, no_backsteps};
use super::env::{VOLUME_FIELDS, field_ref, resource_ref};
use crate::kinds::check::{NOT_NEGATIVE, one_of, required, required_format};
use crate::kinds::edit::{has, items, text};
use crate::names::{dns1123_label, dns1123_subdomain};
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

const DUPLICATE: &str = "conflicting duplicate paths";
const MODE_RANGE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Validates the volumes of a pod spec; returns the names of those that are right.
pub(super) fn validate_all(spec: &Value, path: &Path, is_pod: bool, errors: &mut Vec<Error>) -> VolumeNames {
    let mut names = VolumeNames::default();
    for (i, volume) in items(spec, "volumes").iter().enumerate() {
        let path = path.index(i);
        let before = errors.len();
        let name = text(volume, "name");
        source(volume, &path, is_pod, errors);
        required_format(volume, "name", dns1123_label, &path, errors);
        if names.contains(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        // A volume that is wrong cannot be mounted either.
        if errors.len() == before {
            names.names.insert(name.to_owned());
            if has(volume, "persistentVolumeClaim") || has(volume, "ephemeral") {
                names.claims.insert(name.to_owned());
            }
        }
    }
    names
}

/// The kinds of volumes, in the order in which the first one counts.
const KINDS: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

fn source(volume: &Value, path: &Path, is_pod: bool, errors: &mut Vec<Error>) {
    let mut first = true;
    for kind in KINDS.into_iter().filter(|kind| has(volume, kind)) {
        let (value, outer) = (&volume[kind], path);
        let path = path.child(kind);
        if !first {
            // Two names are misspelt there.
            let named = match kind {
                "downwardAPI" => outer.child("downwarAPI"),
                "cephfs" => outer.child("cephFS"),
                _ => path,
            };
            errors.push(Error::forbidden(&named, "may not specify more than 1 volume type"));
            continue;
        }
        first = false;
        match kind {
            "emptyDir" => {
                if let Ok(limit) = text(value, "sizeLimit").parse::<Quantity>()
                    && limit.is_negative()
                {
                    let text = "SizeLimit field must be a valid resource quantity";
                    errors.push(Error::forbidden(&path.child("sizeLimit"), text));
                }
            }
            "hostPath" => {
                if !required(value, "path", &path, errors) {
                    continue;
                }
                no_backsteps(text(value, "path"), &path.child("path"), errors);
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
                required(value, "path", &path, errors);
                if !text(value, "path").starts_with('/') {
                    errors.push(Error::invalid(&path.child("path"), text(value, "path"), "must be an absolute path"));
                }
            }
            "csi" => {
                required_format(value, "driver", dns1123_subdomain, &path, errors);
            }
            "image" => {
                if is_pod {
                    required(value, "reference", &path, errors);
                }
                if required(value, "pullPolicy", &path, errors) {
                    one_of(value, "pullPolicy", &["Always", "IfNotPresent", "Never"], &path, errors);
                }
            }
            "gitRepo" => {
                required(value, "repository", &path, errors);
                local_path(text(value, "directory"), &path.child("directory"), errors);
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
    required(item, "path", path, errors);
    local_path(text(item, "path"), &path.child("path"), errors);
    if text(item, "path").starts_with("..") && !text(item, "path").starts_with("../") {
        errors.push(Error::invalid(&path.child("path"), text(item, "path"), "must not start with '..'"));
    }
}

fn keys(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, item) in items(value, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        required(item, "key", &path, errors);
        file_path(item, &path, errors);
        mode(item, "mode", &path, errors);
    }
}

/// What is wrong with files of the pod's own fields; Kubernetes does not say with which of them.
fn downward(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for item in items(value, "items") {
        file_path(item, path, errors);
        let (field, resource) = (has(item, "fieldRef"), has(item, "resourceFieldRef"));
        if field {
            field_ref(&item["fieldRef"], VOLUME_FIELDS, &path.child("fieldRef"), errors);
        }
        match (field, resource) {
            (true, true) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", why));
            }
            (true, false) => {}
            (false, true) => resource_ref(&item["resourceFieldRef"], true, &path.child("resourceFieldRef"), errors),
            (false, false) => {
                errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(item, "mode", path, errors);
    }
}

fn projected(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    mode(value, "defaultMode", path, errors);
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for (i, source) in items(value, "sources").iter().enumerate() {
        let source_path = path.child("sources").index(i);
        for kind in ["secret", "configMap"] {
            let (keyed, path_of_kind) = (&source[kind], source_path.child(kind));
            if keyed.is_null() {
                continue;
            }
            required(keyed, "name", &path_of_kind, errors);
            keys(keyed, &path_of_kind, errors);
            for file in items(keyed, "items").iter().map(|item| text(item, "path")).filter(|file| !file.is_empty()) {
                if !paths.insert(file) {
                    errors.push(Error::invalid(path, text(keyed, "name"), DUPLICATE));
                }
            }
        }
        downward(&source["downwardAPI"], &source_path.child("downwardAPI"), errors);
        for file in items(&source["downwardAPI"], "items").iter().map(|item| text(item, "path")) {
            if !file.is_empty() && !paths.insert(file) {
                errors.push(Error::invalid(path, file, DUPLICATE));
            }
        }
        let token = &source["serviceAccountToken"];
        if !token.is_null() {
            let seconds = token["expirationSeconds"].as_i64().unwrap_or(3600);
            let field = source_path.child("serviceAccountToken").child("expirationSeconds");
            if seconds < 600 {
                errors.push(Error::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
            }
            if seconds > 1 << 32 {
                errors.push(Error::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds"));
            }
            // The path is told of the volume.
            file_path(token, path, errors);
        }
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        if kinds.iter().filter(|kind| has(source, kind)).count() > 1 {
            errors.push(Error::forbidden(&source_path, "may not specify more than 1 volume type per source"));
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
