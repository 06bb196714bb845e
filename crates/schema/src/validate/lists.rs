//! Uniqueness in lists of type set and map.

use std::collections::HashMap;

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
    // Of what is no object only the first is told, and null is an object without keys.
    if let Some(index) = items.iter().position(|item| !(item.is_object() || item.is_null())) {
        let detail = "must be an object for an array of list-type map";
        errors.push(Error::invalid(&At::Index(at, index).path(), items[index].clone(), detail));
        return;
    }
    if items.len() < 2 {
        return;
    }
    let same_keys = |a: &Value, b: &Value| schema.list_map_keys.iter().all(|name| a.get(name) == b.get(name));
    if items.len() <= FEW {
        for (index, item) in items.iter().enumerate() {
            // The second of its kind is told, further ones are not.
            if items[..index].iter().filter(|other| same_keys(item, other)).count() == 1 {
                errors.push(Error::duplicate(&At::Index(at, index).path(), keys_of(item)));
            }
        }
        return;
    }
    let keys: Vec<Value> = items.iter().map(keys_of).collect();
    for index in twins(&keys) {
        errors.push(Error::duplicate(&At::Index(at, index).path(), keys[index].clone()));
    }
}

/// Indices of items that stand in the list once before.
fn twins(items: &[Value]) -> Vec<usize> {
    if items.len() <= FEW {
        let before = |index: usize| items[..index].iter().filter(|other| **other == items[index]).count();
        return (1..items.len()).filter(|&index| before(index) == 1).collect();
    }
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut times = |item: &Value| {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        *times
    };
    (0..items.len()).filter(|&index| times(&items[index]) == 2).collect()
}
