//! Names of a kind: plural, singular, kind, list kind, short names, categories.

use serde_json::Value;

use super::text;
use crate::field::{Error, Path};
use crate::names::dns1035_label;

pub(super) fn check(names: &Value, at: &Path, errors: &mut Vec<Error>) {
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(names, &format!("/{name}")).is_empty() {
            errors.push(Error::required(&at.child(name), ""));
        }
    }
    for name in ["plural", "singular"] {
        label(text(names, &format!("/{name}")), &at.child(name), errors);
    }
    for name in ["kind", "listKind"] {
        let kind = text(names, &format!("/{name}"));
        let wrong = dns1035_label(&kind.to_lowercase());
        if !kind.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(Error::invalid(&at.child(name), kind, detail));
        }
    }
    for list in ["shortNames", "categories"] {
        let entries = names.get(list).and_then(Value::as_array);
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            label(entry.as_str().unwrap_or_default(), &at.child(list).index(index), errors);
        }
    }
    let kind = text(names, "/kind");
    if !kind.is_empty() && kind == text(names, "/listKind") {
        errors.push(Error::invalid(&at.child("listKind"), kind, "kind and listKind may not be the same"));
    }
}

fn label(name: &str, at: &Path, errors: &mut Vec<Error>) {
    let wrong = dns1035_label(name);
    if !name.is_empty() && !wrong.is_empty() {
        errors.push(Error::invalid(at, name, wrong.join(",")));
    }
}
