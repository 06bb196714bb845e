//! Leases.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::not_negative;
use super::edit::{has, text};
use super::finalizers;
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const HOOKS: Hooks = Hooks { validate, validate_update, columns: || &COLUMNS, row, ..Hooks::NONE };

static COLUMNS: [Column; 3] = [
    NAME,
    column(
        "Holder",
        "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
        0,
    ),
    AGE,
];

fn row(lease: &Value, now: Timestamp) -> Row {
    let holder = Value::from(text(&lease["spec"], "holderIdentity"));
    Row { cells: vec![name(lease), holder, age(lease, now)], conditions: Vec::new() }
}

fn validate(lease: &Value, errors: &mut Vec<Error>) {
    finalizers(lease, errors);
    let (spec, path) = (&lease["spec"], Path::new("spec"));
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        errors.push(Error::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    not_negative(spec, "leaseTransitions", &path, errors);
    if has(spec, "preferredHolder") && text(spec, "strategy").is_empty() {
        let text = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), text));
    }
}

fn validate_update(new: &Value, _: &Value, _: Part, errors: &mut Vec<Error>) {
    validate(new, errors);
}
