//! Properties that hold for any input.

use std::sync::Arc;

use kubetask_schema::field::Path;
use kubetask_schema::model::Schema;
use kubetask_schema::prune::Options;
use kubetask_schema::{CompiledSchema, crd, default, parse, prune, to_json, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6f64).prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word(), inner, 0..5).prop_map(|m| json!(m)),
        ]
    })
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "a",
            "b",
            "name",
            "metadata",
            "apiVersion",
            "kind",
            "spec",
            "type",
            "object",
            "array",
            "string",
            "integer",
            "number",
            "properties",
            "items",
            "additionalProperties",
            "default",
            "nullable",
            "enum",
            "pattern",
            "format",
            "minimum",
            "maxLength",
            "required",
            "oneOf",
            "anyOf",
            "allOf",
            "not",
            "x-kubernetes-list-type",
            "map",
            "set",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-embedded-resource",
            "x-kubernetes-int-or-string",
            "versions",
            "schema",
            "openAPIV3Schema",
            "names",
            "date-time",
            "[a-z",
            "1.5",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

/// Schemas that mostly make sense.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "maxLength": 3, "default": "d"})),
        Just(json!({"type": "string", "format": "date-time", "nullable": true})),
        Just(json!({"type": "string", "enum": ["a", "b"], "pattern": "^a"})),
        Just(json!({"type": "integer", "minimum": 1, "multipleOf": 2, "default": 4})),
        Just(json!({"type": "number", "exclusiveMinimum": true, "minimum": 0.5})),
        Just(json!({"type": "boolean", "default": false})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        Just(
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true})
        ),
        Just(json!({"type": "object", "additionalProperties": true})),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map(prop::sample::select(vec!["a", "b", "name", "spec"]), inner.clone(), 0..4)
                .prop_map(|members| json!({"type": "object", "properties": members, "required": ["a"],
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]})),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items, "maxItems": 2})),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"})),
            inner.clone().prop_map(|member| json!({"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "a": member}}})),
            inner.prop_map(|entry| json!({"type": "object", "additionalProperties": entry, "default": {}})),
        ]
    })
}

fn read(json: &Value) -> Schema {
    parse::read(json, &Path::root(), &mut Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_read_as_a_schema_or_refused(json in any_json()) {
        let _ = parse::structural(&json);
        let _ = crd::validate_crd(&json);
        let mut json = json;
        crd::default_crd(&mut json);
        crd::prepare_create(&mut json);
    }

    #[test]
    fn any_value_passes_any_schema_without_panic(schema in any_schema(), value in any_json(), old in any_json()) {
        let compiled = CompiledSchema::new(Arc::new(read(&schema)));
        let mut admitted = value.clone();
        compiled.admit(&mut admitted);
        let _ = compiled.validate_create(&value, Vec::new());
        let _ = compiled.validate_update(&admitted, &old, Vec::new());
    }

    #[test]
    fn pruning_and_defaulting_twice_is_once(schema in any_schema(), value in any_json(), root in any::<bool>()) {
        let schema = read(&schema);
        let options = Options { resource_root: root };
        let mut once = value;
        default::apply(&mut once, &schema);
        prune::prune(&mut once, &schema, options);
        let mut twice = once.clone();
        default::apply(&mut twice, &schema);
        let unknown = prune::prune(&mut twice, &schema, options);
        prop_assert_eq!(&once, &twice);
        prop_assert!(unknown.is_empty());
    }

    #[test]
    fn what_did_not_change_is_not_refused(schema in any_schema(), value in any_json()) {
        let schema = read(&json!({"type": "object", "properties": {"spec": schema}}));
        let value = json!({"spec": value});
        let found = validate::keywords(&value, &schema, &Path::root());
        let ratcheted = validate::validate(&value, Some(&value), &schema, &Path::root());
        let embedded = |message: &str| message.starts_with("Required") || message.contains("must");
        for error in ratcheted {
            prop_assert!(!found.contains(&error) || embedded(&error.body()), "{}", error);
        }
    }

    #[test]
    fn a_schema_survives_its_json(schema in any_schema()) {
        let schema = read(&schema);
        prop_assert_eq!(&read(&to_json(&schema)), &schema);
    }
}
