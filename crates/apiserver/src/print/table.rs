//! Tables: columns and rows of `kubectl get`, from the table of kinds or a definition's `additionalPrinterColumns`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::partial;
use crate::registry::{Resource, Source};
use crate::status::{Failure, Result};

/// What `object` of a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    Metadata,
    Object,
    None,
}

impl IncludeObject {
    /// Reads `?includeObject`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::None),
            other => Err(Failure::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                crate::text::quote(other)
            ))),
        }
    }
}

/// `columnDefinitions` of a resource.
pub(crate) fn columns(resource: &Resource) -> Value {
    match &resource.source {
        Source::Builtin(kind) => kind
            .columns()
            .iter()
            .map(|c| json!({"name": c.name, "type": c.type_, "format": c.format, "description": c.description, "priority": c.priority}))
            .collect(),
        Source::Custom(version) => {
            let mut out = vec![json!({"name": "Name", "type": "string", "format": "name",
                "description": kubetask_kinds::table::NAME_DESCRIPTION, "priority": 0})];
            out.extend(version.columns.iter().map(|c| {
                json!({"name": c.name, "type": c.type_, "format": c.format, "description": c.description, "priority": c.priority})
            }));
            Value::Array(out)
        }
    }
}

/// Columns of a kind without any rules of its own (Status objects).
pub(crate) fn document(columns: Value, rows: Vec<Value>, metadata: Value, meta_version: &str) -> Value {
    json!({"kind": "Table", "apiVersion": meta_version, "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

/// The row of an object.
pub(crate) fn row(
    resource: &Resource,
    value: Value,
    include: IncludeObject,
    meta_version: &str,
    now: Timestamp,
) -> Value {
    let (cells, conditions) = match &resource.source {
        Source::Builtin(kind) => {
            let row = kind.row(&value, now);
            (row.cells, row.conditions)
        }
        Source::Custom(version) => {
            let mut cells = vec![value["metadata"]["name"].clone()];
            cells.extend(version.columns.iter().map(|c| cell(&c.type_, &c.path.find(&value), now)));
            (cells, Vec::new())
        }
    };
    let mut out = Map::new();
    out.insert("cells".into(), Value::Array(cells));
    if !conditions.is_empty() {
        out.insert("conditions".into(), Value::Array(conditions));
    }
    out.insert("object".into(), row_object(value, include, meta_version));
    Value::Object(out)
}

fn row_object(mut value: Value, include: IncludeObject, meta_version: &str) -> Value {
    match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => value,
        IncludeObject::Metadata => partial::document(value["metadata"].take(), meta_version),
    }
}

/// A cell of a custom column: the first value found, of the column's type, or null.
fn cell(type_: &str, found: &[&Value], now: Timestamp) -> Value {
    if found.is_empty() {
        return Value::Null;
    }
    match type_ {
        "string" => {
            // Several values are joined as Go prints them.
            let texts: Vec<String> = found.iter().map(|v| text(v)).collect();
            Value::from(texts.join(","))
        }
        "integer" => match found[0] {
            Value::Number(n) if n.is_i64() || n.is_u64() => found[0].clone(),
            #[expect(clippy::cast_possible_truncation, reason = "an integer column shows the whole part")]
            Value::Number(n) => n.as_f64().map_or(Value::Null, |f| Value::from(f as i64)),
            _ => Value::Null,
        },
        "number" => {
            if found[0].is_number() {
                found[0].clone()
            } else {
                Value::Null
            }
        }
        "boolean" => {
            if found[0].is_boolean() {
                found[0].clone()
            } else {
                Value::Null
            }
        }
        "date" => match found[0].as_str() {
            Some(time) if time.parse::<Timestamp>().is_ok() => Value::from(kubetask_kinds::table::since(found[0], now)),
            Some(_) => Value::from("<invalid>"),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
