//! `metadata.managedFields` as data: who owns which set, since when.
//!
//! Main type: [`Managed`]. Entries whose set does not change keep their JSON: it is moved, not made again.

use std::mem;

use kubetask_schema::model::Schema;
use serde_json::{Map, Value};

use crate::reconcile::reconcile;
use crate::set::Set;
use crate::types::Ty;

/// How an entry came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells entries apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    /// Empty for appliers: one that moves to a new version stays the same applier.
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Id {
    pub(crate) fn new(manager: &str, operation: Operation, api_version: &str, subresource: Option<&str>) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown" } else { manager }.to_owned(),
            operation,
            api_version: if operation == Operation::Apply { String::new() } else { api_version.to_owned() },
            subresource: subresource.unwrap_or_default().to_owned(),
        }
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) api_version: String,
    pub(crate) time: Option<String>,
    pub(crate) set: Set,
    /// The `fieldsV1` it was read from, while the set is still the same.
    raw: Option<Value>,
}

impl Entry {
    pub(crate) fn new(id: Id, api_version: &str, set: Set) -> Self {
        Self { id, api_version: api_version.to_owned(), time: None, set, raw: None }
    }

    /// Takes paths away.
    pub(crate) fn subtract(&mut self, other: &Set) {
        if self.set.subtract(other) {
            self.raw = None;
        }
    }

    /// Replaces the set.
    pub(crate) fn replace(&mut self, set: Set) {
        self.set = set;
        self.raw = None;
    }

    /// Adds paths.
    pub(crate) fn union(&mut self, other: Set) {
        self.set.union(other);
        self.raw = None;
    }
}

/// Why managed fields cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

/// All entries of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Managed {
    pub(crate) entries: Vec<Entry>,
}

impl Managed {
    /// Reads `metadata.managedFields`, consuming it.
    pub(crate) fn decode(managed_fields: Value) -> Result<Self, Unreadable> {
        let entries = match managed_fields {
            Value::Null => Vec::new(),
            Value::Array(entries) => entries,
            _ => return Err(Unreadable("metadata.managedFields must be a list".to_owned())),
        };
        let mut out = Self { entries: Vec::with_capacity(entries.len()) };
        for (index, entry) in entries.into_iter().enumerate() {
            let entry = decode_entry(index, entry)?;
            // The later of two entries of one manager wins, as it does in Kubernetes' map.
            out.entries.retain(|other| other.id != entry.id);
            out.entries.push(entry);
        }
        Ok(out)
    }

    /// Fits the sets to the schema, which may have changed since they were written.
    pub(crate) fn reconcile(&mut self, schema: &Schema) {
        for entry in &mut self.entries {
            if reconcile(Ty::root(schema), &mut entry.set) {
                entry.raw = None;
            }
        }
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    pub(crate) fn get_mut(&mut self, id: &Id) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == *id)
    }

    pub(crate) fn remove(&mut self, id: &Id) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.id == *id)?;
        Some(self.entries.remove(at))
    }

    /// Drops entries that own nothing.
    pub(crate) fn drop_empty(&mut self) {
        self.entries.retain(|entry| !entry.set.is_empty());
    }

    /// Writes the entries, sorted as Kubernetes sorts them. `None`: there are none.
    pub(crate) fn encode(mut self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        self.entries.sort_by(|l, r| {
            (l.id.operation, &l.time, &l.id.manager, &l.api_version, &l.id.subresource).cmp(&(
                r.id.operation,
                &r.time,
                &r.id.manager,
                &r.api_version,
                &r.id.subresource,
            ))
        });
        Some(Value::Array(self.entries.into_iter().map(encode_entry).collect()))
    }
}

fn encode_entry(entry: Entry) -> Value {
    let mut out = Map::new();
    out.insert("apiVersion".to_owned(), Value::String(entry.api_version));
    out.insert("fieldsType".to_owned(), Value::from("FieldsV1"));
    out.insert("fieldsV1".to_owned(), entry.raw.unwrap_or_else(|| entry.set.to_fields_v1()));
    out.insert("manager".to_owned(), Value::String(entry.id.manager));
    out.insert("operation".to_owned(), Value::from(entry.id.operation.as_str()));
    if !entry.id.subresource.is_empty() {
        out.insert("subresource".to_owned(), Value::String(entry.id.subresource));
    }
    if let Some(time) = entry.time {
        out.insert("time".to_owned(), Value::String(time));
    }
    Value::Object(out)
}

fn decode_entry(index: usize, mut entry: Value) -> Result<Entry, Unreadable> {
    let mut take = |name: &str| entry.get_mut(name).map(mem::take);
    let mut text = |name: &str| match take(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(Unreadable(format!("{name} must be a string in managed fields entry {index}"))),
    };
    let operation = match text("operation")?.as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(Unreadable("operation must be `Apply` or `Update`".to_owned())),
    };
    let api_version = text("apiVersion")?;
    if api_version.is_empty() {
        return Err(Unreadable("apiVersion must not be empty".to_owned()));
    }
    match text("fieldsType")?.as_str() {
        "FieldsV1" => {}
        "" => return Err(Unreadable(format!("missing fieldsType in managed fields entry {index}"))),
        other => return Err(Unreadable(format!("invalid fieldsType {other:?} in managed fields entry {index}"))),
    }
    let id = Id {
        manager: text("manager")?,
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { api_version.clone() },
        subresource: text("subresource")?,
    };
    let time = Some(text("time")?).filter(|time| !time.is_empty());
    let raw = take("fieldsV1").unwrap_or_default();
    let set = Set::from_fields_v1(&raw).map_err(Unreadable)?;
    let raw = raw.is_object().then_some(raw);
    Ok(Entry { id, api_version, time, set, raw })
}

/// Takes `metadata.managedFields` out of an object.
pub(crate) fn take(object: &mut Value) -> Value {
    object
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|metadata| metadata.remove("managedFields"))
        .unwrap_or_default()
}

/// `metadata.managedFields` of an object.
pub(crate) fn of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// Puts `metadata.managedFields` into an object, or takes it out. An object without metadata stays as it is.
pub(crate) fn put(object: &mut Value, managed_fields: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match managed_fields {
        Some(managed_fields) => {
            metadata.insert("managedFields".to_owned(), managed_fields);
        }
        None => {
            metadata.remove("managedFields");
        }
    }
}
