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
    let read = errors.len();
    let schema = parse::read(json, at, errors);
    let root = Place { is_root: true, in_meta: false, no_default: Some(NoDefault::AtRoot) };
    forbidden(&schema, root, at, errors);
    rules::texts(&schema, at, errors);
    let breaches = structural::check_read(&schema, at, &errors[read..]);
    errors.extend(breaches);
    let is_sound = errors.len() == before;
    if is_sound {
        // Rules that do not fit the schema, and defaults that do not, can only be told from a sound schema.
        rules::compile(&schema, at, errors);
        defaults::check(&schema, at, errors);
    }
    schema
}

fn root_keywords(json: &Value, at: &Path, errors: &mut Vec<Error>) {
    if let Some(type_) = json.get("type").and_then(Value::as_str).filter(|type_| !matches!(*type_, "" | "object")) {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(Error::invalid(&at.child("type"), type_, detail));
        return;
    }
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

/// Where in a schema a node is.
#[derive(Clone, Copy)]
struct Place {
    is_root: bool,
    /// Inside of apiVersion, kind or metadata, of the object itself or of an embedded one.
    in_meta: bool,
    /// Why it may have no default.
    no_default: Option<NoDefault>,
}

#[derive(Clone, Copy)]
enum NoDefault {
    AtRoot,
    TopLevel(&'static str),
    SharedMetadata,
}

impl NoDefault {
    fn detail(self) -> String {
        match self {
            Self::AtRoot => "must not be set at the root".to_owned(),
            Self::TopLevel(member) => format!("must not be set in top-level {member}"),
            Self::SharedMetadata => {
                "must not be set inside additionalProperties applying to object metadata".to_owned()
            }
        }
    }
}

/// What every object has is not defaulted by a schema, and holds no other objects.
fn forbidden(schema: &Schema, place: Place, at: &Path, errors: &mut Vec<Error>) {
    if let (Some(_), Some(why)) = (&schema.default, place.no_default) {
        errors.push(Error::forbidden(&at.child("default"), why.detail()));
    }
    if place.in_meta && schema.embedded_resource {
        let detail = "must not be used inside of resource meta";
        errors.push(Error::forbidden(&at.child("x-kubernetes-embedded-resource"), detail));
    }
    let no_default = place.no_default.filter(|why| !matches!(why, NoDefault::AtRoot));
    let inside = Place { is_root: false, no_default, ..place };
    for (name, member) in &schema.properties {
        let mut below = inside;
        if let Some(name) = ["apiVersion", "kind", "metadata"].into_iter().find(|known| known == name)
            && (place.is_root || schema.embedded_resource)
        {
            below.in_meta = true;
            if place.is_root {
                below.no_default = Some(NoDefault::TopLevel(name));
            }
        }
        forbidden(member, below, &at.child("properties").key(name), errors);
    }
    if let Some(items) = &schema.items {
        forbidden(items, inside, &at.child("items"), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        let shared = if place.in_meta { Some(NoDefault::SharedMetadata) } else { inside.no_default };
        let below = Place { no_default: shared, ..inside };
        forbidden(additional, below, &at.child("additionalProperties"), errors);
    }
}
