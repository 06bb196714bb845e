//! Embedded Kubernetes objects: apiVersion, kind and metadata must be those of an object.

use serde_json::{Map, Value};

use super::at::At;
use crate::field::Error;
use crate::model::Schema;
use crate::names;

pub(super) fn check(value: &Value, schema: &Schema, is_root: bool, at: &At<'_>, errors: &mut Vec<Error>) {
    match value {
        Value::Object(members) => {
            if schema.embedded_resource && !is_root {
                object(members, at, errors);
            }
            for (name, member) in members {
                if !(member.is_object() || member.is_array()) {
                    continue;
                }
                if let Some(own) = schema.properties.get(name) {
                    check(member, own, false, &At::Member(at, name), errors);
                } else if let Some(shared) = &schema.additional_properties {
                    check(member, shared, false, &At::Key(at, name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(item, own, false, &At::Index(at, index), errors);
                }
            }
        }
        _ => {}
    }
}

fn object(members: &Map<String, Value>, at: &At<'_>, errors: &mut Vec<Error>) {
    for name in ["apiVersion", "kind"] {
        let path = At::Member(at, name).path();
        match members.get(name) {
            None => errors.push(Error::required(&path, "")),
            Some(Value::String(text)) if text.is_empty() => errors.push(Error::invalid(&path, "", "must not be empty")),
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(Error::invalid(&path, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) => {
                if text.matches('/').count() > 1 {
                    let detail = format!("unexpected GroupVersion string: {text}");
                    errors.push(Error::invalid(&path, text.as_str(), detail));
                }
            }
            Some(other) => errors.push(Error::invalid(&path, other.clone(), "must be a string")),
        }
    }
    match members.get("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::Object(meta)) => metadata(meta, &At::Member(at, "metadata"), errors),
        Some(other) => {
            let path = At::Member(at, "metadata").path();
            errors.push(Error::invalid(&path, other.clone(), "must be an object"));
        }
    }
}

fn metadata(meta: &Map<String, Value>, at: &At<'_>, errors: &mut Vec<Error>) {
    let mut report = |name: &str, text: &str, wrong: Vec<String>| {
        for detail in wrong {
            errors.push(Error::invalid(&At::Member(at, name).path(), text, detail));
        }
    };
    for name in ["name", "generateName"] {
        if let Some(text) = meta.get(name).and_then(Value::as_str) {
            report(name, text, names::path_segment(text));
        }
    }
    if let Some(text) = meta.get("namespace").and_then(Value::as_str).filter(|t| !t.is_empty()) {
        report("namespace", text, names::dns1123_label(text));
    }
    for (key, value) in meta.get("labels").and_then(Value::as_object).into_iter().flatten() {
        report("labels", key, names::qualified_name(key));
        let text = value.as_str().unwrap_or_default();
        report("labels", text, names::label_value(text));
    }
    for (key, _) in meta.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        report("annotations", key, names::qualified_name(&key.to_lowercase()));
    }
    for name in meta.get("finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        report("finalizers", name, names::qualified_name(name));
    }
}
