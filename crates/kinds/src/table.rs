//! Tables: what `kubectl get` prints. Column definitions and the helpers that rows are made with.

use jiff::Timestamp;
use serde_json::Value;

/// One column of a `Table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type.
    pub type_: &'static str,
    /// OpenAPI format; `name` marks the primary column.
    pub format: &'static str,
    /// Text for people.
    pub description: &'static str,
    /// 0: always shown; 1: only with `-o wide`.
    pub priority: i32,
}

/// One row of a `Table`, without its `object`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// A cell for each column.
    pub cells: Vec<Value>,
    /// `conditions` of the row (finished pods have one); empty: left out.
    pub conditions: Vec<Value>,
}

/// Description of the name column.
pub const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// Description of the age column.
pub const AGE_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The name column.
pub const NAME: Column =
    Column { name: "Name", type_: "string", format: "name", description: NAME_DESCRIPTION, priority: 0 };

/// The age column.
pub const AGE: Column = column("Age", AGE_DESCRIPTION, 0);

/// A string column.
pub(crate) const fn column(name: &'static str, description: &'static str, priority: i32) -> Column {
    Column { name, type_: "string", format: "", description, priority }
}

static NAME_AGE: [Column; 2] = [NAME, AGE];

pub(crate) fn name_age_columns() -> &'static [Column] {
    &NAME_AGE
}

pub(crate) fn name_age_row(object: &Value, now: Timestamp) -> Row {
    Row { cells: vec![name(object), age(object, now)], conditions: Vec::new() }
}

/// The object's name as a cell.
#[must_use]
pub fn name(object: &Value) -> Value {
    Value::from(object["metadata"]["name"].as_str().unwrap_or_default())
}

/// The time since `metadata.creationTimestamp` as a cell.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> Value {
    Value::from(since(&object["metadata"]["creationTimestamp"], now))
}

/// Time since a timestamp in JSON, as kubectl prints it; `<unknown>` when there is none.
#[must_use]
pub fn since(timestamp: &Value, now: Timestamp) -> String {
    match timestamp.as_str().and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(t) => crate::duration::human(now.as_second() - t.as_second()),
        None => "<unknown>".to_owned(),
    }
}
