//! Validation of values against a schema, with the messages of Kubernetes and its ratcheting on update (KEP-4008).
//!
//! [`validate`] collects, in this order: what the keywords of the schema say ([`value`]), what is wrong with embedded
//! objects ([`embedded`]), and items that a set or map list holds twice ([`lists`]). A valid value costs no allocation.

mod at;
mod embedded;
mod junctors;
mod lists;
mod numbers;
#[cfg(test)]
mod tests;
mod value;

use serde_json::Value;

use crate::field::{Error, Path};
use crate::model::Schema;

pub(crate) use at::At;
pub(crate) use value::OldItems;

/// Everything that is wrong with `new`.
///
/// With `old`, errors of parts that did not change are left out: an object that became invalid by a new schema can
/// still be updated elsewhere.
#[must_use]
pub fn validate(new: &Value, old: Option<&Value>, schema: &Schema, path: &Path) -> Vec<Error> {
    let mut errors = value::check(new, old, schema, path);
    objects_and_lists(new, old, schema, path, &mut errors);
    errors
}

/// The part of [`validate`] that is not about keywords: embedded objects, and twins in lists.
pub(crate) fn objects_and_lists(
    new: &Value,
    old: Option<&Value>,
    schema: &Schema,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    embedded::check(new, schema, true, &At::Start(path.as_str()), errors);
    let old_has_twins = old.is_some_and(|old| {
        let mut twins = Vec::new();
        lists::check(old, schema, &At::Start(path.as_str()), &mut twins);
        !twins.is_empty()
    });
    if !old_has_twins {
        lists::check(new, schema, &At::Start(path.as_str()), errors);
    }
}

/// What the keywords of the schema say about `new`, and nothing else; how defaults in a schema are checked.
#[must_use]
pub fn keywords(new: &Value, schema: &Schema, path: &Path) -> Vec<Error> {
    value::check(new, None, schema, path)
}

/// What the keywords of the schema say about the part `new` of an object, which stands at `at`. Messages name fields as
/// seen from the part, paths as seen from the object: so Kubernetes reports defaults, and writes to `status`.
#[must_use]
pub fn part(new: &Value, old: Option<&Value>, schema: &Schema, at: &Path) -> Vec<Error> {
    let errors = value::check(new, old, schema, &Path::root());
    errors.into_iter().map(|error| below(at, error)).collect()
}

/// The error of a part, as one of the object that holds the part at `at`.
pub(crate) fn below(at: &Path, error: Error) -> Error {
    let field = match error.field.as_str() {
        "" => at.clone(),
        inside => at.child(inside),
    };
    Error { field, ..error }
}

/// Items that set and map lists inside `value` hold twice.
#[must_use]
pub fn twins(value: &Value, schema: &Schema, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    lists::check(value, schema, &At::Start(path.as_str()), &mut errors);
    errors
}

/// Whether CEL rules are not run beside these errors, because they could stumble over what is wrong already.
#[must_use]
pub fn blocks_rules(errors: &[Error]) -> bool {
    use crate::field::ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    errors.iter().any(|e| matches!(e.type_, NotSupported | Required | TooLong | TooMany | TypeInvalid))
}

/// The cause that tells that rules were not run.
#[must_use]
pub fn rules_not_checked() -> Error {
    Error::invalid(
        &Path::root(),
        Value::Null,
        "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
    )
}
