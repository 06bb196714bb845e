//! `allOf`, `anyOf`, `oneOf` and `not`. Beside the error of the junctor itself, those of its best branch are told.

use serde_json::Value;

use super::at::At;
use super::value::{Correlated, Found, node};
use crate::field::{Error, Path};
use crate::model::{Constraints, Schema};

pub(super) fn check(value: &Value, old: Correlated<'_>, c: &Constraints, at: &At<'_>, found: &mut Found) {
    found.agreed += 2;
    if !c.any_of.is_empty() {
        any_of(value, old, &c.any_of, at, found);
    }
    if !c.one_of.is_empty() {
        one_of(value, old, &c.one_of, at, found);
    }
    if !c.all_of.is_empty() {
        all_of(value, old, &c.all_of, at, found);
    }
    if let Some(not) = &c.not
        && node(value, Correlated(None), not, at).errors.is_empty()
    {
        found.push(whole(format!("\"{at}\" must not validate the schema (not)")));
    }
}

/// Errors of junctors belong to no field.
fn whole(detail: String) -> Error {
    Error::invalid(&Path::root(), "", detail)
}

fn any_of(value: &Value, old: Correlated<'_>, branches: &[Schema], at: &At<'_>, found: &mut Found) {
    let mut best: Option<Found> = None;
    for branch in branches {
        let result = node(value, old, branch, at);
        if result.errors.is_empty() {
            found.merge(result);
            return;
        }
        if best.as_ref().is_none_or(|best| result.agreed > best.agreed) {
            best = Some(result);
        }
    }
    found.push(whole(format!("\"{at}\" must validate at least one schema (anyOf)")));
    found.merge(best.unwrap_or_default());
}

fn one_of(value: &Value, old: Correlated<'_>, branches: &[Schema], at: &At<'_>, found: &mut Found) {
    let mut best: Option<Found> = None;
    let mut first_good: Option<Found> = None;
    let mut good = 0;
    for branch in branches {
        let result = node(value, old, branch, at);
        if result.errors.is_empty() {
            good += 1;
            first_good.get_or_insert(result);
        } else if good == 0 && best.as_ref().is_none_or(|best| result.agreed > best.agreed) {
            best = Some(result);
        }
    }
    let alternatives = match good {
        1 => {
            found.merge(first_good.unwrap_or_default());
            return;
        }
        0 => "Found none valid".to_owned(),
        good => {
            best = None;
            format!("Found {good} valid alternatives")
        }
    };
    found.push(whole(format!("\"{at}\" must validate one and only one schema (oneOf). {alternatives}")));
    found.merge(best.unwrap_or_default());
}

fn all_of(value: &Value, old: Correlated<'_>, branches: &[Schema], at: &At<'_>, found: &mut Found) {
    let mut good = 0;
    for branch in branches {
        let result = node(value, old, branch, at);
        good += usize::from(result.errors.is_empty());
        found.merge(result);
    }
    if good < branches.len() {
        let none = if good == 0 { ". None validated" } else { "" };
        found.push(whole(format!("\"{at}\" must validate all the schemas (allOf){none}")));
    }
}
