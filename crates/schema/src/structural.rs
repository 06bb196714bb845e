//! The rules that make a schema structural: each node has a type, constraints add nothing, metadata stays untouched.
//!
//! [`check`] reports breaches with the paths and words that Kubernetes uses for CustomResourceDefinitions.

use crate::field::{Error, ErrorType, Path};
use crate::model::{Constraints, Schema, Type};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Everything that keeps `schema`, which stands at `path`, from being structural.
#[must_use]
pub fn check(schema: &Schema, path: &Path) -> Vec<Error> {
    check_read(schema, path, &[])
}

/// The same for a schema with which `read` was wrong when it was read.
pub(crate) fn check_read(schema: &Schema, path: &Path, read: &[Error]) -> Vec<Error> {
    let mut errors = Vec::new();
    // Some keywords keep Kubernetes from looking any further.
    if read.iter().any(is_unsupported) {
        return errors;
    }
    invariants(schema, Level::Root, path, &mut errors);
    completeness(schema, path, &mut errors);
    // A type that is not known was not kept, but it is there.
    let unknown = |at: &Path| read.iter().find(|e| e.type_ == ErrorType::NotSupported && &e.field == at);
    let root = path.child("type");
    let missing = |e: &Error| e.type_ == ErrorType::Required && unknown(&e.field).is_some();
    errors.retain(|e| !missing(e));
    if let Some(given) = unknown(&root) {
        errors.push(Error::invalid(&root, given.bad_value.clone(), "must be object at the root"));
    }
    errors
}

fn is_unsupported(error: &Error) -> bool {
    error.type_ == ErrorType::Forbidden
        && (error.detail.ends_with(" is not supported") || error.detail.starts_with("items must be a schema object"))
}

fn invariants(schema: &Schema, level: Level, path: &Path, errors: &mut Vec<Error>) {
    match &schema.items {
        Some(items) => invariants(items, Level::Item, &path.child("items"), errors),
        None if schema.type_ == Some(Type::Array) => {
            errors.push(Error::required(&path.child("items"), "must be specified"));
        }
        None => {}
    }
    for (name, member) in &schema.properties {
        invariants(member, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional_at = path.child("additionalProperties");
    if let Some(additional) = &schema.additional_properties {
        if level == Level::Root {
            errors.push(Error::forbidden(&additional_at, "must not be used at the root"));
        }
        if schema.embedded_resource {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(Error::forbidden(&additional_at, detail));
        }
        if **additional != Schema::default() {
            invariants(additional, Level::Field, &additional_at, errors);
        }
    }
    extensions(schema, path, errors);
    let c = &schema.constraints;
    junctors(c, is_int_or_string_any_of(schema, c), is_int_or_string_all_of(schema, c), path, errors);
    type_of(schema, level, path, errors);
    if level == Level::Root || schema.embedded_resource {
        object_members(schema, path, errors);
    }
    if schema.embedded_resource && !schema.preserve_unknown_fields && schema.properties.is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
}

fn extensions(schema: &Schema, path: &Path, errors: &mut Vec<Error>) {
    if !schema.int_or_string {
        return;
    }
    let detail = "must be false if x-kubernetes-int-or-string is true";
    if schema.preserve_unknown_fields {
        errors.push(Error::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), true, detail));
    }
    if schema.embedded_resource {
        errors.push(Error::invalid(&path.child("x-kubernetes-embedded-resource"), true, detail));
    }
    if let Some(type_) = schema.type_ {
        let detail = "must be empty if x-kubernetes-int-or-string is true";
        errors.push(Error::invalid(&path.child("type"), type_.name(), detail));
    }
}

fn type_of(schema: &Schema, level: Level, path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("type");
    match schema.type_ {
        Some(Type::Object) => {}
        Some(type_) if schema.embedded_resource => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(Error::invalid(&at, type_.name(), detail));
        }
        Some(type_) if level == Level::Root => {
            errors.push(Error::invalid(&at, type_.name(), "must be object at the root"));
        }
        Some(_) => {}
        None if schema.embedded_resource => {
            errors.push(Error::required(&at, "must be object if x-kubernetes-embedded-resource is true"));
        }
        None if schema.int_or_string || schema.preserve_unknown_fields => {}
        None => errors.push(Error::required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        )),
    }
}

/// apiVersion, kind and metadata of a Kubernetes object may be named, and metadata's names be restricted; no more.
fn object_members(schema: &Schema, path: &Path, errors: &mut Vec<Error>) {
    let members_at = path.child("properties");
    for name in ["kind", "apiVersion"] {
        let Some(member) = schema.properties.get(name) else { continue };
        if member.type_ != Some(Type::String) {
            let at = members_at.key(name).child("type");
            errors.push(Error::invalid(&at, member.type_.map_or("", Type::name), "must be string"));
        }
    }
    let Some(metadata) = schema.properties.get("metadata") else { return };
    let at = members_at.key("metadata");
    if metadata.type_ != Some(Type::Object) {
        let detail = "must be object";
        errors.push(Error::invalid(&at.child("type"), metadata.type_.map_or("", Type::name), detail));
    }
    let mut rest = (**metadata).clone();
    rest.properties.retain(|name, _| !matches!(name.as_str(), "name" | "generateName"));
    rest.type_ = None;
    rest.default = None;
    rest.description = None;
    rest.title = None;
    rest.rules.clear();
    if rest != Schema::default() {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Error::forbidden(&at, detail));
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where a type may stand in a junctor.
fn is_int_or_string_any_of(schema: &Schema, c: &Constraints) -> bool {
    let is_only = |branch: &Schema, type_: Type| *branch == Schema { type_: Some(type_), ..Schema::default() };
    schema.int_or_string && matches!(&c.any_of[..], [a, b] if is_only(a, Type::Integer) && is_only(b, Type::String))
}

/// The same inside the first branch of `allOf`.
fn is_int_or_string_all_of(schema: &Schema, c: &Constraints) -> bool {
    c.all_of.first().is_some_and(|first| is_int_or_string_any_of(schema, &first.constraints))
}

fn junctors(c: &Constraints, skip_any_of: bool, skip_first_all_of: bool, path: &Path, errors: &mut Vec<Error>) {
    if !skip_any_of {
        for (index, branch) in c.any_of.iter().enumerate() {
            nested(branch, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, branch) in c.all_of.iter().enumerate() {
        nested(branch, skip_first_all_of && index == 0, &path.child("allOf").index(index), errors);
    }
    for (index, branch) in c.one_of.iter().enumerate() {
        nested(branch, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(not) = &c.not {
        nested(not, false, &path.child("not"), errors);
    }
}

/// A node inside a junctor constrains values and says nothing else.
fn nested(schema: &Schema, skip_any_of: bool, path: &Path, errors: &mut Vec<Error>) {
    junctors(&schema.constraints, skip_any_of, false, path, errors);
    if let Some(items) = &schema.items {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, member) in &schema.properties {
        nested(member, false, &path.child("properties").key(name), errors);
    }
    let forbidden = [
        ("additionalProperties", schema.additional_properties.is_some(), "undefined"),
        ("type", schema.type_.is_some(), "empty"),
        ("default", schema.default.is_some(), "undefined"),
        ("title", schema.title.is_some(), "empty"),
        ("description", schema.description.is_some(), "empty"),
        ("nullable", schema.nullable, "false"),
        ("x-kubernetes-preserve-unknown-fields", schema.preserve_unknown_fields, "false"),
        ("x-kubernetes-embedded-resource", schema.embedded_resource, "false"),
        ("x-kubernetes-int-or-string", schema.int_or_string, "false"),
        ("x-kubernetes-list-map-keys", !schema.list_map_keys.is_empty(), "empty"),
        ("x-kubernetes-list-type", schema.list_type.is_some(), "undefined"),
        ("x-kubernetes-map-type", schema.map_type.is_some(), "undefined"),
    ];
    for (keyword, is_set, must_be) in forbidden {
        if is_set {
            errors.push(Error::forbidden(&path.child(keyword), format!("must be {must_be} to be structural")));
        }
    }
    if schema.properties.contains_key("metadata") {
        let at = path.child("properties").key("metadata");
        errors.push(Error::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// What a junctor names must be specified outside of it too.
fn completeness(schema: &Schema, path: &Path, errors: &mut Vec<Error>) {
    branches_complete(&schema.constraints, Some(schema), path, path, errors);
    if let Some(items) = &schema.items {
        completeness(items, &path.child("items"), errors);
    }
    for (name, member) in &schema.properties {
        completeness(member, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        completeness(additional, &path.child("additionalProperties"), errors);
    }
}

fn branches_complete(c: &Constraints, base: Option<&Schema>, base_at: &Path, at: &Path, errors: &mut Vec<Error>) {
    let lists = [("allOf", &c.all_of), ("anyOf", &c.any_of), ("oneOf", &c.one_of)];
    for (keyword, branches) in lists {
        for (index, branch) in branches.iter().enumerate() {
            branch_complete(branch, base, base_at, &at.child(keyword).index(index), errors);
        }
    }
    if let Some(not) = &c.not {
        branch_complete(not, base, base_at, &at.child("not"), errors);
    }
}

fn branch_complete(branch: &Schema, base: Option<&Schema>, base_at: &Path, at: &Path, errors: &mut Vec<Error>) {
    let Some(base) = base else {
        errors.push(Error::required(base_at, format!("because it is defined in {at}")));
        return;
    };
    branches_complete(&branch.constraints, Some(base), base_at, at, errors);
    if let Some(items) = &branch.items {
        branch_complete(items, base.items.as_deref(), &base_at.child("items"), &at.child("items"), errors);
    }
    for (name, member) in &branch.properties {
        let own = base.properties.get(name).map(AsRef::as_ref);
        let (own_at, member_at) = (base_at.child("properties").key(name), at.child("properties").key(name));
        branch_complete(member, own, &own_at, &member_at, errors);
    }
    if let Some(additional) = &branch.additional_properties {
        let own = base.additional_properties.as_deref();
        let keyword = "additionalProperties";
        branch_complete(additional, own, &base_at.child(keyword), &at.child(keyword), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::parse;

    #[test]
    fn breaches_are_named() {
        let check = |schema: Value, expect: &[&str]| {
            let found: Vec<String> = match parse::structural(&schema) {
                Ok(_) => Vec::new(),
                Err(errors) => errors.iter().map(ToString::to_string).collect(),
            };
            assert_eq!(found, expect, "{schema}");
        };
        check(json!({"type": "object"}), &[]);
        check(json!({}), &["type: Required value: must not be empty at the root"]);
        check(
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            &["additionalProperties: Forbidden: must not be used at the root"],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
            &["properties[a].items.type: Required value: must not be empty for specified array items"],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-int-or-string": true}}}),
            &[r#"properties[a].type: Invalid value: "string": must be empty if x-kubernetes-int-or-string is true"#],
        );
        check(
            json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
            &[],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "string"}},
                "oneOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"minimum": 1}}}]}),
            &[
                "oneOf[0].properties[a].type: Forbidden: must be empty to be structural",
                "properties[b]: Required value: because it is defined in oneOf[1].properties[b]",
            ],
        );
        check(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            &[
                "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        );
        check(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}}}),
            &[],
        );
        check(
            json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
            &[
                "properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        );
        check(
            json!({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "string"}}}),
            &["properties[a].$ref: Forbidden: $ref is not supported"],
        );
        // What cannot be read at all hides what is not structural; a type that is unknown is there all the same.
        check(
            json!({"type": "object", "properties": {"a": {"$ref": "#/x"}, "b": {}}}),
            &["properties[a].$ref: Forbidden: $ref is not supported"],
        );
        let types = r#"supported values: "array", "boolean", "integer", "number", "object", "string""#;
        check(
            json!({"type": "foo", "properties": {"a": {"type": "bar"}}}),
            &[
                &format!(r#"properties[a].type: Unsupported value: "bar": {types}"#),
                &format!(r#"type: Unsupported value: "foo": {types}"#),
                r#"type: Invalid value: "foo": must be object at the root"#,
            ],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            &["properties[a].items: Required value: must be specified"],
        );
        check(
            json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"},
                "not": {"additionalProperties": {"minLength": 3}}}}}),
            &["properties[m].not.additionalProperties: Forbidden: must be undefined to be structural"],
        );
        check(
            json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k", "k"], "items": {"type": "object"}}}}),
            &[
                r#"properties[l].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: entries must all be names of item properties"#,
                r#"properties[l].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: must not contain duplicate entries"#,
                r#"properties[l].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: entries must all be names of item properties"#,
            ],
        );
        check(
            json!({"type": "object", "properties": {"s": {"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "object"}}}}),
            &[
                "properties[s].items.x-kubernetes-map-type: Required value: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        );
    }
}
