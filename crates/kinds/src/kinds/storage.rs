//! Persistent volumes and claims.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::check::{immutable, label_selector, one_of};
use super::edit::{default, ensure, has, items, set, text};
use super::pod::volume::amounts;
use super::{finalizers, split_status};
use crate::kind::{Hooks, Part};
use crate::quantity::Quantity;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const CLAIM: Hooks = Hooks {
    default: default_claim,
    prepare_create: |claim| set(claim, "status", json!({"phase": "Pending"})),
    prepare_update: split_status,
    validate: validate_claim,
    validate_update: update_claim,
    columns: || &CLAIM_COLUMNS,
    row: claim_row,
    ..Hooks::NONE
};

pub(crate) const VOLUME: Hooks = Hooks {
    default: default_volume,
    prepare_create: |volume| set(volume, "status", json!({"phase": "Pending"})),
    prepare_update: split_status,
    validate: validate_volume,
    validate_update: |new, _, _, errors| finalizers(new, errors),
    columns: || &VOLUME_COLUMNS,
    row: volume_row,
    ..Hooks::NONE
};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn default_claim(claim: &mut Value) {
    if let Some(spec) = ensure(claim, "spec") {
        default(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = ensure(claim, "status") {
        default(status, "phase", "Pending");
    }
}

fn default_volume(volume: &mut Value) {
    if let Some(spec) = ensure(volume, "spec") {
        default(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        if let Some(path) = spec.get_mut("hostPath") {
            default(path, "type", "");
        }
    }
    if let Some(status) = ensure(volume, "status") {
        default(status, "phase", "Pending");
    }
}

fn access_modes(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let modes = items(spec, "accessModes");
    let path = path.child("accessModes");
    if modes.is_empty() {
        errors.push(Error::required(&path, "at least 1 access mode is required"));
    }
    for mode in modes.iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            errors.push(Error::not_supported(&path, mode, MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        let text = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(&path, text));
    }
}

fn validate_claim(claim: &Value, errors: &mut Vec<Error>) {
    finalizers(claim, errors);
    let (spec, path) = (&claim["spec"], Path::new("spec"));
    access_modes(spec, &path, errors);
    label_selector(&spec["selector"], &path.child("selector"), errors);
    let storage = path.child("resources").key("storage");
    match text(&spec["resources"]["requests"], "storage").parse::<Quantity>() {
        Ok(quantity) if quantity.nano() <= 0 => {
            errors.push(Error::invalid(&storage, quantity.to_string(), "must be greater than zero"));
        }
        Ok(_) => {}
        Err(_) => errors.push(Error::required(&storage, "")),
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        let wrong = crate::names::dns1123_subdomain(class);
        errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("storageClassName"), class, m)));
    }
    one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
}

const CLAIM_FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn update_claim(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    finalizers(new, errors);
    if part != Part::Main {
        return;
    }
    validate_claim(new, errors);
    let mut rest = new["spec"].clone();
    let before = &old["spec"];
    // The volume is set once, by whoever binds the claim.
    if !has(before, "volumeName") {
        super::edit::copy(&mut rest, before, "volumeName");
    }
    if old["status"]["phase"] == "Bound"
        && let Some(resources) = rest.get_mut("resources")
    {
        super::edit::copy(resources, &before["resources"], "requests");
    }
    if rest != *before {
        errors.push(Error::forbidden(&Path::new("spec"), CLAIM_FIXED));
    }
    immutable(&new["spec"], before, "volumeMode", &Path::new("spec"), errors);
}

fn validate_volume(volume: &Value, errors: &mut Vec<Error>) {
    finalizers(volume, errors);
    let (spec, path) = (&volume["spec"], Path::new("spec"));
    access_modes(spec, &path, errors);
    if spec["capacity"].as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&path.child("capacity"), ""));
    } else if !has(&spec["capacity"], "storage") {
        errors.push(Error::not_supported(&path.child("capacity"), spec["capacity"].clone(), &["storage"]));
    }
    amounts(&spec["capacity"], &path.child("capacity"), errors);
    one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path, errors);
    one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
}

/// Access modes as kubectl abbreviates them.
fn modes(value: &Value) -> String {
    let order =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let present = |mode: &str| value.as_array().is_some_and(|l| l.iter().any(|m| m == mode));
    order.iter().filter(|(mode, _)| present(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The class: the field, or the annotation that came before it.
fn class(object: &Value) -> &str {
    let annotations = &object["metadata"]["annotations"];
    match annotations["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(class) => class,
        None => text(&object["spec"], "storageClassName"),
    }
}

fn or_unset(text: &str) -> Value {
    Value::from(if text.is_empty() { "<unset>" } else { text })
}

static CLAIM_COLUMNS: [Column; 9] = [
    NAME,
    column("Status", "phase represents the current phase of PersistentVolumeClaim.", 0),
    column("Volume", "volumeName is the binding reference to the PersistentVolume backing this claim.", 0),
    column("Capacity", "capacity represents the actual resources of the underlying volume.", 0),
    column(
        "Access Modes",
        "accessModes contains the actual access modes the volume backing the PVC has. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
        0,
    ),
    column("StorageClass", "StorageClass of the pvc", 0),
    column(
        "VolumeAttributesClass",
        "volumeAttributesClassName may be used to set the VolumeAttributesClass used by this claim.",
        0,
    ),
    AGE,
    column(
        "VolumeMode",
        "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.",
        1,
    ),
];

fn phase(object: &Value) -> Value {
    let phase = text(&object["status"], "phase");
    Value::from(if has(&object["metadata"], "deletionTimestamp") { "Terminating" } else { phase })
}

fn claim_row(claim: &Value, now: Timestamp) -> Row {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let volume = text(spec, "volumeName");
    let (capacity, shown) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (text(&status["capacity"], "storage").to_owned(), modes(&status["accessModes"]))
    };
    Row {
        cells: vec![
            name(claim),
            phase(claim),
            Value::from(volume),
            Value::from(capacity),
            Value::from(shown),
            Value::from(class(claim)),
            or_unset(text(spec, "volumeAttributesClassName")),
            age(claim, now),
            or_unset(text(spec, "volumeMode")),
        ],
        conditions: Vec::new(),
    }
}

static VOLUME_COLUMNS: [Column; 11] = [
    NAME,
    column(
        "Capacity",
        "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
        0,
    ),
    column(
        "Access Modes",
        "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
        0,
    ),
    column(
        "Reclaim Policy",
        "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim.",
        0,
    ),
    column(
        "Status",
        "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
        0,
    ),
    column(
        "Claim",
        "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim.",
        0,
    ),
    column("StorageClass", "StorageClass of the pv", 0),
    column("VolumeAttributesClass", "Name of VolumeAttributesClass to which this persistent volume belongs.", 0),
    column(
        "Reason",
        "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
        0,
    ),
    AGE,
    column(
        "VolumeMode",
        "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state. Value of Filesystem is implied when not included in spec.",
        1,
    ),
];

fn volume_row(volume: &Value, now: Timestamp) -> Row {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let claim = &spec["claimRef"];
    let claim =
        if claim.is_null() { String::new() } else { format!("{}/{}", text(claim, "namespace"), text(claim, "name")) };
    Row {
        cells: vec![
            name(volume),
            Value::from(text(&spec["capacity"], "storage")),
            Value::from(modes(&spec["accessModes"])),
            Value::from(text(spec, "persistentVolumeReclaimPolicy")),
            phase(volume),
            Value::from(claim),
            Value::from(class(volume)),
            or_unset(text(spec, "volumeAttributesClassName")),
            Value::from(text(status, "reason")),
            age(volume, now),
            or_unset(text(spec, "volumeMode")),
        ],
        conditions: Vec::new(),
    }
}
