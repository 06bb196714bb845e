//! Uniqueness in lists of type set and map.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::at::At;
use crate::field::Error;
use crate::model::{ListType, Schema};

/// Up to here comparing each with each is cheaper than hashing.
const FEW: usize = 12;

pub(super) fn check(value: &Value, schema: &Schema, at: &At<'_>, errors: &mut Vec<Error>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if !(member.is_object() || member.is_array()) {
                    continue;
                }
                if let Some(own) = schema.properties.get(name) {
                    check(member, own, &At::Member(at, name), errors);
                } else if let Some(shared) = &schema.additional_properties {
                    check(member, shared, &At::Key(at, name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                Some(ListType::Set) => set(items, at, errors),
                Some(ListType::Map) => map(items, schema, at, errors),
                Some(ListType::Atomic) | None => {}
            }
            if let Some(own) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(item, own, &At::Index(at, index), errors);
                }
            }
        }
        _ => {}
    }
}

fn set(items: &[Value], at: &At<'_>, errors: &mut Vec<Error>) {
    for index in twins(items) {
        errors.push(Error::duplicate(&At::Index(at, index).path(), items[index].clone()));
    }
}

fn map(items: &[Value], schema: &Schema, at: &At<'_>, errors: &mut Vec<Error>) {
    let keys_of = |item: &Value| {
        let mut keys = Map::new();
        for name in &schema.list_map_keys {
            if let Some(value) = item.get(name) {
                keys.insert(name.clone(), value.clone());
            }
        }
        Value::Object(keys)
    };
    if items.len() < 2 {
        return;
    }
    let same_keys = |a: &Value, b: &Value| schema.list_map_keys.iter().all(|name| a.get(name) == b.get(name));
    if items.len() <= FEW {
        for (index, item) in items.iter().enumerate() {
            if item.is_object() && items[..index].iter().any(|other| other.is_object() && same_keys(item, other)) {
                errors.push(Error::duplicate(&At::Index(at, index).path(), keys_of(item)));
            }
        }
        return;
    }
    let keys: Vec<Value> = items.iter().map(keys_of).collect();
    for index in twins(&keys) {
        if items[index].is_object() {
            errors.push(Error::duplicate(&At::Index(at, index).path(), keys[index].clone()));
        }
    }
}

/// Indices of items that stand in the list before already.
fn twins(items: &[Value]) -> Vec<usize> {
    if items.len() <= FEW {
        return (1..items.len()).filter(|&index| items[..index].contains(&items[index])).collect();
    }
    let mut seen = HashSet::with_capacity(items.len());
    (0..items.len()).filter(|&index| !seen.insert(items[index].to_string())).collect()
}
