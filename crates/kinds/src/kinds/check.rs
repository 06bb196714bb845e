//! The small checks of which validation is made, worded as Kubernetes words them.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::meta::IMMUTABLE;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A number, if there is one, must not be negative.
pub(crate) fn not_negative(value: &Value, name: &str, path: &Path, errors: &mut Vec<Error>) {
    if let Some(n) = value[name].as_i64()
        && n < 0
    {
        errors.push(Error::invalid(&path.child(name), n, NOT_NEGATIVE));
    }
}

/// A number, if there is one, must be within bounds.
pub(crate) fn within(value: &Value, name: &str, low: i64, high: i64, path: &Path, errors: &mut Vec<Error>) {
    if let Some(n) = value[name].as_i64()
        && !(low..=high).contains(&n)
    {
        errors.push(Error::invalid(&path.child(name), n, format!("must be between {low} and {high}, inclusive")));
    }
}

/// A text, if it is not empty, must be one of `known`.
pub(crate) fn one_of(value: &Value, name: &str, known: &[&str], path: &Path, errors: &mut Vec<Error>) {
    let text = super::edit::text(value, name);
    if !text.is_empty() && !known.contains(&text) {
        // Most of Kubernetes' lists are sorted, not all: the caller gives the order.
        errors.push(Error::not_supported_in_order(&path.child(name), text, known.iter().copied()));
    }
}

/// A text must be there.
pub(crate) fn required(value: &Value, name: &str, path: &Path, errors: &mut Vec<Error>) -> bool {
    let missing = super::edit::text(value, name).is_empty();
    if missing {
        errors.push(Error::required(&path.child(name), ""));
    }
    !missing
}

/// A text must pass a format check; empty texts are left to others.
pub(crate) fn format(
    value: &Value,
    name: &str,
    rule: impl Fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    let text = super::edit::text(value, name);
    if !text.is_empty() {
        errors.extend(rule(text).into_iter().map(|m| Error::invalid(&path.child(name), text, m)));
    }
}

/// A text must be there and pass a format check.
pub(crate) fn required_format(
    value: &Value,
    name: &str,
    rule: impl Fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    if required(value, name, path, errors) {
        format(value, name, rule, path, errors);
    }
}

/// A member may not change.
pub(crate) fn immutable(new: &Value, old: &Value, name: &str, path: &Path, errors: &mut Vec<Error>) {
    if new[name] != old[name] {
        errors.push(Error::invalid(&path.child(name), new[name].clone(), IMMUTABLE));
    }
}

/// A label selector (`matchLabels`, `matchExpressions`).
pub(crate) fn label_selector(selector: &Value, path: &Path, errors: &mut Vec<Error>) {
    crate::meta::labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    for (i, expression) in super::edit::items(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let key = super::edit::text(expression, "key");
        errors
            .extend(crate::names::qualified_name(key).into_iter().map(|m| Error::invalid(&path.child("key"), key, m)));
        let values = super::edit::items(expression, "values");
        match super::edit::text(expression, "operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let text = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(Error::required(&path.child("values"), text));
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(Error::forbidden(&path.child("values"), text));
                }
            }
            other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            let field = path.child("values").index(j);
            errors.extend(crate::names::label_value(value).into_iter().map(|m| Error::invalid(&field, value, m)));
        }
    }
}

/// A selector in the short form that tables print: `a=b,c in (d,e)`; `<none>` for one that selects nothing.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in super::edit::items(selector, "matchExpressions") {
        let key = super::edit::text(expression, "key");
        let mut values: Vec<&str> = super::edit::texts(expression, "values").collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match super::edit::text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// Whether a label selector matches labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    equal
        && super::edit::items(selector, "matchExpressions").iter().all(|e| {
            let value = &labels[super::edit::text(e, "key")];
            match super::edit::text(e, "operator") {
                "In" => super::edit::items(e, "values").contains(value),
                "NotIn" => !super::edit::items(e, "values").contains(value),
                "Exists" => !value.is_null(),
                "DoesNotExist" => value.is_null(),
                _ => false,
            }
        })
}
