//! The keywords of JSON Schema, in the order and with the messages of Kubernetes' validator.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::at::At;
use super::{junctors, numbers};
use crate::field::{Error, Path};
use crate::format;
use crate::model::{Constraints, Schema, Type};

/// What one node found: errors, and how many keywords agreed, by which the best branch of a junctor is told.
#[derive(Default)]
pub(super) struct Found {
    pub(super) errors: Vec<Error>,
    pub(super) agreed: usize,
}

impl Found {
    pub(super) fn merge(&mut self, mut other: Found) {
        self.agreed += other.agreed;
        self.errors.append(&mut other.errors);
    }

    pub(super) fn push(&mut self, error: Error) {
        self.errors.push(error);
    }
}

/// The old value beside the new one, as far as the two can be told to be the same thing.
#[derive(Clone, Copy)]
pub(super) struct Correlated<'a>(pub(super) Option<&'a Value>);

pub(super) fn check(new: &Value, old: Option<&Value>, schema: &Schema, path: &Path) -> Vec<Error> {
    let start = At::Start(path.as_str());
    let mut errors = node(new, Correlated(None), schema, &start).errors;
    if !errors.is_empty() && old.is_some() {
        errors = node(new, Correlated(old), schema, &start).errors;
    }
    // The same mistake can be found along two ways, e.g. in a branch and outside.
    let mut index = 0;
    while index < errors.len() {
        if errors[..index].contains(&errors[index]) {
            errors.remove(index);
        } else {
            index += 1;
        }
    }
    errors
}

pub(super) fn node(value: &Value, old: Correlated<'_>, schema: &Schema, at: &At<'_>) -> Found {
    let mut found = Found::default();
    type_(value, schema, at, &mut found);
    let c = &schema.constraints;
    if value.is_null() {
        enum_(value, c, at, &mut found);
        return unless_unchanged(found, value, old);
    }
    junctors::check(value, old, c, at, &mut found);
    match value {
        Value::String(text) => string(text, c, at, &mut found),
        Value::Number(number) => numbers::check(number, schema, at, &mut found),
        Value::Array(items) => array(items, value, old, schema, at, &mut found),
        _ => {}
    }
    enum_(value, c, at, &mut found);
    if let Value::Object(members) = value {
        object(members, old, schema, at, &mut found);
    }
    found.agreed += 1;
    unless_unchanged(found, value, old)
}

/// Ratcheting: what did not change is not held against the writer.
fn unless_unchanged(found: Found, value: &Value, old: Correlated<'_>) -> Found {
    if found.errors.is_empty() || old.0 != Some(value) { found } else { Found { errors: Vec::new(), ..found } }
}

fn type_(value: &Value, schema: &Schema, at: &At<'_>, found: &mut Found) {
    let format = known_format(&schema.constraints);
    if schema.type_.is_none() && !schema.int_or_string && format.is_none() {
        return;
    }
    found.agreed += 1;
    let wanted = || if schema.int_or_string { "integer,string" } else { schema.type_.map_or("", Type::name) };
    let wants = |type_: Type| {
        schema.type_ == Some(type_) || (schema.int_or_string && matches!(type_, Type::Integer | Type::String))
    };
    let (actual, name, actual_format) = match value {
        Value::Null => {
            if !schema.nullable && (schema.type_.is_some() || schema.int_or_string) {
                found.push(type_error(at, wanted(), "null"));
            }
            return;
        }
        Value::Bool(_) => (Type::Boolean, "boolean", ""),
        Value::String(_) => (Type::String, "string", ""),
        Value::Array(_) => (Type::Array, "array", ""),
        Value::Object(_) => (Type::Object, "object", ""),
        Value::Number(number) if number.is_i64() => (Type::Integer, "integer", "int64"),
        Value::Number(number) => {
            let is_whole = number.as_f64().is_some_and(numbers::is_whole);
            let type_ = if is_whole && wants(Type::Integer) { Type::Integer } else { Type::Number };
            (type_, "number", "float64")
        }
    };
    let fits = wants(actual) || (actual == Type::Integer && wants(Type::Number));
    if let Some(format) = format {
        if matches!(actual, Type::String | Type::Array) {
            if !wants(Type::Number) && !wants(Type::Integer) {
                return;
            }
        } else if !fits && format != actual_format {
            found.push(type_error(at, format, actual_format));
            return;
        }
    }
    if fits {
        found.agreed += 1;
    } else {
        found.push(type_error(at, wanted(), name));
    }
}

fn known_format(c: &Constraints) -> Option<&str> {
    c.format.as_deref().filter(|name| format::check(name).is_some() || format::is_number_format(name))
}

pub(super) fn type_error(at: &At<'_>, wanted: &str, actual: &str) -> Error {
    let detail = format!("{at} in body must be of type {wanted}: {}", crate::field::go_quote(actual));
    Error::type_invalid(&at.path(), actual, detail)
}

fn string(text: &str, c: &Constraints, at: &At<'_>, found: &mut Found) {
    found.agreed += 1;
    if let Some(error) = string_error(text, c, at) {
        found.push(error);
    }
    if let Some(name) = &c.format
        && let Some(check) = format::check(name)
    {
        found.agreed += 2;
        if !check(text) {
            found.push(type_error(at, name, text));
        }
    }
}

/// The first of length and pattern that the text breaks.
fn string_error(text: &str, c: &Constraints, at: &At<'_>) -> Option<Error> {
    if c.max_length.is_some() || c.min_length.is_some() {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = c.max_length.filter(|max| length > *max) {
            return Some(Error::too_long(&at.path(), max));
        }
        if let Some(min) = c.min_length.filter(|min| length < *min) {
            return Some(Error::invalid(&at.path(), text, format!("{at} in body should be at least {min} chars long")));
        }
    }
    let pattern = c.pattern.as_deref()?;
    let detail = match c.pattern_cache.get(pattern) {
        Some(regex) if regex.is_match(text) => return None,
        Some(_) => format!("{at} in body should match '{pattern}'"),
        None => format!("{at} in body should match '{pattern}, but pattern is invalid'"),
    };
    Some(Error::invalid(&at.path(), text, detail))
}

fn enum_(value: &Value, c: &Constraints, at: &At<'_>, found: &mut Found) {
    found.agreed += 1;
    let Some(allowed) = &c.enum_values else { return };
    let same = |other: &Value| match (value, other) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => value == other,
    };
    if !allowed.iter().any(same) {
        let names = allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        found.push(Error::not_supported_in_order(&at.path(), value.clone(), names));
    }
}

fn array(items: &[Value], value: &Value, old: Correlated<'_>, schema: &Schema, at: &At<'_>, found: &mut Found) {
    let c = &schema.constraints;
    if let Some(item_schema) = &schema.items {
        let pairs = OldItems::of(old, schema);
        for (index, item) in items.iter().enumerate() {
            found.merge(node(item, pairs.get(item), item_schema, &At::Index(at, index)));
        }
    }
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = c.min_items.filter(|min| count < *min) {
        found.push(Error::invalid(&at.path(), count, format!("{at} in body should have at least {min} items")));
    }
    if let Some(max) = c.max_items.filter(|max| count > *max) {
        found.push(Error::too_many(&at.path(), count, max));
    }
    if c.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
        found.push(Error::invalid(&at.path(), value.clone(), format!("{at} in body shouldn't contain duplicates")));
    }
    found.agreed += 2;
}

fn object(members: &Map<String, Value>, old: Correlated<'_>, schema: &Schema, at: &At<'_>, found: &mut Found) {
    let c = &schema.constraints;
    let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
    if let Some(min) = c.min_properties.filter(|min| count < *min) {
        found.push(Error::invalid(&at.path(), count, format!("{at} in body should have at least {min} properties")));
        return;
    }
    if let Some(max) = c.max_properties.filter(|max| count > *max) {
        found.push(Error::too_many(&at.path(), count, max));
        return;
    }
    if !schema.properties.is_empty() || schema.additional_properties.is_some() {
        let old_members = old.0.and_then(Value::as_object);
        for (name, member) in members {
            let Some(own) = schema.member(name) else { continue };
            let is_type_meta = at.is_root() && crate::metadata::is_object_member(name);
            let old_member = old_members.and_then(|o| o.get(name)).filter(|_| !is_type_meta);
            found.merge(node(member, Correlated(old_member), own, &At::Member(at, name)));
        }
    }
    for name in &c.required {
        if !members.contains_key(name) {
            found.push(Error::required(&At::Member(at, name).path(), ""));
        }
    }
    found.agreed += 2;
}

/// Old items of a map list by their keys; the items of other lists cannot be told apart.
pub(crate) struct OldItems<'a> {
    keys: &'a [String],
    defaults: Option<&'a Schema>,
    by_key: HashMap<String, &'a Value>,
}

impl<'a> OldItems<'a> {
    fn of(old: Correlated<'a>, schema: &'a Schema) -> Self {
        Self::new(old.0, schema)
    }

    pub(crate) fn new(old: Option<&'a Value>, schema: &'a Schema) -> Self {
        let mut this = Self { keys: &schema.list_map_keys, defaults: schema.items.as_deref(), by_key: HashMap::new() };
        if let (true, Some(Value::Array(items))) = (schema.is_map_list(), old) {
            for item in items {
                if let Some(key) = this.key(item) {
                    this.by_key.insert(key, item);
                }
            }
        }
        this
    }

    fn key(&self, item: &Value) -> Option<String> {
        let members = item.as_object()?;
        let mut key = String::new();
        for name in self.keys {
            let default = || self.defaults.and_then(|s| s.properties.get(name)).and_then(|s| s.default.as_ref());
            match members.get(name).or_else(default) {
                Some(value) => key.push_str(&value.to_string()),
                // An item without its key has no old one.
                None => return None,
            }
            key.push('\n');
        }
        Some(key)
    }

    fn get(&self, item: &Value) -> Correlated<'a> {
        Correlated(self.find(item))
    }

    /// The old item with the keys of `item`.
    pub(crate) fn find(&self, item: &Value) -> Option<&'a Value> {
        if self.by_key.is_empty() {
            return None;
        }
        self.key(item).and_then(|key| self.by_key.get(&key).copied())
    }
}
