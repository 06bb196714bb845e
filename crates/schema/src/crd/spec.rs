//! `spec` of a definition: group, scope, versions, names, conversion, and what each version says.

use serde_json::Value;

use super::{columns, conversion, names, schema, text, versions};
use crate::field::{Error, ErrorType, Path, Shown};
use crate::model::Schema;
use crate::names::{dns1035_label, dns1123_subdomain};

pub(super) fn check(crd: &Value, errors: &mut Vec<Error>) {
    let at = Path::new("spec");
    let null = Value::Null;
    let spec = crd.get("spec").unwrap_or(&null);
    group(text(spec, "/group"), &at.child("group"), errors);
    one_of(text(spec, "/scope"), &["Cluster", "Namespaced"], &at.child("scope"), errors);
    version_list(versions(crd), &at.child("versions"), errors);
    names::check(spec.get("names").unwrap_or(&null), &at.child("names"), errors);
    version_contents(versions(crd), &at, errors);
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) && text(spec, "/conversion/strategy") == "Webhook"
    {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(Error::invalid(&at.child("conversion").child("strategy"), "Webhook", detail));
    }
    conversion::check(spec.get("conversion").unwrap_or(&null), &at.child("conversion"), errors);
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&at.child("preserveUnknownFields"), true, detail));
    }
}

fn group(group: &str, at: &Path, errors: &mut Vec<Error>) {
    let wrong = dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(at, ""));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(at, group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(at, group, "should be a domain with at least one dot"));
    }
}

fn one_of(value: &str, known: &[&str], at: &Path, errors: &mut Vec<Error>) {
    if value.is_empty() {
        errors.push(Error::required(at, ""));
    } else if !known.contains(&value) {
        errors.push(Error::not_supported(at, value, known));
    }
}

fn version_list(versions: &[Value], at: &Path, errors: &mut Vec<Error>) {
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let name = text(version, "/name");
        let wrong = dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&at.child("name"), name, wrong.join(",")));
        }
        if version.pointer("/schema/openAPIV3Schema").is_none_or(Value::is_null) {
            errors.push(Error::required(&at.child("schema").child("openAPIV3Schema"), ""));
        }
        deprecation(version, &at.child("deprecationWarning"), errors);
    }
    let twins = versions.iter().enumerate().any(|(i, v)| {
        let name = text(v, "/name");
        versions[..i].iter().any(|other| text(other, "/name") == name)
    });
    if twins {
        errors.push(whole_list(versions, at, "must contain unique version names"));
    }
    if versions.iter().filter(|v| v.get("storage") == Some(&Value::Bool(true))).count() != 1 {
        errors.push(whole_list(versions, at, "must have exactly one version marked as storage version"));
    }
}

/// An error about the list of versions, printed as Kubernetes prints its internal form of it.
fn whole_list(versions: &[Value], at: &Path, detail: &str) -> Error {
    let flag = |v: &Value, name: &str| v.get(name).and_then(Value::as_bool).unwrap_or(false);
    let shown: Vec<String> = versions
        .iter()
        .map(|v| {
            let name = Value::from(text(v, "/name"));
            let warning = v.get("deprecationWarning").unwrap_or(&Value::Null);
            format!(
                r#"{{"Name":{name},"Served":{},"Storage":{},"Deprecated":{},"DeprecationWarning":{warning},"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null}}"#,
                flag(v, "served"),
                flag(v, "storage"),
                flag(v, "deprecated"),
            )
        })
        .collect();
    let shown = if versions.is_empty() { "null".to_owned() } else { format!("[{}]", shown.join(",")) };
    Error {
        type_: ErrorType::Invalid,
        field: at.clone(),
        bad_value: Value::Array(versions.to_vec()),
        detail: detail.to_owned(),
        shown: Shown::Text(shown),
    }
}

fn deprecation(version: &Value, at: &Path, errors: &mut Vec<Error>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut report = |detail: &str| errors.push(Error::invalid(at, warning, detail));
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        return report("can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        report("must be <= 256 characters long");
    }
    if warning.is_empty() {
        report("must not be an empty string");
    }
    if let Some(index) = warning.char_indices().find(|(_, c)| c.is_control()).map(|(i, _)| i) {
        report(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

/// Schemas, subresources, columns and selectable fields: what all versions share is reported once, at the top.
fn version_contents(versions: &[Value], spec_at: &Path, errors: &mut Vec<Error>) {
    let is_shared = |name: &str| versions.windows(2).all(|pair| pair[0].get(name) == pair[1].get(name));
    let has_status = |v: &Value| v.pointer("/subresources/status").is_some_and(|s| !s.is_null());
    let (shares_schema, shares_subresources) = (is_shared("schema"), is_shared("subresources"));
    let mut first_schema: Option<Schema> = None;
    for (index, version) in versions.iter().enumerate() {
        let version_at = spec_at.child("versions").index(index);
        let place = |shared: bool| if shared { spec_at } else { &version_at };
        let is_first = index == 0;
        let schema_name = if shares_schema { "validation" } else { "schema" };
        if is_first || !shares_schema {
            let at = place(shares_schema).child(schema_name).child("openAPIV3Schema");
            let any_status = if shares_schema { versions.iter().any(has_status) } else { has_status(version) };
            first_schema = version
                .pointer("/schema/openAPIV3Schema")
                .filter(|s| !s.is_null())
                .map(|json| schema::check(json, any_status, &at, errors));
        }
        if let Some(json) = version.get("subresources").filter(|_| is_first || !shares_subresources) {
            columns::subresources(json, &place(shares_subresources).child("subresources"), errors);
        }
        let shared = is_shared("additionalPrinterColumns");
        if let Some(json) = version.get("additionalPrinterColumns").filter(|_| is_first || !shared) {
            columns::columns(json, &place(shared).child("additionalPrinterColumns"), errors);
        }
        let shared = is_shared("selectableFields");
        if let Some(json) = version.get("selectableFields").filter(|_| is_first || !shared) {
            let at = place(shared).child("selectableFields");
            columns::selectable_fields(json, first_schema.as_ref(), &at, errors);
        }
    }
}
