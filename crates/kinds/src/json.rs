//! JSON parsing that notices what `serde_json::Value` forgets: a field that is given twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A parsed document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The document; of a repeated field the last value counts.
    pub value: Value,
    /// Paths of repeated fields, e.g. `metadata.name` or `spec.containers[0].image`, each once.
    pub duplicates: Vec<String>,
}

/// Parses one JSON document.
///
/// # Errors
/// Malformed JSON, nesting that is too deep, or anything after the document.
pub fn parse(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut state = State { path: String::new(), duplicates: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node(&mut state).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed { value, duplicates: state.duplicates })
}

struct State {
    path: String,
    duplicates: Vec<String>,
}

struct Node<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut items = Vec::new();
        loop {
            // The index costs a little; a path is needed only when something below it repeats.
            fmt::Write::write_fmt(&mut self.0.path, format_args!("[{}]", items.len()))
                .map_err(serde::de::Error::custom)?;
            let item = seq.next_element_seed(Node(&mut *self.0))?;
            self.0.path.truncate(length);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if members.contains_key(&key) && !self.0.duplicates.contains(&self.0.path) {
                self.0.duplicates.push(self.0.path.clone());
            }
            let value = map.next_value_seed(Node(&mut *self.0))?;
            self.0.path.truncate(length);
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn check(input: &str, expect: &[&str]) {
        assert_eq!(parse(input.as_bytes()).unwrap().duplicates, expect, "{input}");
    }

    #[test]
    fn finds_repeated_fields() {
        check(r#"{"a":1,"b":{"a":2}}"#, &[]);
        check(r#"{"a":1,"a":2,"a":3}"#, &["a"]);
        check(r#"{"s":{"c":[{"i":1},{"i":1,"i":2}]}}"#, &["s.c[1].i"]);
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap().value["a"], 2);
    }

    #[test]
    fn parses_what_serde_json_parses() {
        let text = r#"{"n":null,"t":true,"i":-3,"u":18446744073709551615,"f":1.5,"s":"x\u00e9","l":[[],{}]}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().value, serde_json::from_str::<serde_json::Value>(text).unwrap());
        for bad in ["", "{", "{} x", "{\"a\":}", "nul"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
