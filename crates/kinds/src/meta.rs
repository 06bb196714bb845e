//! Validation of `metadata`, for built-in kinds and custom resources alike.

use kubetask_schema::field::Error;
use serde_json::Value;

use crate::names::NameRule;

/// Appends what is wrong with the `metadata` of a new object.
pub fn validate(meta: &Value, namespaced: bool, rule: NameRule, errors: &mut Vec<Error>) {
    let _ = (meta, namespaced, rule, errors);
}

/// Appends what is wrong with the change from `old` to `new` metadata.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    let _ = (new, old, errors);
}
