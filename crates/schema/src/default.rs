//! Structural defaulting: what the schema's `default`s add to an object, and which nulls go.
//!
//! [`apply`] walks value and schema together. A missing member, or a null where null is no value, becomes the
//! default; nulls that are no value and have no default are removed. Applying it twice changes nothing more.

use serde_json::Value;

use crate::model::Schema;

/// Fills in the defaults of `schema` and removes nulls that stand for nothing.
pub fn apply(value: &mut Value, schema: &Schema) {
    fill(value, schema);
    drop_nulls(value, schema);
}

fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => {
            for (name, member) in &schema.properties {
                let Some(default) = &member.default else { continue };
                match members.get_mut(name) {
                    None => {
                        members.insert(name.clone(), default.clone());
                    }
                    Some(old) if is_no_value(old, member) => *old = default.clone(),
                    Some(_) => {}
                }
            }
            if schema.properties.is_empty() && schema.additional_properties.is_none() {
                return;
            }
            for (name, member) in members.iter_mut() {
                if let Some(own) = schema.properties.get(name) {
                    fill(member, own);
                } else if let Some(shared) = &schema.additional_properties {
                    fill_entry(member, shared);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for item in items {
                    fill_entry(item, item_schema);
                }
            }
        }
        _ => {}
    }
}

/// An item of a list or an entry of a map: there is no missing one, but a null one can have a default.
fn fill_entry(value: &mut Value, schema: &Schema) {
    if is_no_value(value, schema)
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    fill(value, schema);
}

fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => members.retain(|name, member| {
            let Some(own) = schema.member(name) else { return true };
            if member.is_null() {
                return own.nullable || own.default.is_some() || is_anything(own);
            }
            drop_nulls(member, own);
            true
        }),
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for item in items {
                    drop_nulls(item, item_schema);
                }
            }
        }
        _ => {}
    }
}

fn is_no_value(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

/// `additionalProperties: true`, which says nothing about nulls.
fn is_anything(schema: &Schema) -> bool {
    schema.type_.is_none() && !schema.int_or_string && !schema.preserve_unknown_fields
}
