//! Values of rules. What comes from the object stays where it is ([`Val::Node`]) and is read on the way, typed by its
//! schema; only what a rule computes is built.

use std::cmp::Ordering;
use std::rc::Rc;

use jiff::Timestamp;
use kube_cel::cel;
use serde_json::Value;

use crate::format;
use crate::model::{ListType, Schema, Type};

/// Why an evaluation has no result.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fail {
    /// The rule failed, e.g. `no such key: a`; `&&` and `||` can still have a result.
    Error(String),
    /// The rule costs too much.
    OverBudget,
}

pub(super) type Outcome<T> = Result<T, Fail>;

pub(super) fn fail<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Fail::Error(text.into()))
}

pub(super) fn no_such_overload<T>() -> Outcome<T> {
    fail("no such overload")
}

/// A value of a rule.
#[derive(Debug, Clone)]
pub(super) enum Val<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'v>),
    Bytes(Rc<[u8]>),
    /// A list or an object of the value under validation.
    Node(Node<'v>),
    List(Rc<Vec<Val<'v>>>),
    Map(Rc<Vec<(Val<'v>, Val<'v>)>>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    Optional(Option<Rc<Val<'v>>>),
    Type(&'static str),
    /// A value of a function library: quantity, IP address, URL and so on.
    Foreign(cel::Value),
    /// What a loop has gathered so far is an error.
    Failed(Rc<str>),
}

/// Text of the object, or made by the rule.
#[derive(Debug, Clone)]
pub(super) enum Text<'v> {
    Borrowed(&'v str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A composite of the object, with what its schema says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'v> {
    pub(super) value: &'v Value,
    pub(super) schema: Option<&'v Schema>,
}

impl<'v> Val<'v> {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    pub(super) fn list(items: Vec<Val<'v>>) -> Self {
        Self::List(Rc::new(items))
    }

    /// A JSON value as its schema types it.
    pub(super) fn of(value: &'v Value, schema: Option<&'v Schema>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::String(text) => Self::of_text(text, schema),
            Value::Array(_) | Value::Object(_) => Self::Node(Node { value, schema }),
            Value::Number(number) => {
                let float = number.as_f64().unwrap_or(f64::NAN);
                match (number.as_i64(), schema.and_then(|s| s.type_)) {
                    (_, Some(Type::Number)) => Self::Double(float),
                    (Some(int), _) => Self::Int(int),
                    #[expect(clippy::cast_possible_truncation, reason = "only for floats without a fraction")]
                    (None, Some(Type::Integer)) if float.fract() == 0.0 && float.abs() < 9e18 => {
                        Self::Int(float as i64)
                    }
                    _ => Self::Double(float),
                }
            }
        }
    }

    fn of_text(text: &'v str, schema: Option<&'v Schema>) -> Self {
        let format = schema.and_then(|s| s.constraints.format.as_deref()).unwrap_or_default();
        let typed = match format {
            "date-time" | "datetime" => parse_timestamp(text).map(Self::Timestamp),
            "date" => parse_timestamp(&format!("{text}T00:00:00Z")).map(Self::Timestamp),
            "duration" => format::go_duration(text).map(Self::Duration),
            "byte" => decode_base64(text).map(|bytes| Self::Bytes(bytes.into())),
            _ => None,
        };
        typed.unwrap_or(Self::Text(Text::Borrowed(text)))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Items of a list, however it is held.
    pub(super) fn items(&self) -> Option<Items<'_, 'v>> {
        match self {
            Self::List(items) => Some(Items::Made(items)),
            Self::Node(Node { value: Value::Array(items), schema }) => {
                Some(Items::Json(items, schema.and_then(|s| s.items.as_deref())))
            }
            _ => None,
        }
    }

    /// Keys and values of a map, however it is held.
    pub(super) fn entries(&self) -> Option<Vec<(Val<'v>, Val<'v>)>> {
        match self {
            Self::Map(entries) => Some(entries.to_vec()),
            Self::Node(node @ Node { value: Value::Object(members), .. }) => Some(
                members
                    .iter()
                    .map(|(name, value)| (Self::Text(Text::Borrowed(name)), Self::of(value, node.member_schema(name))))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// How `type()` and error messages name the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) | Self::Node(Node { value: Value::Array(_), .. }) => "list",
            Self::Map(_) | Self::Node(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Foreign(_) | Self::Failed(_) => "dyn",
        }
    }

    /// A measure for what comparing or copying the value costs.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.iter().map(|i| 10 + i.weight()).sum(),
            Self::Map(entries) => entries.iter().map(|(k, v)| 10 + k.weight() + v.weight()).sum(),
            Self::Node(node) => weight_of(node.value),
            _ => 1,
        }
    }
}

fn weight_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|i| 10 + weight_of(i)).sum(),
        Value::Object(members) => members.iter().map(|(k, v)| 10 + k.len() + weight_of(v)).sum(),
        _ => 1,
    }
}

impl<'v> Node<'v> {
    pub(super) fn member_schema(&self, name: &str) -> Option<&'v Schema> {
        self.schema.and_then(|s| s.member(name)).map(AsRef::as_ref)
    }

    /// Whether members are declared, so that rules name them by escaped identifiers.
    pub(super) fn is_struct(&self) -> bool {
        self.schema.is_some_and(|s| !s.properties.is_empty())
    }

    pub(super) fn member(&self, name: &str) -> Option<Val<'v>> {
        self.value.get(name).map(|value| Val::of(value, self.member_schema(name)))
    }

    fn list_type(&self) -> ListType {
        self.schema.and_then(|s| s.list_type).unwrap_or_default()
    }
}

/// Items of a list.
#[derive(Clone, Copy)]
pub(super) enum Items<'a, 'v> {
    Made(&'a [Val<'v>]),
    Json(&'v [Value], Option<&'v Schema>),
}

impl<'v> Items<'_, 'v> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Made(items) => items.len(),
            Self::Json(items, _) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Val<'v>> {
        match self {
            Self::Made(items) => items.get(index).cloned(),
            Self::Json(items, schema) => items.get(index).map(|value| Val::of(value, *schema)),
        }
    }

    pub(super) fn to_vec(self) -> Vec<Val<'v>> {
        (0..self.len()).filter_map(|index| self.get(index)).collect()
    }
}

/// Equality of CEL: numbers by value whatever their type, set and map lists in any order.
pub(super) fn equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    use Val::{Bool, Bytes, Duration, Foreign, Null, Optional, Timestamp, Type};
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return compare_numbers(a, b) == Some(Ordering::Equal);
    }
    match (a, b) {
        (Null, Null) => true,
        (Bool(a), Bool(b)) => a == b,
        (Val::Text(a), Val::Text(b)) => a.as_str() == b.as_str(),
        (Bytes(a), Bytes(b)) => a == b,
        (Timestamp(a), Timestamp(b)) => a == b,
        (Duration(a), Duration(b)) => a == b,
        (Type(a), Type(b)) => a == b,
        (Foreign(a), Foreign(b)) => a == b,
        (Optional(a), Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        _ => equal_composites(a, b),
    }
}

fn equal_composites(a: &Val<'_>, b: &Val<'_>) -> bool {
    if let (Some(left), Some(right)) = (a.items(), b.items()) {
        if left.len() != right.len() {
            return false;
        }
        let list_type = match (a, b) {
            (Val::Node(node), _) | (_, Val::Node(node)) => node.list_type(),
            _ => ListType::Atomic,
        };
        if list_type == ListType::Atomic {
            return (0..left.len()).all(|i| matches!((left.get(i), right.get(i)), (Some(a), Some(b)) if equal(&a, &b)));
        }
        let mut rest = right.to_vec();
        return left.to_vec().iter().all(|item| match rest.iter().position(|other| equal(item, other)) {
            Some(found) => {
                rest.swap_remove(found);
                true
            }
            None => false,
        });
    }
    match (a, b) {
        (Val::Node(a), Val::Node(b)) => equal_objects(a, b),
        _ => match (a.entries(), b.entries()) {
            (Some(left), Some(right)) => {
                left.len() == right.len()
                    && left.iter().all(|(key, value)| right.iter().any(|(k, v)| equal(key, k) && equal(value, v)))
            }
            _ => false,
        },
    }
}

fn equal_objects(a: &Node<'_>, b: &Node<'_>) -> bool {
    match (a.value, b.value) {
        (Value::Object(left), Value::Object(right)) => left.len() == right.len()
            && left.keys().all(
                |name| matches!((a.member(name), b.member(name)), (Some(left), Some(right)) if equal(&left, &right)),
            ),
        _ => false,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Uint(u64),
    Double(f64),
}

fn number(value: &Val<'_>) -> Option<Number> {
    match value {
        Val::Int(n) => Some(Number::Int(*n)),
        Val::Uint(n) => Some(Number::Uint(*n)),
        Val::Double(n) => Some(Number::Double(*n)),
        _ => None,
    }
}

fn compare_numbers(a: Number, b: Number) -> Option<Ordering> {
    use Number::{Double, Int, Uint};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(&b)),
        (Uint(a), Uint(b)) => Some(a.cmp(&b)),
        (Int(a), Uint(b)) => Some(i128::from(a).cmp(&i128::from(b))),
        (Uint(a), Int(b)) => Some(i128::from(a).cmp(&i128::from(b))),
        (Double(a), Double(b)) => a.partial_cmp(&b),
        (Int(a), Double(b)) => (a as f64).partial_cmp(&b),
        (Double(a), Int(b)) => a.partial_cmp(&(b as f64)),
        (Uint(a), Double(b)) => (a as f64).partial_cmp(&b),
        (Double(a), Uint(b)) => a.partial_cmp(&(b as f64)),
    }
}

/// Order of CEL; `None` where the two cannot be compared.
pub(super) fn compare(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return compare_numbers(a, b);
    }
    match (a, b) {
        (Val::Text(a), Val::Text(b)) => Some(a.as_str().cmp(b.as_str())),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
        (Val::Timestamp(a), Val::Timestamp(b)) => Some(a.cmp(b)),
        (Val::Duration(a), Val::Duration(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// A time in RFC 3339 form.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// A duration as CEL prints it: seconds with `s`.
pub(super) fn duration_text(nanos: i64) -> String {
    let seconds = nanos / 1_000_000_000;
    let fraction = (nanos % 1_000_000_000).abs();
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", digits.trim_end_matches('0'))
}
