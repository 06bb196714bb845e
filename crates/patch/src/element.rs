//! One step of a field path: a member, an item found by its keys, an item found by its value, an item by position.
//!
//! Keys and values are kept as canonical JSON text, so that comparing, sorting and encoding are string operations.

use std::fmt;

use kubetask_schema::model::Schema;
use serde_json::Value;

use crate::text;
use crate::types::List;

/// One step of a path. The order is that of Kubernetes: members, keyed items, values, positions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// Member of an object, `f:name`.
    Field(Box<str>),
    /// Item of a list of objects, `k:{"name":"x"}`; holds the JSON object, keys sorted.
    Key(Box<str>),
    /// Item of a set, `v:"x"`; holds the JSON scalar.
    Value(Box<str>),
    /// Item by position, `i:0`.
    Index(u64),
}

impl Element {
    /// The member name of a `FieldsV1` object.
    pub(crate) fn encode(&self) -> String {
        let (prefix, rest): (&str, &str) = match self {
            Self::Field(name) => ("f:", name),
            Self::Key(keys) => ("k:", keys),
            Self::Value(value) => ("v:", value),
            Self::Index(index) => return format!("i:{index}"),
        };
        let mut out = String::with_capacity(prefix.len() + rest.len());
        out.push_str(prefix);
        out.push_str(rest);
        out
    }

    /// Reads a member name of a `FieldsV1` object. `Ok(None)`: a kind of step that a later version may add, ignored.
    pub(crate) fn decode(text: &str) -> Result<Option<Self>, String> {
        let Some((prefix, rest)) = text.split_once(':') else {
            return Err(format!("invalid path element {text:?}: expected a kind, a colon and a value"));
        };
        match prefix {
            "f" => Ok(Some(Self::Field(rest.into()))),
            "k" => match serde_json::from_str::<Value>(rest) {
                Ok(Value::Object(keys)) => {
                    let mut out = String::with_capacity(rest.len());
                    text::write_keys(&mut out, keys.iter().map(|(name, value)| (name.as_str(), value)));
                    Ok(Some(Self::Key(out.into())))
                }
                _ => Err(format!("invalid path element {text:?}: expected a JSON object")),
            },
            "v" => match serde_json::from_str::<Value>(rest) {
                Ok(value) => {
                    let mut out = String::with_capacity(rest.len());
                    text::write_json(&mut out, &value);
                    Ok(Some(Self::Value(out.into())))
                }
                Err(_) => Err(format!("invalid path element {text:?}: expected a JSON value")),
            },
            "i" => match rest.parse() {
                Ok(index) => Ok(Some(Self::Index(index))),
                Err(_) => Err(format!("invalid path element {text:?}: expected a position")),
            },
            _ => Ok(None),
        }
    }

    /// The step to an item of a list that is a set or has keys.
    pub(crate) fn of_item(list: &List<'_>, item: &Value) -> Result<Self, String> {
        if list.keys.is_empty() { Self::of_set_item(item) } else { Self::of_keyed_item(list, item) }
    }

    fn of_set_item(item: &Value) -> Result<Self, String> {
        match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => {
                let mut out = String::new();
                text::write_json(&mut out, scalar);
                Ok(Self::Value(out.into()))
            }
        }
    }

    fn of_keyed_item(list: &List<'_>, item: &Value) -> Result<Self, String> {
        let members = match item {
            Value::Object(members) => members,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let value_of = |key: &str| members.get(key).or_else(|| list.items.declared().and_then(|s| key_default(s, key)));
        let mut out = String::with_capacity(32);
        if let [key] = list.keys {
            text::write_keys(&mut out, value_of(key).into_iter().map(|value| (key.as_str(), value)));
        } else {
            let mut keys: Vec<&str> = list.keys.iter().map(String::as_str).collect();
            keys.sort_unstable();
            text::write_keys(&mut out, keys.into_iter().filter_map(|key| value_of(key).map(|value| (key, value))));
        }
        if out.len() <= 2 {
            let names: Vec<String> = list.keys.iter().map(|key| text::go_quoted(key)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(Self::Key(out.into()))
    }
}

/// The value that stands in for a missing key, e.g. `TCP` for the protocol of a port.
fn key_default<'s>(item: &'s Schema, key: &str) -> Option<&'s Value> {
    item.properties.get(key)?.default.as_ref()
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                // The text was written by `write_keys`, so it parses.
                let keys: serde_json::Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={}", text::plain(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => {
                let value: Value = serde_json::from_str(value).unwrap_or_default();
                write!(f, "[={}]", text::plain(&value))
            }
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}
