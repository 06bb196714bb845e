//! OpenAPI v3 documents: made on demand, never kept.

use serde_json::Value;

/// The document of a built-in group version, or `None` when there are no such kinds.
#[must_use]
pub fn document(group: &str, version: &str) -> Option<Value> {
    let _ = (group, version);
    None
}

/// What the document of a custom resource's group version is made of: one entry per served kind.
#[derive(Debug, Clone, Copy)]
pub struct Custom<'a> {
    /// Kind of one object.
    pub kind: &'a str,
    /// Kind of a list.
    pub list_kind: &'a str,
    /// Resource name in paths.
    pub plural: &'a str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `/status` subresource.
    pub status: bool,
    /// Whether there is a `/scale` subresource.
    pub scale: bool,
    /// `openAPIV3Schema` in JSON form; `None`: anything goes.
    pub schema: Option<&'a Value>,
    /// `selectableFields` JSON paths, e.g. `.spec.color`.
    pub selectable_fields: &'a [String],
}

/// The document of a group version of custom resources.
#[must_use]
pub fn custom_document(group: &str, version: &str, kinds: &[Custom<'_>]) -> Value {
    let _ = (group, version, kinds);
    Value::Null
}
