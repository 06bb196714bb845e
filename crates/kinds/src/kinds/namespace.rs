//! Namespaces: finalizers, phase, the label with their own name.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::edit::{copy, ensure, items, set, text};
use super::finalizers;
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    columns: || &COLUMNS,
    row,
    field: |namespace, _| Some(text(&namespace["status"], "phase").to_owned()),
    ..Hooks::NONE
};

pub(crate) const FIELDS: &[&str] = &["status.phase"];

/// The finalizer that stands for the namespace's content.
const KUBERNETES: &str = "kubernetes";

static COLUMNS: [Column; 3] = [NAME, column("Status", "The status of the namespace", 0), AGE];

fn row(namespace: &Value, now: Timestamp) -> Row {
    let phase = Value::from(text(&namespace["status"], "phase"));
    Row { cells: vec![name(namespace), phase, age(namespace, now)], conditions: Vec::new() }
}

fn default(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if text(&namespace["metadata"], "name").is_empty() {
        return;
    }
    if let Some(labels) = ensure(namespace, "metadata").and_then(|m| ensure(m, "labels")) {
        set(labels, "kubernetes.io/metadata.name", name);
    }
}

fn prepare_create(namespace: &mut Value) {
    // A generated name is known only now.
    default(namespace);
    set(namespace, "status", json!({"phase": "Active"}));
    let has_own = super::edit::texts(&namespace["spec"], "finalizers").any(|f| f == KUBERNETES);
    if has_own {
        return;
    }
    let Some(spec) = ensure(namespace, "spec") else { return };
    let mut all: Vec<Value> = items(spec, "finalizers").to_vec();
    all.push(Value::from(KUBERNETES));
    set(spec, "finalizers", all);
}

fn prepare_update(new: &mut Value, old: &Value, part: Part) {
    match part {
        Part::Status => copy(new, old, "spec"),
        Part::Finalize => copy(new, old, "status"),
        Part::Main | Part::EphemeralContainers | Part::Resize => {
            copy(new, old, "spec");
            copy(new, old, "status");
        }
    }
}

fn validate(namespace: &Value, errors: &mut Vec<Error>) {
    finalizers(namespace, errors);
    crate::meta::validate_builtin_finalizers(
        &namespace["spec"]["finalizers"],
        &Path::new("spec").child("finalizers"),
        errors,
    );
}

fn validate_update(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    validate(new, errors);
    if part != Part::Status {
        return;
    }
    let phase = text(&new["status"], "phase");
    let field = Path::new("status").child("Phase");
    if old["metadata"]["deletionTimestamp"].is_null() {
        if phase != "Active" {
            let text = "may only be 'Active' if `deletionTimestamp` is empty";
            errors.push(Error::invalid(&field, phase, text));
        }
    } else if phase != "Terminating" {
        let text = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        errors.push(Error::invalid(&field, phase, text));
    }
}
