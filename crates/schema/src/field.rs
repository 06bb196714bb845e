//! Field paths and field errors, worded as Kubernetes' `k8s.io/apimachinery/pkg/util/validation/field` words them.

use std::fmt;

use serde_json::Value;

/// Path of a field from the root of an object, e.g. `spec.containers[0].env[FOO]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(String);

impl Path {
    /// The path of the object itself; prints as `<nil>` in errors, as Go's nil path does.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts with `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The member `name` of this field.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The item at `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// Whether this is the object itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field; decides the cause's `reason` and the wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorType {
    /// `FieldValueNotFound`
    NotFound,
    /// `FieldValueRequired`
    Required,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
    /// `FieldValueTooMany`
    TooMany,
    /// `InternalError`
    Internal,
    /// `FieldValueTypeInvalid`
    TypeInvalid,
}

impl ErrorType {
    /// The `reason` of the cause in a `Status`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// What kind of wrong.
    pub type_: ErrorType,
    /// Where.
    pub field: Path,
    /// The value that is there, printed in the message where the type of error calls for it.
    pub bad_value: Value,
    /// What is expected, in words; may be empty.
    pub detail: String,
}

impl Error {
    /// A required field is missing.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Required, field: field.clone(), bad_value: Value::Null, detail: detail.into() }
    }

    /// A value breaks a rule.
    pub fn invalid(field: &Path, bad_value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Invalid, field: field.clone(), bad_value: bad_value.into(), detail: detail.into() }
    }

    /// A value has the wrong type.
    pub fn type_invalid(field: &Path, bad_value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::TypeInvalid, field: field.clone(), bad_value: bad_value.into(), detail: detail.into() }
    }

    /// A value occurs twice.
    pub fn duplicate(field: &Path, bad_value: impl Into<Value>) -> Self {
        Self { type_: ErrorType::Duplicate, field: field.clone(), bad_value: bad_value.into(), detail: String::new() }
    }

    /// A value is none of the known ones; `valid` is listed sorted, as Kubernetes does.
    pub fn not_supported(field: &Path, bad_value: impl Into<Value>, valid: &[&str]) -> Self {
        let mut sorted: Vec<String> = valid.iter().map(|v| format!("\"{v}\"")).collect();
        sorted.sort();
        let detail = if sorted.is_empty() { String::new() } else { format!("supported values: {}", sorted.join(", ")) };
        Self { type_: ErrorType::NotSupported, field: field.clone(), bad_value: bad_value.into(), detail }
    }

    /// A field may not be set, or not be set like this.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Forbidden, field: field.clone(), bad_value: Value::Null, detail: detail.into() }
    }

    /// A referenced thing is not there.
    pub fn not_found(field: &Path, bad_value: impl Into<Value>) -> Self {
        Self { type_: ErrorType::NotFound, field: field.clone(), bad_value: bad_value.into(), detail: String::new() }
    }

    /// A string is longer than `max` bytes.
    pub fn too_long(field: &Path, max: i64) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self {
            type_: ErrorType::TooLong,
            field: field.clone(),
            bad_value: Value::Null,
            detail: format!("may not be more than {max} {unit}"),
        }
    }

    /// A list or map has `actual` entries where `max` are allowed.
    pub fn too_many(field: &Path, actual: i64, max: i64) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self {
            type_: ErrorType::TooMany,
            field: field.clone(),
            bad_value: Value::from(actual),
            detail: format!("must have at most {max} {unit}"),
        }
    }

    /// Something failed that is not the user's fault.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Internal, field: field.clone(), bad_value: Value::Null, detail: detail.into() }
    }

    /// The message without the field, as it stands in a cause of a `Status`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = String::from(self.type_.title());
        match self.type_ {
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal => {}
            _ => {
                out.push_str(": ");
                out.push_str(&print_value(&self.bad_value));
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// A value as Go's `field.Error` prints it: strings quoted, numbers and booleans bare, composites as JSON.
fn print_value(value: &Value) -> String {
    value.to_string()
}
