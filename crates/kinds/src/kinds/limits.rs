//! Resource quotas and limit ranges.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::edit::{default, ensure, items, items_mut, object, set, text};
use super::pod::volume::amounts;
use super::{finalizers, finalizers_only, split_status};
use crate::kind::Hooks;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const QUOTA: Hooks = Hooks {
    prepare_create: |quota| set(quota, "status", object()),
    prepare_update: split_status,
    validate: validate_quota,
    validate_update: finalizers_only,
    columns: || &QUOTA_COLUMNS,
    row: quota_row,
    ..Hooks::NONE
};

pub(crate) const RANGE: Hooks = Hooks {
    default: default_range,
    validate: validate_range,
    validate_update: finalizers_only,
    columns: || &RANGE_COLUMNS,
    row: |range, _| {
        let created = Value::from(text(&range["metadata"], "creationTimestamp"));
        Row { cells: vec![name(range), created], conditions: Vec::new() }
    },
    ..Hooks::NONE
};

static RANGE_COLUMNS: [Column; 2] = [
    NAME,
    Column { name: "Created At", type_: "date", format: "", description: crate::table::AGE_DESCRIPTION, priority: 0 },
];

static QUOTA_COLUMNS: [Column; 4] = [
    NAME,
    column("Request", "Request represents a minimum amount of cpu/memory that a container may consume.", 0),
    column(
        "Limit",
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
        0,
    ),
    AGE,
];

fn quota_row(quota: &Value, now: Timestamp) -> Row {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        let line = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits") { limits.push(line) } else { requests.push(line) }
    }
    let cells = vec![name(quota), Value::from(requests.join(", ")), Value::from(limits.join(", ")), age(quota, now)];
    Row { cells, conditions: Vec::new() }
}

fn validate_quota(quota: &Value, errors: &mut Vec<Error>) {
    finalizers(quota, errors);
    amounts(&quota["spec"]["hard"], &Path::new("spec").child("hard"), errors);
}

fn default_range(range: &mut Value) {
    let Some(spec) = ensure(range, "spec") else { return };
    for item in items_mut(spec, "limits") {
        if text(item, "type") != "Container" {
            continue;
        }
        let (max, min) = (item["max"].clone(), item["min"].clone());
        let limits: Vec<(String, Value)> =
            max.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        if let (Some(defaults), false) = (ensure(item, "default"), limits.is_empty()) {
            for (name, value) in limits {
                default(defaults, &name, value);
            }
        }
        let mut requests = item["default"].clone();
        for (name, value) in min.as_object().into_iter().flatten() {
            if !requests.is_object() {
                requests = object();
            }
            if item["default"].get(name).is_none() {
                set(&mut requests, name, value.clone());
            }
        }
        if let Some(target) = ensure(item, "defaultRequest") {
            for (name, value) in requests.as_object().into_iter().flatten() {
                default(target, name, value.clone());
            }
        }
        for empty in ["default", "defaultRequest"] {
            if item[empty].as_object().is_some_and(serde_json::Map::is_empty) {
                super::edit::remove(item, empty);
            }
        }
    }
}

fn validate_range(range: &Value, errors: &mut Vec<Error>) {
    finalizers(range, errors);
    let path = Path::new("spec").child("limits");
    let mut seen: Vec<&str> = Vec::new();
    for (i, item) in items(&range["spec"], "limits").iter().enumerate() {
        let path = path.index(i);
        let type_ = text(item, "type");
        errors.extend(
            crate::names::qualified_name(type_).into_iter().map(|m| Error::invalid(&path.child("type"), type_, m)),
        );
        if seen.contains(&type_) {
            errors.push(Error::duplicate(&path.child("type"), type_));
        }
        seen.push(type_);
        for list in ["max", "min", "default", "defaultRequest"] {
            amounts(&item[list], &path.child(list), errors);
        }
    }
}
