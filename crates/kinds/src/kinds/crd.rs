//! CustomResourceDefinitions: defaults, strategy and columns. What a schema may say is decided by the schema crate.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::edit::{bump_generation, copy, default, ensure, first_generation, items, set, text};
use crate::kind::{Hooks, Part};
use crate::table::{AGE_DESCRIPTION, Column, NAME, Row, name};

pub(crate) const HOOKS: Hooks =
    Hooks { default: default_crd, prepare_create, prepare_update, columns: || &COLUMNS, row, ..Hooks::NONE };

static COLUMNS: [Column; 2] =
    [NAME, Column { name: "Created At", type_: "date", format: "", description: AGE_DESCRIPTION, priority: 0 }];

fn row(crd: &Value, _: Timestamp) -> Row {
    let created = Value::from(text(&crd["metadata"], "creationTimestamp"));
    Row { cells: vec![name(crd), created], conditions: Vec::new() }
}

fn default_crd(crd: &mut Value) {
    let Some(spec) = ensure(crd, "spec") else { return };
    if let Some(conversion) = ensure(spec, "conversion") {
        default(conversion, "strategy", "None");
        if let Some(service) = conversion.pointer_mut("/webhook/clientConfig/service").filter(|s| s.is_object()) {
            default(service, "port", 443);
        }
    }
    if let Some(names) = ensure(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if text(names, "singular").is_empty() {
            set(names, "singular", kind.to_lowercase());
        }
        if text(names, "listKind").is_empty() && !kind.is_empty() {
            set(names, "listKind", format!("{kind}List"));
        }
    }
    for version in super::edit::items_mut(spec, "versions") {
        for column in super::edit::items_mut(version, "additionalPrinterColumns") {
            if column["priority"] == 0 {
                super::edit::remove(column, "priority");
            }
        }
    }
}

/// The version in which objects are stored.
fn storage_version(crd: &Value) -> Option<&str> {
    items(&crd["spec"], "versions").iter().find(|v| v["storage"] == true).map(|v| text(v, "name"))
}

fn empty_status() -> Value {
    json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": null})
}

fn prepare_create(crd: &mut Value) {
    first_generation(crd);
    let mut status = empty_status();
    if let Some(version) = storage_version(crd) {
        set(&mut status, "storedVersions", json!([version]));
    }
    set(crd, "status", status);
}

fn prepare_update(new: &mut Value, old: &Value, part: Part) {
    if part == Part::Status {
        copy(new, old, "spec");
        if let Some(meta) = new.get_mut("metadata") {
            // Only the field managers of the metadata may change with the status.
            let fields: Map<String, Value> = meta["managedFields"]
                .as_array()
                .map(|m| ("managedFields".to_owned(), Value::from(m.clone())))
                .into_iter()
                .collect();
            let mut kept = old["metadata"].clone();
            for (field, value) in fields {
                set(&mut kept, &field, value);
            }
            copy(&mut kept, meta, "resourceVersion");
            *meta = kept;
        }
        bump_generation(new, old, false);
        return;
    }
    copy(new, old, "status");
    let changed = new["spec"] != old["spec"];
    bump_generation(new, old, changed);
    // A version that becomes the storage version is remembered: objects may be stored in it from now on.
    let Some(version) = storage_version(new).map(str::to_owned) else { return };
    let mut stored: Vec<Value> = items(&new["status"], "storedVersions").to_vec();
    if !stored.iter().any(|v| *v == version) {
        stored.push(Value::from(version));
        if let Some(status) = ensure(new, "status") {
            set(status, "storedVersions", stored);
        }
    }
}
