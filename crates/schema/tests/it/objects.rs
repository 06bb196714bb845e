//! Custom resources, replayed from recordings: what is stored, what is warned about, what is refused and how.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubetask_schema::field::{Error, Path};
use kubetask_schema::{CompiledSchema, parse};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    schema: String,
    old: Option<Value>,
    #[serde(default)]
    is_status: bool,
    new: Value,
    unknown: Vec<String>,
    causes: Option<Vec<(String, String, String)>>,
    stored: Option<Value>,
}

/// What the API server finds before it asks the schema.
fn metadata_errors(object: &Value) -> Vec<Error> {
    let name = object.pointer("/metadata/name").or(object.pointer("/metadata/generateName"));
    if name.is_some() {
        return Vec::new();
    }
    vec![Error::required(&Path::new("metadata").child("name"), "name or generateName is required")]
}

#[test]
fn recorded_objects_are_answered_alike() {
    let schemas: BTreeMap<String, Value> = serde_json::from_str(include_str!("../fixtures/schemas.json")).unwrap();
    let compiled: BTreeMap<&String, CompiledSchema> = schemas
        .iter()
        .map(|(name, json)| (name, CompiledSchema::new(Arc::new(parse::structural(json).unwrap()))))
        .collect();
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/objects.json")).unwrap();
    assert!(cases.len() > 60);
    let mut failures = Vec::new();
    for case in cases {
        let schema = &compiled[&case.schema];
        let mut object = case.new.clone();
        let mut unknown = schema.admit(&mut object);
        let mut expected_unknown = case.unknown.clone();
        unknown.sort();
        expected_unknown.sort();
        let before = metadata_errors(&object);
        let errors = match &case.old {
            None => schema.validate_create(&object, before),
            Some(old) if case.is_status => schema.validate_status_update(&object, old, before).errors,
            Some(old) => schema.validate_update(&object, old, before).errors,
        };
        let mut expected = case.causes.clone().unwrap_or_default();
        expected.sort();
        let found = super::causes(&errors);
        if found != expected {
            failures.push(format!("{}:\n  expected {expected:#?}\n  found {found:#?}", case.name));
        }
        if unknown != expected_unknown {
            failures.push(format!("{}: expected unknown {expected_unknown:?}, found {unknown:?}", case.name));
        }
        for (part, value) in case.stored.iter().flat_map(|s| s.as_object().unwrap()) {
            if object.get(part) != Some(value) {
                failures.push(format!("{}: expected {part} {value}, found {:?}", case.name, object.get(part)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
