//! Pruning: members which the schema does not know are removed, and named.
//!
//! [`prune`] walks value and schema together. `x-kubernetes-preserve-unknown-fields` keeps unknown members of that
//! object and of everything below that the schema does not describe; apiVersion, kind and metadata of an embedded
//! object (and of the root) are kept and their metadata is held to the members of `ObjectMeta`.

use serde_json::Value;

use crate::metadata;
use crate::model::Schema;
use crate::validate::At;

/// What [`prune`] treats specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The value is a Kubernetes object: apiVersion, kind and metadata are kept, and metadata is pruned as `ObjectMeta`.
    pub resource_root: bool,
}

impl Options {
    /// For a whole Kubernetes object.
    #[must_use]
    pub fn object() -> Self {
        Self { resource_root: true }
    }
}

/// Removes unknown members of `value`; returns their paths, e.g. `spec.parts[0].odd`: metadata's first, then the rest,
/// each sorted.
pub fn prune(value: &mut Value, schema: &Schema, options: Options) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, schema, options.resource_root, &At::Start(""), &mut found);
    found.sort();
    let mut unknown = Vec::new();
    if options.resource_root {
        metadata::prune_object(value, "", &mut unknown);
        unknown.sort();
    }
    unknown.append(&mut found);
    unknown
}

fn walk(value: &mut Value, schema: &Schema, is_root: bool, at: &At<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let is_object = is_root || schema.embedded_resource;
            let is_kept = |name: &str| {
                schema.preserve_unknown_fields
                    || schema.member(name).is_some()
                    || (is_object && metadata::is_object_member(name))
            };
            let mut any_unknown = false;
            for (name, member) in members.iter_mut() {
                if is_object && metadata::is_object_member(name) {
                    continue;
                }
                let here = At::Member(at, name);
                match schema.member(name) {
                    Some(own) => walk(member, own, false, &here, unknown),
                    None if schema.preserve_unknown_fields => {}
                    None => {
                        unknown.push(here.to_string());
                        any_unknown = true;
                    }
                }
            }
            if any_unknown {
                members.retain(|name, _| is_kept(name));
            }
            if schema.embedded_resource && !is_root {
                metadata::prune_object(value, &at.to_string(), unknown);
            }
        }
        Value::Array(items) => {
            let nothing = Schema::default();
            let own = match &schema.items {
                Some(own) => own,
                None if schema.preserve_unknown_fields => return,
                None => &nothing,
            };
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, own, false, &At::Index(at, index), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_members_go_and_are_named() {
        let schema = crate::parse::structural(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"tight": {"type": "object", "properties": {"x": {"type": "string"}}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "loose": {"type": "object", "additionalProperties": true},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"data": {"type": "object"}}}}}}}))
        .unwrap();
        let check = |mut value: Value, expect: Value, unknown: &[&str]| {
            assert_eq!(prune(&mut value, &schema, Options::object()), unknown);
            assert_eq!(value, expect);
        };
        check(
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "odd": 1, "ownerReferences": [{"uid": "u", "x": 1}]},
                "top": 1, "spec": {"a": "b", "z": 1, "parts": [{"name": "p", "odd": true}]}}),
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "ownerReferences": [{"uid": "u"}]},
                "spec": {"a": "b", "parts": [{"name": "p"}]}}),
            &["metadata.odd", "metadata.ownerReferences[0].x", "spec.parts[0].odd", "spec.z", "top"],
        );
        check(
            json!({"spec": {"free": {"any": {"thing": 1}, "tight": {"x": "1", "y": 2}}, "map": {"k": {"x": "1", "y": 2}},
                "loose": {"s": 1, "o": {"gone": 1}}, "parts": {"name": "a"}}}),
            json!({"spec": {"free": {"any": {"thing": 1}, "tight": {"x": "1"}}, "map": {"k": {"x": "1"}},
                "loose": {"s": 1, "o": {}}, "parts": {}}}),
            &["spec.free.tight.y", "spec.loose.o.gone", "spec.map.k.y", "spec.parts.name"],
        );
        check(
            json!({"spec": {"inner": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "i", "no": 1}, "data": {}, "more": 1}}}),
            json!({"spec": {"inner": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "i"}, "data": {}}}}),
            &["spec.inner.metadata.no", "spec.inner.more"],
        );
    }
}
