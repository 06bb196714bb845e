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
        let operation = with_value(from_the_end(&doc, operation.clone()));
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|e| failed(&e))?;
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

/// An operation that needs a value and has none is about null.
fn with_value(mut operation: Value) -> Value {
    let needs = matches!(operation["op"].as_str(), Some("add" | "replace" | "test"));
    if let Some(members) = operation.as_object_mut().filter(|_| needs) {
        members.entry("value").or_insert(Value::Null);
    }
    operation
}

/// Kubernetes counts negative indices from the end: -1 is the last item, or for `add` the place after it.
fn from_the_end(doc: &Value, mut operation: Value) -> Value {
    let adds = |name: &str, operation: &Value| {
        name == "path" && matches!(operation["op"].as_str(), Some("add" | "copy" | "move"))
    };
    for name in ["from", "path"] {
        if let Some(path) = operation[name].as_str().filter(|path| path.contains("/-"))
            && let Some(resolved) = resolve_negative(doc, path, adds(name, &operation))
        {
            operation[name] = resolved.into();
        }
    }
    operation
}

/// The path with indices from the front; `None` where it leads nowhere, for the operation to complain of.
fn resolve_negative(doc: &Value, path: &str, adds: bool) -> Option<String> {
    let mut at = Some(doc);
    let mut out = String::new();
    let tokens: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    for (i, token) in tokens.iter().enumerate() {
        let mut token = (*token).to_owned();
        let last = i + 1 == tokens.len();
        if let (Some(Value::Array(list)), Ok(index)) = (at, token.parse::<i64>())
            && index < 0
        {
            let length = i64::try_from(list.len()).ok()? + i64::from(last && adds);
            token = usize::try_from(length + index).ok()?.to_string();
        }
        out.push('/');
        out.push_str(&token);
        at = doc.pointer(&out);
    }
    Some(out)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_is_missing_is_null() {
        let patched = apply(json!({"a": 1}), &json!([{"op": "add", "path": "/b"}, {"op": "replace", "path": "/a"}]));
        assert_eq!(patched, Ok(json!({"a": null, "b": null})));
        assert!(apply(json!({"a": 1}), &json!([{"op": "test", "path": "/a"}])).is_err());
    }

    #[test]
    fn negative_indices_count_from_the_end() {
        let check = |operation: Value, want: Value| {
            let got = apply(json!({"l": [1, 2, 3]}), &json!([operation]));
            assert_eq!(got.map(|doc| doc["l"].clone()).ok(), Some(want), "{operation}");
        };
        check(json!({"op": "remove", "path": "/l/-1"}), json!([1, 2]));
        check(json!({"op": "replace", "path": "/l/-2", "value": 9}), json!([1, 9, 3]));
        check(json!({"op": "add", "path": "/l/-1", "value": 4}), json!([1, 2, 3, 4]));
        check(json!({"op": "add", "path": "/l/-2", "value": 4}), json!([1, 2, 4, 3]));
        check(json!({"op": "test", "path": "/l/-3", "value": 1}), json!([1, 2, 3]));
        for path in ["/l/-4", "/l/-x", "/m/-1"] {
            assert!(apply(json!({"l": [1, 2, 3]}), &json!([{"op": "remove", "path": path}])).is_err(), "{path}");
        }
    }
}
