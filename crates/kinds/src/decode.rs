//! Strict, schema-driven decoding: what Go's typed decoders do to a body, done to a JSON value.
//!
//! Main function: [`decode`], reached through [`Kind::decode`]. Types are checked, unknown fields reported and dropped,
//! nulls and empty optional values dropped, quantities, times and base64 brought into the form in which Kubernetes
//! writes them.

use serde_json::{Map, Number, Value};

use crate::kind::Kind;
use crate::quantity::Quantity;
use crate::types::{Node, Shape, Struct};
use crate::{base64_go, time};

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub object: Value,
    /// Strict decoding errors in Kubernetes' words: `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
}

/// The object cannot be understood. The text goes after `Pod in version "v1" cannot be handled as a Pod: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Path of the field.
    pub path: String,
    /// What is wrong, for people.
    pub message: String,
}

/// Deeper nesting than this is refused; `serde_json` stops at the same depth when parsing.
const MAX_DEPTH: usize = 128;

pub(crate) fn decode(kind: &Kind, object: Value) -> Result<Decoded, DecodeError> {
    let node = kind.node();
    let mut decoder = Decoder { path: String::new(), unknown: Vec::new(), depth: 0 };
    let object = if object.is_null() { Value::Object(Map::new()) } else { object };
    let mut object = decoder.structure(node, object)?;
    if let Value::Object(members) = &mut object {
        let api_version = kind.api_version();
        for (name, value) in [("apiVersion", &*api_version), ("kind", kind.kind)] {
            if members.get(name).and_then(Value::as_str) != Some(value) {
                members.insert(name.to_owned(), Value::from(value));
            }
        }
    }
    Ok(Decoded { object, unknown: decoder.unknown })
}

struct Decoder {
    path: String,
    unknown: Vec<String>,
    depth: usize,
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Decoder {
    fn fail<T>(&self, message: String) -> Result<T, DecodeError> {
        Err(DecodeError { path: self.path.clone(), message })
    }

    fn mismatch<T>(&self, value: &Value, expected: &str) -> Result<T, DecodeError> {
        let found = kind_of(value);
        if self.path.is_empty() {
            return self.fail(format!("json: cannot unmarshal {found} into an object of type {expected}"));
        }
        self.fail(format!("json: cannot unmarshal {found} into field {} of type {expected}", self.path))
    }

    fn push(&mut self, name: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        length
    }

    fn push_index(&mut self, index: usize) -> usize {
        let length = self.path.len();
        self.path.push('[');
        self.path.push_str(&index.to_string());
        self.path.push(']');
        length
    }

    fn structure(&mut self, node: &Node, value: Value) -> Result<Value, DecodeError> {
        let Some(structure) = node.get() else { return Ok(value) };
        let mut members = match value {
            Value::Object(members) => members,
            other => return self.mismatch(&other, short(&structure.name)),
        };
        if self.depth >= MAX_DEPTH {
            return self.fail("exceeded max depth".to_owned());
        }
        self.depth += 1;
        // The map is edited in place: most members stay as they are.
        let mut drop: Vec<String> = Vec::new();
        for (name, slot) in &mut members {
            let Some(field) = structure.field(name) else {
                let length = self.push(name);
                self.unknown.push(format!("unknown field \"{}\"", self.path));
                self.path.truncate(length);
                drop.push(name.clone());
                continue;
            };
            if slot.is_null() {
                drop.push(name.clone());
                continue;
            }
            if is_plain(&field.shape, slot) {
                if !field.keep && is_empty(&field.shape, slot) {
                    drop.push(name.clone());
                }
                continue;
            }
            let length = self.push(name);
            let value = self.value(&field.shape, slot.take())?;
            self.path.truncate(length);
            if !field.keep && is_empty(&field.shape, &value) {
                drop.push(name.clone());
            }
            *slot = value;
        }
        for name in drop {
            members.remove(&name);
        }
        fill(structure, &mut members);
        self.depth -= 1;
        Ok(Value::Object(members))
    }

    fn value(&mut self, shape: &Shape, value: Value) -> Result<Value, DecodeError> {
        match shape {
            Shape::Any => Ok(value),
            Shape::AnyObject => match value {
                Value::Object(_) => Ok(value),
                other => self.mismatch(&other, "object"),
            },
            Shape::Bool => match value {
                Value::Bool(_) => Ok(value),
                other => self.mismatch(&other, "bool"),
            },
            Shape::Int32 => self.integer(value, i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
            Shape::Int64 => self.integer(value, i64::MIN, i64::MAX, "int64"),
            Shape::Number => match value {
                Value::Number(_) => Ok(value),
                other => self.mismatch(&other, "float64"),
            },
            Shape::String => match value {
                Value::String(_) => Ok(value),
                other => self.mismatch(&other, "string"),
            },
            Shape::IntOrString => match value {
                Value::String(_) => Ok(value),
                other => self.integer(other, i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
            },
            Shape::Bytes => match value {
                Value::String(text) => match base64_go::canonical(&text) {
                    Ok(Some(canonical)) => Ok(Value::from(canonical)),
                    Ok(None) => Ok(Value::String(text)),
                    Err(at) => self.fail(format!("illegal base64 data at input byte {at}")),
                },
                other => self.mismatch(&other, "[]uint8"),
            },
            Shape::Time | Shape::MicroTime => match value {
                Value::String(text) => {
                    let parsed =
                        if matches!(shape, Shape::Time) { time::seconds(&text) } else { time::microseconds(&text) };
                    match parsed {
                        Ok(canonical) => Ok(Value::from(canonical)),
                        Err(message) => self.fail(message),
                    }
                }
                other => self.mismatch(&other, "Time"),
            },
            Shape::Quantity => {
                let text = match &value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    other => return self.mismatch(other, "Quantity"),
                };
                match text.parse::<Quantity>() {
                    Ok(quantity) => Ok(Value::from(quantity.to_string())),
                    Err(e) => self.fail(e.to_string()),
                }
            }
            Shape::Struct(node) => self.structure(node, value),
            Shape::StructOr(node) => match value {
                Value::Object(_) => self.structure(node, value),
                Value::Array(items) => {
                    let item = Shape::Struct(node.clone());
                    self.list(&item, items)
                }
                other => Ok(other),
            },
            Shape::List(item) => match value {
                Value::Array(items) => self.list(item, items),
                other => self.mismatch(&other, "array"),
            },
            Shape::Map(item) => match value {
                Value::Object(mut members) => {
                    for (name, slot) in &mut members {
                        if is_plain(item, slot) {
                            continue;
                        }
                        let length = self.push(name);
                        *slot = if slot.is_null() { empty(item) } else { self.value(item, slot.take())? };
                        self.path.truncate(length);
                    }
                    Ok(Value::Object(members))
                }
                other => self.mismatch(&other, "map"),
            },
        }
    }

    fn list(&mut self, item: &Shape, mut items: Vec<Value>) -> Result<Value, DecodeError> {
        for (index, slot) in items.iter_mut().enumerate() {
            if is_plain(item, slot) {
                continue;
            }
            let length = self.push_index(index);
            // A null item is the empty value of its type.
            let taken = if slot.is_null() { empty(item) } else { slot.take() };
            *slot = self.value(item, taken)?;
            self.path.truncate(length);
        }
        Ok(Value::Array(items))
    }

    fn integer(&self, value: Value, min: i64, max: i64, name: &str) -> Result<Value, DecodeError> {
        let Value::Number(number) = &value else { return self.mismatch(&value, name) };
        match number.as_i64().or_else(|| whole(number)) {
            Some(n) if (min..=max).contains(&n) => Ok(Value::from(n)),
            _ => self.fail(format!("json: cannot unmarshal number {number} into field {} of type {name}", self.path)),
        }
    }
}

/// `1.0` and `1e3` are integers to Kubernetes' decoders.
fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64()?;
    // 2^53: beyond it a float no longer says which integer was meant.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
}

/// Whether a value is already in canonical form, so that neither a path nor a copy is needed.
fn is_plain(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::Any, _)
        | (Shape::String | Shape::IntOrString, Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::AnyObject, Value::Object(_)) => true,
        (Shape::Int64, Value::Number(n)) => n.is_i64(),
        (Shape::Map(item), Value::Object(members)) => members.values().all(|v| is_plain(item, v)),
        _ => false,
    }
}

/// Whether Go's `omitempty` would leave the value out.
fn is_empty(shape: &Shape, value: &Value) -> bool {
    // These are pointers wherever they occur: a schema's `default: ""` says something.
    if matches!(shape, Shape::Any | Shape::StructOr(_)) {
        return value.is_null();
    }
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0) && !matches!(shape, Shape::Quantity | Shape::IntOrString),
        Value::String(s) => s.is_empty() && !matches!(shape, Shape::Quantity | Shape::IntOrString),
        Value::Array(items) => items.is_empty(),
        // A struct behind a pointer is there even without members.
        Value::Object(members) => members.is_empty() && matches!(shape, Shape::Map(_)),
    }
}

/// The empty value of a type.
fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::Any | Shape::Time | Shape::MicroTime | Shape::StructOr(_) => Value::Null,
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::from(0),
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Quantity => Value::from("0"),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::AnyObject | Shape::Map(_) | Shape::Struct(_) => Value::Object(Map::new()),
    }
}

/// Adds what is written even when absent.
fn fill(structure: &Struct, members: &mut Map<String, Value>) {
    for field in &structure.fields {
        if !(field.emit || field.null) || members.contains_key(&*field.name) {
            continue;
        }
        let value = match &field.shape {
            _ if field.null => Value::Null,
            Shape::Struct(node) => {
                let mut inner = Map::new();
                if let Some(inner_structure) = node.get() {
                    fill(inner_structure, &mut inner);
                }
                Value::Object(inner)
            }
            other => empty(other),
        };
        members.insert(field.name.as_ref().to_owned(), value);
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.api.").unwrap_or(name)
}
