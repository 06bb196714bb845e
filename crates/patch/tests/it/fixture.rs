//! Schemas and small helpers shared by the tests.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kubetask_schema::field::Path;
use kubetask_schema::model::Schema;
use kubetask_schema::parse;
use serde_json::Value;

/// When everything in the tests happens.
pub(crate) const NOW: &str = "2026-01-02T00:00:00Z";

static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let json: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../fixtures/schemas.json")).expect("schemas.json is JSON");
    json.into_iter()
        .map(|(kind, json)| {
            let mut errors = Vec::new();
            let schema = parse::read(&json, &Path::root(), &mut errors);
            assert!(errors.is_empty(), "{kind}: {errors:?}");
            (kind, schema)
        })
        .collect()
});

/// The schema of a kind of the fixtures: `Widget` and `Gadget` are CRDs, the others extracts of built-in kinds.
pub(crate) fn schema(kind: &str) -> &'static Schema {
    &SCHEMAS[kind]
}

/// The schema of the kind of an object.
pub(crate) fn schema_of(object: &Value) -> &'static Schema {
    schema(object["kind"].as_str().expect("the object has a kind"))
}

/// What a way of writing an object of this kind resets.
pub(crate) fn reset(kind: &str, subresource: Option<&str>) -> &'static [&'static str] {
    match (kind, subresource) {
        ("Widget" | "Gadget" | "Job" | "Namespace", None) => &["status"],
        (_, Some("status")) => &["spec"],
        _ => &[],
    }
}
