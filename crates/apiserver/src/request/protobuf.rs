//! Bodies in Kubernetes' protobuf form, which Go clients send for built-in kinds: turned into the same JSON value that a JSON
//! body would have been.
//!
//! `protobuf_fields.txt` has a line for each message: its name, then `number:jsonName:type` for each field. Types are `s`
//! string, `b` bytes, `i` integer, `t` boolean, `T` and `M` times, `Q` quantity, `I` int-or-string, `J` embedded JSON,
//! `L` a message that is a list, `>name` a message; `*` before it: repeated, `{`: a map from strings. The JSON name `.`
//! means that the message's fields stand in its parent.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

const MAGIC: &[u8] = b"k8s\0";
const DEPTH: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Field {
    name: &'static str,
    shape: Shape,
    type_: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Repeated,
    Map,
}

type Message = HashMap<u64, Field>;

fn table() -> &'static HashMap<&'static str, Message> {
    static TABLE: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let line = |line: &'static str| {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            (name, fields.split(' ').filter_map(field).collect())
        };
        include_str!("protobuf_fields.txt").lines().map(line).collect()
    })
}

fn field(text: &'static str) -> Option<(u64, Field)> {
    let mut parts = text.splitn(3, ':');
    let number = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let type_ = parts.next()?;
    let (shape, type_) = match (type_.strip_prefix('*'), type_.strip_prefix('{')) {
        (Some(type_), _) => (Shape::Repeated, type_),
        (_, Some(type_)) => (Shape::Map, type_),
        _ => (Shape::One, type_),
    };
    Some((number, Field { name, shape, type_ }))
}

/// Decodes a body: the envelope, then the message that it names.
pub(super) fn decode(body: &[u8]) -> Result<Value, String> {
    let body = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &body[..0]);
    for item in Wire(body) {
        match item? {
            (1, Token::Bytes(meta)) => {
                for item in Wire(meta) {
                    match item? {
                        (1, Token::Bytes(text)) => api_version = string(text)?,
                        (2, Token::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Token::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    let message = table()
        .get(name.as_str())
        .ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{api_version}\""))?;
    let mut out = Map::new();
    fill(&mut out, message, raw, 0)?;
    out.insert("kind".into(), kind.into());
    out.insert("apiVersion".into(), api_version.into());
    Ok(Value::Object(out))
}

fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta/v1.DeleteOptions".to_owned();
    }
    match api_version.split_once('/') {
        None => format!("core/{api_version}.{kind}"),
        Some((group, version)) => format!("{}/{version}.{kind}", group.split('.').next().unwrap_or(group)),
    }
}

fn fill(out: &mut Map<String, Value>, message: &Message, bytes: &[u8], depth: usize) -> Result<(), String> {
    if depth > DEPTH {
        return Err("protobuf message is nested too deeply".to_owned());
    }
    for item in Wire(bytes) {
        let (number, token) = item?;
        // Fields of newer clients are not known here; they are dropped, as Go does.
        let Some(field) = message.get(&number) else { continue };
        if field.name == "." {
            if let (Token::Bytes(bytes), Some(inner)) = (token, inner(field.type_)) {
                fill(out, inner, bytes, depth + 1)?;
            }
            continue;
        }
        match field.shape {
            Shape::One => {
                let value = value(field.type_, token, depth)?;
                if !value.is_null() {
                    out.insert(field.name.to_owned(), value);
                }
            }
            Shape::Repeated => {
                let value = value(field.type_, token, depth)?;
                match out.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(items) => items.push(value),
                    other => *other = Value::Array(vec![value]),
                }
            }
            Shape::Map => {
                let (key, value) = entry(field.type_, token, depth)?;
                match out.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    Value::Object(members) => members.insert(key, value),
                    _ => None,
                };
            }
        }
    }
    Ok(())
}

fn inner(type_: &str) -> Option<&'static Message> {
    table().get(type_.strip_prefix('>')?)
}

/// An entry of a map: a message of key and value.
fn entry(type_: &'static str, token: Token<'_>, depth: usize) -> Result<(String, Value), String> {
    let Token::Bytes(bytes) = token else { return Err(WRONG.to_owned()) };
    let (mut key, mut found) = (String::new(), None);
    for item in Wire(bytes) {
        match item? {
            (1, Token::Bytes(text)) => key = string(text)?,
            (2, token) => found = Some(value(type_, token, depth + 1)?),
            _ => {}
        }
    }
    let missing = match type_ {
        "s" | "b" | "Q" => Value::from(""),
        _ => Value::Null,
    };
    Ok((key, found.unwrap_or(missing)))
}

const WRONG: &str = "proto: wrong wire type for a field";

fn value(type_: &'static str, token: Token<'_>, depth: usize) -> Result<Value, String> {
    match (type_, token) {
        ("i", Token::Number(number)) => Ok(Value::from(number.cast_signed())),
        ("t", Token::Number(number)) => Ok(Value::from(number != 0)),
        ("f", Token::Fixed(bits)) => Ok(Value::from(f64::from_bits(bits))),
        ("s", Token::Bytes(bytes)) => string(bytes).map(Value::from),
        ("b", Token::Bytes(bytes)) => Ok(Value::from(STANDARD.encode(bytes))),
        ("T" | "M", Token::Bytes(bytes)) => time(bytes, type_ == "M"),
        ("Q", Token::Bytes(bytes)) => first_string(bytes).map(Value::from),
        ("I", Token::Bytes(bytes)) => int_or_string(bytes),
        ("J", Token::Bytes(bytes)) => embedded(bytes),
        ("L", Token::Bytes(bytes)) => {
            let texts = Wire(bytes).filter_map(|item| match item {
                Ok((1, Token::Bytes(text))) => Some(string(text).map(Value::from)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            texts.collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        (_, Token::Bytes(bytes)) => {
            let message = inner(type_).ok_or(WRONG)?;
            let mut out = Map::new();
            fill(&mut out, message, bytes, depth + 1)?;
            Ok(Value::Object(out))
        }
        _ => Err(WRONG.to_owned()),
    }
}

fn string(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "proto: a string is not UTF-8".to_owned())
}

fn first_string(bytes: &[u8]) -> Result<String, String> {
    for item in Wire(bytes) {
        if let (1, Token::Bytes(text)) = item? {
            return string(text);
        }
    }
    Ok(String::new())
}

/// Seconds and nanoseconds; an empty message is the zero time, which JSON leaves out.
fn time(bytes: &[u8], micro: bool) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for item in Wire(bytes) {
        match item? {
            (1, Token::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Token::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let stamp = jiff::Timestamp::from_second(seconds).map_err(|_| "proto: a time is out of range".to_owned())?;
    let text = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    Ok(Value::from(if micro { format!("{text}.{:06}Z", nanos / 1000) } else { format!("{text}Z") }))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    for item in Wire(bytes) {
        match item? {
            (1, Token::Number(kind)) => is_string = kind == 1,
            (2, Token::Number(value)) => number = value.cast_signed(),
            (3, Token::Bytes(bytes)) => text = string(bytes)?,
            _ => {}
        }
    }
    Ok(if is_string { Value::from(text) } else { Value::from(number) })
}

fn embedded(bytes: &[u8]) -> Result<Value, String> {
    for item in Wire(bytes) {
        if let (1, Token::Bytes(json)) = item? {
            return serde_json::from_slice(json).map_err(|error| format!("embedded JSON: {error}"));
        }
    }
    Ok(Value::Null)
}

/// The fields of a message as they stand on the wire.
struct Wire<'a>(&'a [u8]);

enum Token<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

const CUT: &str = "proto: unexpected EOF";

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(CUT)?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err("proto: integer overflow".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(head)
    }

    fn token(&mut self) -> Result<(u64, Token<'a>), String> {
        let key = self.varint()?;
        let little = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        let token = match key & 7 {
            0 => Token::Number(self.varint()?),
            1 => Token::Fixed(little(self.take(8)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT)?;
                Token::Bytes(self.take(length)?)
            }
            5 => Token::Fixed(little(self.take(4)?)),
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok((key >> 3, token))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u64, Token<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let token = self.token();
        if token.is_err() {
            self.0 = &[];
        }
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap_or_default();
        [&[field << 3 | 2, length], value].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let meta = [bytes(1, b"a"), bytes(8, b"")].concat();
        let data = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let binary = [bytes(1, b"b"), bytes(2, &[0, 255])].concat();
        let raw = [bytes(1, &meta), bytes(2, &data), bytes(3, &binary), vec![4 << 3, 1]].concat();
        assert_eq!(
            decode(&envelope("v1", "ConfigMap", &raw)),
            Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"},
                "binaryData": {"b": "AP8="}, "immutable": true}))
        );
    }

    #[test]
    fn inlined_messages_stand_in_their_parent() {
        let source = bytes(2, &bytes(1, b""));
        let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
        let spec = bytes(1, &volume);
        let decoded = decode(&envelope("v1", "Pod", &bytes(2, &spec))).unwrap_or_default();
        assert_eq!(decoded["spec"]["volumes"], json!([{"name": "v", "emptyDir": {"medium": ""}}]));
    }

    #[test]
    fn every_message_that_is_referred_to_is_there() {
        for (name, message) in table() {
            for field in message.values().filter(|f| f.type_.starts_with('>')) {
                assert!(inner(field.type_).is_some(), "{name}.{} is of unknown type {}", field.name, field.type_);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
            let _ = decode(&[MAGIC, &raw].concat());
            let _ = decode(&envelope("v1", "Pod", &raw));
        }
    }
}
