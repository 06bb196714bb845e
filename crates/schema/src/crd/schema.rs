//! The schema of a version: structural, no misplaced defaults, valid defaults, rules that compile.

use serde_json::Value;

use super::{defaults, rules};
use crate::field::{Error, Path};
use crate::model::Schema;
use crate::{parse, structural};

/// Keywords that may stand at the root beside a status subresource, whose schema is cut out of the properties.
const ROOT_KEYWORDS: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Checks the JSON of a schema that stands at `at`; returns it as far as it could be read.
pub(super) fn check(json: &Value, has_status: bool, at: &Path, errors: &mut Vec<Error>) -> Schema {
    let before = errors.len();
    if has_status {
        root_keywords(json, at, errors);
    }
    if json.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(Error::forbidden(&at.child("nullable"), "nullable cannot be true at the root"));
    }
    let schema = parse::read(json, at, errors);
    forbidden_defaults(&schema, Place::Root, at, errors);
    rules::texts(&schema, at, errors);
    errors.extend(structural::check(&schema, at));
    let is_sound = errors.len() == before;
    if is_sound {
        // Rules that do not fit the schema, and defaults that do not, can only be told from a sound schema.
        rules::compile(&schema, at, errors);
        defaults::check(&schema, at, errors);
    }
    schema
}

fn root_keywords(json: &Value, at: &Path, errors: &mut Vec<Error>) {
    let is_zero = |v: &Value| v.is_null() || v == &Value::Bool(false) || v.as_array().is_some_and(Vec::is_empty);
    let other = json
        .as_object()
        .and_then(|keywords| keywords.iter().find(|(k, v)| !ROOT_KEYWORDS.contains(&k.as_str()) && !is_zero(v)));
    if other.is_some() {
        let names: Vec<String> = ROOT_KEYWORDS.iter().map(|k| go_name(k)).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(Error::invalid(at, json.clone(), detail));
    }
}

/// The name of the Go field that holds a keyword.
fn go_name(keyword: &str) -> String {
    match keyword {
        "x-kubernetes-preserve-unknown-fields" => "XPreserveUnknownFields".to_owned(),
        "x-kubernetes-validations" => "XValidations".to_owned(),
        _ => {
            let mut chars = keyword.chars();
            chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    /// apiVersion, kind and metadata of the object itself.
    RootMetadata,
    Inside,
}

/// What every object has is not defaulted by a schema.
fn forbidden_defaults(schema: &Schema, place: Place, at: &Path, errors: &mut Vec<Error>) {
    if schema.default.is_some() && place != Place::Inside {
        let detail =
            if place == Place::Root { "must not be set at the root" } else { "must not be set in top-level metadata" };
        errors.push(Error::forbidden(&at.child("default"), detail));
    }
    for (name, member) in &schema.properties {
        let below = match place {
            Place::Root if crate::metadata::is_object_member(name) => Place::RootMetadata,
            Place::RootMetadata => Place::RootMetadata,
            _ => Place::Inside,
        };
        forbidden_defaults(member, below, &at.child("properties").key(name), errors);
    }
    let below = if place == Place::RootMetadata { place } else { Place::Inside };
    if let Some(items) = &schema.items {
        forbidden_defaults(items, below, &at.child("items"), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        forbidden_defaults(additional, below, &at.child("additionalProperties"), errors);
    }
}
