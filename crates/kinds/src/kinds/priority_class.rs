//! Priority classes.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::{immutable, one_of};
use super::edit::{default, first_generation, text};
use super::finalizers;
use crate::kind::Hooks;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const HOOKS: Hooks = Hooks {
    default: |class| default(class, "preemptionPolicy", "PreemptLowerPriority"),
    prepare_create: first_generation,
    validate,
    validate_update: |new, old, _, errors| {
        validate(new, errors);
        if new["value"] != old["value"] {
            errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        immutable(new, old, "preemptionPolicy", &Path::root(), errors);
    },
    columns: || &COLUMNS,
    row,
    ..Hooks::NONE
};

fn validate(class: &Value, errors: &mut Vec<Error>) {
    finalizers(class, errors);
    one_of(class, "preemptionPolicy", &["PreemptLowerPriority", "Never"], &Path::root(), errors);
    let system = text(&class["metadata"], "name").starts_with("system-");
    if system {
        let text = "priority class names with 'system-' prefix are reserved for system use only";
        errors.push(Error::forbidden(&Path::new("metadata").child("name"), text));
    }
    if class["value"].as_i64().is_some_and(|n| n > 1_000_000_000) && !system {
        let text = "maximum allowed value of a user defined priority is 1000000000";
        errors.push(Error::forbidden(&Path::new("value"), text));
    }
}

static COLUMNS: [Column; 5] = [
    NAME,
    column(
        "Value",
        "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
        0,
    ),
    column(
        "Global-Default",
        "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class. Only one PriorityClass can be marked as `globalDefault`. However, if more than one PriorityClasses exists with their `globalDefault` field set to true, the smallest value of such global default PriorityClasses will be used as the default priority.",
        0,
    ),
    AGE,
    column(
        "PreemptionPolicy",
        "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
        0,
    ),
];

fn row(class: &Value, now: Timestamp) -> Row {
    Row {
        cells: vec![
            name(class),
            class["value"].clone(),
            Value::from(class["globalDefault"] == true),
            age(class, now),
            Value::from(text(class, "preemptionPolicy")),
        ],
        conditions: Vec::new(),
    }
}
