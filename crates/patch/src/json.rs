//! JSON patch, RFC 6902, with the limits and the leniency of Kubernetes.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

/// How many operations a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// How many bytes all `copy` operations of a patch may copy together: as many as a request may have.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch is not a list of operations: 400 `BadRequest`.
    #[error("error decoding patch: json: cannot unmarshal {0} into Go value of type []handlers.jsonPatchOp")]
    Decode(&'static str),
    /// 413 `RequestEntityTooLarge`.
    #[error("Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation is malformed or fails: 422 `Invalid`, with Kubernetes' generic message for that status.
    #[error("{0}")]
    Failed(String),
}

/// Applies `patch`, a list of operations, to `doc`.
///
/// # Errors
/// See [`Error`].
pub fn apply(mut doc: Value, patch: &Value) -> Result<Value, Error> {
    let Value::Array(operations) = patch else {
        return Err(Error::Decode(json_type(patch)));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooManyOperations(operations.len()));
    }
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        let failed = |error: &dyn std::fmt::Display| Error::Failed(format!("operation {index}: {error}"));
        let operation: PatchOperation = serde_json::from_value(operation.clone()).map_err(|e| failed(&e))?;
        if let PatchOperation::Copy(copy) = &operation {
            copied += resolve(&doc, &copy.from).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(failed(&format!("the copies exceed {MAX_COPIED} bytes")));
            }
        }
        if let Some(operation) = lenient(&doc, operation) {
            json_patch::patch(&mut doc, &Patch(vec![operation])).map_err(|e| failed(&e))?;
        }
    }
    Ok(doc)
}

/// Kubernetes lets `replace` add a member that is missing, and `test` find null in one.
fn lenient(doc: &Value, operation: PatchOperation) -> Option<PatchOperation> {
    match operation {
        PatchOperation::Replace(replace) if missing_member(doc, &replace.path) => {
            Some(PatchOperation::Add(AddOperation { path: replace.path, value: replace.value }))
        }
        PatchOperation::Test(test) if test.value.is_null() && missing_member(doc, &test.path) => None,
        other => Some(other),
    }
}

fn resolve<'d>(doc: &'d Value, path: &PointerBuf) -> Option<&'d Value> {
    doc.pointer(path.as_str())
}

/// Whether `path` names a member that is not there, of an object that is.
fn missing_member(doc: &Value, path: &PointerBuf) -> bool {
    resolve(doc, path).is_none()
        && path.as_str().rsplit_once('/').is_some_and(|(parent, _)| doc.pointer(parent).is_some_and(Value::is_object))
}

/// About the size of a value as JSON text, without writing it.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>() + 2,
    }
}

/// The type of a JSON value in the words of Go's decoder.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
