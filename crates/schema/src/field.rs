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
    /// How the value is printed, where that is not simply [`Error::bad_value`].
    pub shown: Shown,
}

/// How the message of an [`Error`] prints its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shown {
    /// As Go prints [`Error::bad_value`].
    #[default]
    Value,
    /// Not at all.
    Omitted,
    /// As this text.
    Text(String),
}

impl Error {
    /// A required field is missing.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self {
            type_: ErrorType::Required,
            field: field.clone(),
            bad_value: Value::Null,
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// A value breaks a rule.
    pub fn invalid(field: &Path, bad_value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            type_: ErrorType::Invalid,
            field: field.clone(),
            bad_value: bad_value.into(),
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// A value has the wrong type.
    pub fn type_invalid(field: &Path, bad_value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            type_: ErrorType::TypeInvalid,
            field: field.clone(),
            bad_value: bad_value.into(),
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// A value occurs twice.
    pub fn duplicate(field: &Path, bad_value: impl Into<Value>) -> Self {
        Self {
            type_: ErrorType::Duplicate,
            field: field.clone(),
            bad_value: bad_value.into(),
            detail: String::new(),
            shown: Shown::Value,
        }
    }

    /// A value is none of the known ones; `valid` is listed sorted, as Kubernetes does.
    pub fn not_supported(field: &Path, bad_value: impl Into<Value>, valid: &[&str]) -> Self {
        let mut sorted = valid.to_vec();
        sorted.sort_unstable();
        Self::not_supported_in_order(field, bad_value, sorted)
    }

    /// A value is none of the known ones, which are listed in the order given.
    pub fn not_supported_in_order<S: AsRef<str>>(
        field: &Path,
        bad_value: impl Into<Value>,
        valid: impl IntoIterator<Item = S>,
    ) -> Self {
        let quoted: Vec<String> = valid.into_iter().map(|v| go_quote(v.as_ref())).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        Self {
            type_: ErrorType::NotSupported,
            field: field.clone(),
            bad_value: bad_value.into(),
            detail,
            shown: Shown::Value,
        }
    }

    /// A field may not be set, or not be set like this.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self {
            type_: ErrorType::Forbidden,
            field: field.clone(),
            bad_value: Value::Null,
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// A referenced thing is not there.
    pub fn not_found(field: &Path, bad_value: impl Into<Value>) -> Self {
        Self {
            type_: ErrorType::NotFound,
            field: field.clone(),
            bad_value: bad_value.into(),
            detail: String::new(),
            shown: Shown::Value,
        }
    }

    /// A string is longer than `max` bytes.
    pub fn too_long(field: &Path, max: i64) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self {
            shown: Shown::Value,
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
            shown: Shown::Value,
            type_: ErrorType::TooMany,
            field: field.clone(),
            bad_value: Value::from(actual),
            detail: format!("must have at most {max} {unit}"),
        }
    }

    /// Something failed that is not the user's fault.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self {
            type_: ErrorType::Internal,
            field: field.clone(),
            bad_value: Value::Null,
            detail: detail.into(),
            shown: Shown::Value,
        }
    }

    /// The same error whose message does not print the value.
    #[must_use]
    pub fn omit_value(self) -> Self {
        Self { shown: Shown::Omitted, ..self }
    }

    /// The same error whose message prints `text` for the value.
    #[must_use]
    pub fn show_value(self, text: impl Into<String>) -> Self {
        Self { shown: Shown::Text(text.into()), ..self }
    }

    /// The message without the field, as it stands in a cause of a `Status`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = String::from(self.type_.title());
        match self.type_ {
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal => {}
            _ => match &self.shown {
                Shown::Omitted => {}
                Shown::Text(text) => {
                    out.push_str(": ");
                    out.push_str(text);
                }
                Shown::Value => {
                    out.push_str(": ");
                    out.push_str(&print_value(&self.bad_value));
                }
            },
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
    match value {
        Value::String(text) => go_quote(text),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => go_float(float),
            _ => number.to_string(),
        },
        _ => value.to_string(),
    }
}

/// A string as Go's `%q` prints it.
#[must_use]
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (0x80..0xa0).contains(&(c as u32))
                || c == '\u{ad}'
                || matches!(c as u32, 0x2028 | 0x2029 | 0xfeff) =>
            {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A float as Go's `%v` prints it: the shortest text, with an exponent below 1e-4 and from 1e21 on.
#[must_use]
pub fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, number) = exponent.strip_prefix('-').map_or(('+', exponent), |n| ('-', n));
                format!("{digits}e{sign}{number:0>2}")
            }
            None => text,
        };
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        let check = |value: Value, expect: &str| assert_eq!(print_value(&value), expect);
        check(json!("a\"b\\\n\u{1}é"), r#""a\"b\\\n\x01é""#);
        check(json!(1.0), "1");
        check(json!(0.7), "0.7");
        check(json!(1e21), "1e+21");
        check(json!(0.00001), "1e-05");
        check(json!(9_007_199_254_740_993_i64), "9007199254740993");
        check(json!({"name": "a"}), r#"{"name":"a"}"#);
        check(Value::Null, "null");
    }

    #[test]
    fn the_body_prints_the_value_as_told() {
        let error = Error::invalid(&Path::new("spec"), json!({"a": 1}), "no");
        assert_eq!(error.to_string(), r#"spec: Invalid value: {"a":1}: no"#);
        assert_eq!(error.clone().omit_value().to_string(), "spec: Invalid value: no");
        assert_eq!(error.show_value("X").to_string(), "spec: Invalid value: X: no");
    }
}
