//! JSON merge patch, RFC 7386.

use serde_json::Value;

/// The patch is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch must be an object: 400 `BadRequest`.
    #[error("error decoding patch: json: cannot unmarshal {0} into Go value of type map[string]interface {{}}")]
    NotAnObject(&'static str),
}

/// Applies `patch` to `doc`: members of the patch replace those of the document, null removes them.
///
/// # Errors
/// The patch is not an object.
pub fn apply(mut doc: Value, patch: &Value) -> Result<Value, Error> {
    if !patch.is_object() {
        return Err(Error::NotAnObject(crate::json::json_type(patch)));
    }
    json_patch::merge(&mut doc, patch);
    Ok(doc)
}
