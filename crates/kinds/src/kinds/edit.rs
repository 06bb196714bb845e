//! Careful editing of JSON objects: nothing here panics on a value of an unexpected type, it just leaves it alone.

use serde_json::{Map, Value};

/// The text of a member; empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The items of a list member.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// The items of a list member, to be edited.
pub(crate) fn items_mut<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The texts of a list member.
pub(crate) fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    items(value, name).iter().filter_map(Value::as_str)
}

/// Whether a member is there.
pub(crate) fn has(value: &Value, name: &str) -> bool {
    !value[name].is_null()
}

/// Sets a member that is not there.
pub(crate) fn default(value: &mut Value, name: &str, with: impl Into<Value>) {
    if let Value::Object(members) = value
        && members.get(name).is_none_or(Value::is_null)
    {
        members.insert(name.to_owned(), with.into());
    }
}

/// Sets a member.
pub(crate) fn set(value: &mut Value, name: &str, to: impl Into<Value>) {
    if let Value::Object(members) = value {
        members.insert(name.to_owned(), to.into());
    }
}

/// Removes a member.
pub(crate) fn remove(value: &mut Value, name: &str) {
    if let Value::Object(members) = value {
        members.remove(name);
    }
}

/// The member, made an empty object when it is not there; `None` when `value` is no object.
pub(crate) fn ensure<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let members = value.as_object_mut()?;
    let slot = members.entry(name).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    Some(slot)
}

/// Takes a member over from another object, absence included.
pub(crate) fn copy(to: &mut Value, from: &Value, name: &str) {
    match from.get(name) {
        Some(value) => set(to, name, value.clone()),
        None => remove(to, name),
    }
}

/// An empty object.
pub(crate) fn object() -> Value {
    Value::Object(Map::new())
}

/// Raises `metadata.generation` above the old one's when `changed`, else keeps the old one's.
pub(crate) fn bump_generation(new: &mut Value, old: &Value, changed: bool) {
    let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
    let after = if changed { before + 1 } else { before };
    if let Some(meta) = ensure(new, "metadata") {
        if after == 0 { remove(meta, "generation") } else { set(meta, "generation", after) }
    }
}

/// Sets `metadata.generation` of a new object to 1.
pub(crate) fn first_generation(object: &mut Value) {
    if let Some(meta) = ensure(object, "metadata") {
        set(meta, "generation", 1);
    }
}
