//! Tables for values against schemas.

use serde_json::json;

use super::*;

fn check(schema: Value, value: Value, expect: &[&str]) {
    let schema = crate::parse::structural(&schema).unwrap();
    let found: Vec<String> = validate(&value, None, &schema, &Path::root()).iter().map(ToString::to_string).collect();
    assert_eq!(found, expect, "{value}");
}

fn spec(member: Value) -> Value {
    json!({"type": "object", "properties": {"m": member}})
}

#[test]
fn keywords_say_what_is_wrong() {
    let string = json!({"type": "string"});
    check(
        spec(string.clone()),
        json!({"m": null}),
        &[r#"m: Invalid value: "null": m in body must be of type string: "null""#],
    );
    check(
        spec(string),
        json!({"m": ["a"]}),
        &[r#"m: Invalid value: "array": m in body must be of type string: "array""#],
    );
    check(spec(json!({"type": "integer"})), json!({"m": 1.0}), &[]);
    check(spec(json!({"type": "number"})), json!({"m": 1}), &[]);
    let date = json!({"type": "string", "format": "date-time"});
    check(spec(date), json!({"m": 5}), &[r#"m: Invalid value: "int64": m in body must be of type date-time: "int64""#]);
    check(spec(json!({"type": "string", "format": "no-such-format"})), json!({"m": "x"}), &[]);
    check(
        spec(json!({"type": "string", "maxLength": 2})),
        json!({"m": "äöü"}),
        &["m: Too long: may not be more than 2 bytes"],
    );
    check(spec(json!({"type": "string", "maxLength": 3})), json!({"m": "äöü"}), &[]);
    check(
        spec(json!({"type": "integer", "multipleOf": 3, "maximum": 9, "exclusiveMaximum": true})),
        json!({"m": 10}),
        &[
            "m: Invalid value: 10: m in body should be a multiple of 3",
            "m: Invalid value: 10: m in body should be less than 9",
        ],
    );
    let map =
        json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2});
    check(spec(map.clone()), json!({"m": {}}), &["m: Invalid value: 0: m in body should have at least 1 properties"]);
    check(spec(map.clone()), json!({"m": {"a": 1, "b": 2, "c": 3}}), &["m: Too many: 3: must have at most 2 items"]);
    check(
        spec(map),
        json!({"m": {"a": "x"}}),
        &[r#"m.a: Invalid value: "string": m.a in body must be of type integer: "string""#],
    );
    check(spec(json!({"type": "number", "enum": [1, 2.5]})), json!({"m": 1.0}), &[]);
    check(
        spec(json!({"type": "number", "enum": [1, 2.5]})),
        json!({"m": 3}),
        &[r#"m: Unsupported value: 3: supported values: "1", "2.5""#],
    );
}

#[test]
fn junctors_tell_of_their_best_branch() {
    let with = |junctor: &str, branches: Value| {
        let mut schema = json!({"type": "integer"});
        schema[junctor] = branches;
        spec(schema)
    };
    let branches = json!([{"minimum": 5}, {"multipleOf": 2}]);
    check(
        with("anyOf", branches.clone()),
        json!({"m": 3}),
        &[
            r#"<nil>: Invalid value: "": "m" must validate at least one schema (anyOf)"#,
            "m: Invalid value: 3: m in body should be greater than or equal to 5",
        ],
    );
    check(with("anyOf", branches.clone()), json!({"m": 4}), &[]);
    check(
        with("allOf", branches.clone()),
        json!({"m": 4}),
        &[
            "m: Invalid value: 4: m in body should be greater than or equal to 5",
            r#"<nil>: Invalid value: "": "m" must validate all the schemas (allOf)"#,
        ],
    );
    check(
        with("oneOf", branches),
        json!({"m": 6}),
        &[r#"<nil>: Invalid value: "": "m" must validate one and only one schema (oneOf). Found 2 valid alternatives"#],
    );
    check(
        with("not", json!({"minimum": 5})),
        json!({"m": 6}),
        &[r#"<nil>: Invalid value: "": "m" must not validate the schema (not)"#],
    );
}

#[test]
fn unchanged_parts_are_tolerated() {
    let schema = crate::parse::structural(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1},
        "b": {"type": "string", "maxLength": 1},
        "atomic": {"type": "array", "items": {"type": "integer", "maximum": 1}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "n": {"type": "integer", "maximum": 1}, "m": {"type": "integer"}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}))
    .unwrap();
    let check = |old: Value, new: Value, expect: &[&str]| {
        let errors = validate(&new, Some(&old), &schema, &Path::root());
        let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, expect, "{new}");
    };
    check(json!({"a": "long", "b": "x"}), json!({"a": "long", "b": "y"}), &[]);
    check(json!({"a": "long", "b": "x"}), json!({"a": "longer", "b": "long"}), &["a", "b"]);
    check(json!({"atomic": [5, 1]}), json!({"atomic": [5, 0]}), &["atomic[0]"]);
    check(
        json!({"parts": [{"name": "p", "n": 5}, {"name": "q", "n": 7}]}),
        json!({"parts": [{"name": "q", "n": 7, "m": 1}, {"name": "p", "n": 6}]}),
        &["parts[1].n"],
    );
    check(json!({"set": ["a", "a"]}), json!({"set": ["a", "a", "a"]}), &[]);
    check(json!({"set": ["a"]}), json!({"set": ["a", "a"]}), &["set[1]"]);
}

#[test]
fn twins_are_found_in_long_lists_too() {
    let schema = crate::parse::structural(&spec(json!({"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "integer"}}}})))
    .unwrap();
    let mut items: Vec<Value> = (0..500).map(|k| json!({"k": k})).collect();
    items.push(json!({"k": 7}));
    let errors = validate(&json!({"m": items}), None, &schema, &Path::root());
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [r#"m[500]: Duplicate value: {"k":7}"#]);
}
