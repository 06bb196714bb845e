//! Stored objects: how a JSON value becomes the bytes that the store keeps and every reader is sent, and what is read
//! back out of them.
//!
//! The layout is fixed so that reading needs no parsing: `{"kind":K,"apiVersion":V,"metadata":{"resourceVersion":"N",…},…}\n`.
//! The bytes are a complete response body; a list drops the part before `"metadata"` by its length alone; the revision
//! is written in front of the rest when the store has chosen it, without copying.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kubetask_store::{Entry, Revision};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::selectors::labels::Labels;

/// Digits of the greatest revision.
const REVISION_DIGITS: usize = 20;

/// `{"kind":K,"apiVersion":V,`: what every stored object of a kind begins with.
pub(crate) fn prefix(kind: &str, api_version: &str) -> Vec<u8> {
    format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(kind), Value::from(api_version)).into_bytes()
}

const METADATA: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";

/// An object encoded except for its resourceVersion.
pub(crate) struct Unsealed {
    buffer: Vec<u8>,
    /// `buffer[..room]` is free for the head; the tail follows.
    room: usize,
    head: Vec<u8>,
}

impl Unsealed {
    /// Encodes `object`; `kind_prefix` is [`prefix`] of its kind.
    pub(crate) fn new(kind_prefix: &[u8], object: &Value) -> Self {
        let head = [kind_prefix, METADATA].concat();
        let room = head.len() + REVISION_DIGITS;
        let mut buffer = Vec::with_capacity(room + 1024);
        buffer.resize(room, b' ');
        buffer.push(b'"');
        let empty = Map::new();
        let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        write_members(&mut buffer, metadata, &["resourceVersion"]);
        buffer.push(b'}');
        write_members(&mut buffer, object.as_object().unwrap_or(&empty), &["kind", "apiVersion", "metadata"]);
        buffer.extend_from_slice(b"}\n");
        // These bytes are what is kept, and room to grow would be a third of them.
        buffer.shrink_to_fit();
        Self { buffer, room, head }
    }

    /// Bytes before the revision is known, for no-op detection and limits.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.buffer[self.room..]
    }

    /// The finished bytes.
    pub(crate) fn seal(mut self, revision: Revision) -> Bytes {
        let mut digits = [0u8; REVISION_DIGITS];
        let mut cursor = std::io::Cursor::new(&mut digits[..]);
        // Cannot fail: a u64 has at most twenty digits.
        let _ = write!(cursor, "{revision}");
        let length = usize::try_from(cursor.position()).unwrap_or(REVISION_DIGITS);
        let start = self.room - length - self.head.len();
        self.buffer[start..start + self.head.len()].copy_from_slice(&self.head);
        self.buffer[self.room - length..self.room].copy_from_slice(&digits[..length]);
        Bytes::from(self.buffer).slice(start..)
    }
}

fn write_members(out: &mut Vec<u8>, members: &Map<String, Value>, skip: &[&str]) {
    for (key, value) in members {
        if skip.contains(&key.as_str()) {
            continue;
        }
        out.push(b',');
        // Writing JSON values to memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
        let mut serializer = serde_json::Serializer::with_formatter(&mut *out, GoNumbers);
        let _ = serde::Serialize::serialize(value, &mut serializer);
    }
}

/// Whole numbers are written without a fraction, as Go does: `priority: 1.0` is kept as `1`, and a client whose field is
/// an integer can read it.
struct GoNumbers;

impl serde_json::ser::Formatter for GoNumbers {
    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        if value.fract() == 0.0 && value.abs() < 1e21 {
            write!(writer, "{value:.0}")
        } else {
            serde_json::ser::CompactFormatter.write_f64(writer, value)
        }
    }
}

/// Whether stored bytes and an encoded object differ in nothing but the resourceVersion.
pub(crate) fn same_but_revision(stored: &[u8], kind_prefix: &[u8], new: &Unsealed) -> bool {
    let head = kind_prefix.len() + METADATA.len();
    stored
        .get(head..)
        .and_then(|rest| rest.iter().position(|b| *b == b'"').map(|end| &rest[end..]))
        .is_some_and(|tail| tail == new.tail())
}

/// The stored bytes as a value. Stored bytes are our own, so a failure is a bug or damage: it yields `Null`.
pub(crate) fn decode(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.bytes).unwrap_or_else(|error| {
        tracing::error!(key = %entry.key, %error, "stored object is not JSON");
        Value::Null
    })
}

/// What selectors need of an object, kept beside its bytes.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) labels: Labels,
    /// The values of its kind's selectable fields, in that order.
    pub(crate) fields: OnceLock<Box<[Box<str>]>>,
    /// The whole object, only for the few kinds that the server itself reads all the time (roles and bindings).
    pub(crate) value: OnceLock<Arc<Value>>,
}

#[derive(Deserialize, Default)]
struct OnlyLabels {
    #[serde(default)]
    metadata: LabelsOfMetadata,
}

#[derive(Deserialize, Default)]
struct LabelsOfMetadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The facts of an entry, decoded on first use.
pub(crate) fn facts(entry: &Entry) -> Arc<Facts> {
    let decode = |bytes: &Bytes| {
        let only: OnlyLabels = serde_json::from_slice(bytes).unwrap_or_default();
        Arc::new(Facts { labels: only.metadata.labels.into(), ..Facts::default() })
    };
    entry.cached(decode).unwrap_or_default()
}

/// `namespace/name` of a namespaced object, `name` of another.
pub(crate) fn key(namespaced: bool, namespace: &str, name: &str) -> String {
    if namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
}

/// `(namespace, name)` of a key.
pub(crate) fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// A string member of `metadata`.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata`, created when missing or not an object.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object["metadata"];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The current time as Kubernetes writes it: whole seconds, UTC.
pub(crate) fn now() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_have_no_fraction() {
        let object = json!({"kind": "K", "spec": {"a": 1.0, "b": [-2.0, 2.5], "c": 1e22, "d": 7, "e": -0.5, "f": 9_007_199_254_740_993_i64}});
        let sealed = Unsealed::new(&prefix("K", "v1"), &object).seal(1);
        let text = std::str::from_utf8(&sealed).unwrap();
        let spec = r#""spec":{"a":1,"b":[-2,2.5],"c":1e+22,"d":7,"e":-0.5,"f":9007199254740993}"#;
        assert!(text.contains(spec), "{text}");
    }

    #[test]
    fn seals_the_revision_into_the_bytes() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
            "metadata": {"name": "a", "resourceVersion": "stale", "labels": {"l": "1"}}});
        let head = prefix("ConfigMap", "v1");
        for revision in [7, 123_456, u64::MAX] {
            let sealed = Unsealed::new(&head, &object).seal(revision);
            let want = format!(
                "{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\"labels\":{{\"l\":\"1\"}},\"name\":\"a\"}},\"data\":{{\"k\":\"v\"}}}}\n"
            );
            assert_eq!(sealed, want.as_bytes());
            assert!(same_but_revision(&sealed, &head, &Unsealed::new(&head, &object)));
            let other = json!({"metadata": {"name": "b"}});
            assert!(!same_but_revision(&sealed, &head, &Unsealed::new(&head, &other)));
        }
    }
}
