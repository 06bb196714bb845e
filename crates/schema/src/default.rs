//! Structural defaulting: what the schema's `default`s add to an object, and which nulls go.
//!
//! [`apply`] walks value and schema together. A missing member, or a null where null is no value, becomes the
//! default; nulls that are no value and have no default are removed. Applying it twice changes nothing more.

use serde_json::{Map, Value};

use crate::model::Schema;

/// Fills in the defaults of `schema` and removes nulls that stand for nothing.
pub fn apply(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => {
            fill(members, schema);
            if members.values().any(Value::is_null) {
                members.retain(|name, member| !member.is_null() || stays_null(name, schema));
            }
            for (name, member) in members.iter_mut() {
                if is_composite(member)
                    && let Some(own) = schema.member(name)
                {
                    apply(member, own);
                }
            }
        }
        Value::Array(items) => {
            let Some(own) = &schema.items else { return };
            for item in items {
                fill_entry(item, own);
                apply(item, own);
            }
        }
        _ => {}
    }
}

fn fill(members: &mut Map<String, Value>, schema: &Schema) {
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
    if let Some(shared) = &schema.additional_properties {
        for (_, entry) in members.iter_mut().filter(|(name, _)| !schema.properties.contains_key(*name)) {
            fill_entry(entry, shared);
        }
    }
}

/// An item of a list or an entry of a map: there is no missing one, but a null one can have a default.
fn fill_entry(value: &mut Value, schema: &Schema) {
    if is_no_value(value, schema)
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}

/// Whether a null is kept: where it is a value, and where the schema says nothing.
fn stays_null(name: &str, schema: &Schema) -> bool {
    schema.member(name).is_none_or(|own| own.nullable || own.default.is_some() || is_anything(own))
}

fn is_composite(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}

fn is_no_value(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

/// `additionalProperties: true`, which says nothing about nulls.
fn is_anything(schema: &Schema) -> bool {
    schema.type_.is_none() && !schema.int_or_string && !schema.preserve_unknown_fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_fill_and_nulls_go() {
        let schema = crate::parse::structural(&json!({"type": "object", "properties": {
            "color": {"type": "string", "default": "red"},
            "note": {"type": "string", "nullable": true},
            "gone": {"type": "string"},
            "kept": {"type": "string", "nullable": true, "default": "d"},
            "opts": {"type": "object", "default": {}, "properties": {"fast": {"type": "boolean", "default": false}}},
            "sizes": {"type": "object", "additionalProperties": {"type": "integer", "default": 1}},
            "plain": {"type": "object", "additionalProperties": {"type": "integer"}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 7}}}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}))
        .unwrap();
        let check = |mut value: Value, expect: Value| {
            apply(&mut value, &schema);
            assert_eq!(value, expect);
        };
        check(json!({}), json!({"color": "red", "kept": "d", "opts": {"fast": false}}));
        check(
            json!({"color": null, "note": null, "gone": null, "kept": null, "opts": {"fast": true}, "x": null}),
            json!({"color": "red", "note": null, "kept": null, "opts": {"fast": true}, "x": null}),
        );
        check(
            json!({"kept": "k", "opts": {}, "sizes": {"a": null, "b": 2}, "plain": {"a": null}, "list": [{}, {"n": null}],
                "any": {"a": null}}),
            json!({"color": "red", "kept": "k", "opts": {"fast": false}, "sizes": {"a": 1, "b": 2}, "plain": {},
                "list": [{"n": 7}, {"n": 7}], "any": {"a": null}}),
        );
        check(json!("text"), json!("text"));
    }
}
