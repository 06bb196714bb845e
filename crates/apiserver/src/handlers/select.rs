//! Selectors of a request, applied to stored entries.

use kubetask_store::Entry;
use serde_json::Value;

use crate::object;
use crate::registry::{Resource, Source};
use crate::request::Query;
use crate::selectors::{Selection, field, label};
use crate::status::{Failure, Result};

/// Parses and checks the selectors of a request.
pub(crate) fn parse(query: &Query, resource: &Resource) -> Result<Selection> {
    let labels = label::Selector::parse(query.get("labelSelector")).map_err(Failure::bad_request)?;
    let fields = field::Selector::parse(query.get("fieldSelector")).map_err(Failure::bad_request)?;
    for name in fields.fields() {
        check_field(resource, name)?;
    }
    Ok(Selection { labels, fields })
}

fn check_field(resource: &Resource, name: &str) -> Result<()> {
    match &resource.source {
        Source::Custom(version) => {
            let known = name == "metadata.name"
                || (name == "metadata.namespace" && resource.namespaced)
                || version.selectable_fields.iter().any(|f| f.strip_prefix('.') == Some(name));
            if known { Ok(()) } else { Err(Failure::bad_request(format!("field label not supported: {name}"))) }
        }
        Source::Builtin(kind) if kind.supports_field(name) => Ok(()),
        Source::Builtin(kind) if kind.field_selectors.is_empty() => Err(Failure::bad_request(format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            crate::text::quote(name)
        ))),
        Source::Builtin(kind) if kind.group == "batch" => {
            let name = crate::text::quote(name);
            Err(Failure::bad_request(format!("field label {name} not supported for {}", kind.kind)))
        }
        Source::Builtin(_) => Err(Failure::bad_request(format!("field label not supported: {name}"))),
    }
}

/// Whether an entry is selected. Labels and fields are decoded once per entry.
pub(crate) fn matches(resource: &Resource, selection: &Selection, entry: &Entry) -> bool {
    if selection.is_everything() {
        return true;
    }
    let (namespace, name) = object::split_key(&entry.key);
    let by_key = |field: &str| match field {
        "metadata.name" => Some(name.to_owned()),
        "metadata.namespace" => Some(namespace.to_owned()),
        _ => None,
    };
    let only_key = selection.fields.fields().all(|f| by_key(f).is_some());
    if only_key && selection.labels.is_empty() {
        return selection.fields.matches(|f| by_key(f).unwrap_or_default());
    }
    let facts = object::facts(entry);
    if only_key {
        return selection.matches(&facts.labels, |f| by_key(f).unwrap_or_default());
    }
    // Views of another kind have other names for the fields of the same entry.
    let own;
    let fields = if resource.builtin_kind().is_some_and(|k| k.converts()) {
        own = selectable(resource, entry);
        &own
    } else {
        facts.fields.get_or_init(|| selectable(resource, entry))
    };
    let find = |field: &str| fields.get(position(resource, field)?).map(|value| value.to_string());
    selection.matches(&facts.labels, |f| by_key(f).or_else(|| find(f)).unwrap_or_default())
}

/// Where in [`selectable`] a field is.
fn position(resource: &Resource, field: &str) -> Option<usize> {
    match &resource.source {
        Source::Builtin(kind) => kind.field_selectors.iter().position(|name| *name == field),
        Source::Custom(version) => {
            version.selectable_fields.iter().position(|path| path.trim_start_matches('.') == field)
        }
    }
}

/// The values of all selectable fields of an entry, beyond name and namespace.
fn selectable(resource: &Resource, entry: &Entry) -> Box<[Box<str>]> {
    let value = resource.value(entry);
    match &resource.source {
        Source::Builtin(kind) => kind
            .field_selectors
            .iter()
            .map(|name| kind.selectable_field(&value, name).unwrap_or_default().into_boxed_str())
            .collect(),
        Source::Custom(version) => version
            .selectable_fields
            .iter()
            .map(|path| {
                let found = crate::print::jsonpath::Path::parse(path).and_then(|p| p.first(&value).map(text));
                found.unwrap_or_default().into_boxed_str()
            })
            .collect(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
