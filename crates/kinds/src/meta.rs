//! Validation of `metadata`, for built-in kinds and custom resources alike.
//!
//! [`validate`] is for new objects, [`validate_update`] for changes. Built-in kinds are stricter about finalizers: see
//! [`validate_builtin_finalizers`].

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::names::{NameRule, dns1123_label, label_value, qualified_name};

/// Most bytes that all annotations of an object may have together.
const ANNOTATIONS_LIMIT: i64 = 256 * 1024;

/// Said of a field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn path() -> Path {
    Path::new("metadata")
}

/// Appends what is wrong with the `metadata` of a new object.
pub fn validate(meta: &Value, namespaced: bool, rule: NameRule, errors: &mut Vec<Error>) {
    validate_at(meta, namespaced, rule, &path(), errors);
}

/// The same for `metadata` elsewhere in an object.
pub(crate) fn validate_at(meta: &Value, namespaced: bool, rule: NameRule, path: &Path, errors: &mut Vec<Error>) {
    // This runs for every write: paths are made only for what is wrong or present.
    let name = text(meta, "name");
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        let field = path.child("generateName");
        errors.extend(rule.check(prefix, true).into_iter().map(|m| Error::invalid(&field, prefix, m)));
    }
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        errors.extend(rule.check(name, false).into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
    }
    let namespace = text(meta, "namespace");
    if !namespaced {
        if !namespace.is_empty() {
            errors.push(Error::forbidden(&path.child("namespace"), "not allowed on this type"));
        }
    } else if namespace.is_empty() {
        errors.push(Error::required(&path.child("namespace"), ""));
    } else {
        let wrong = dns1123_label(namespace);
        errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("namespace"), namespace, m)));
    }
    if let Some(generation) = meta["generation"].as_i64()
        && generation < 0
    {
        errors.push(Error::invalid(&path.child("generation"), generation, "must be greater than or equal to 0"));
    }
    lists(meta, path, errors);
    if !meta["finalizers"].is_null() {
        finalizers(&meta["finalizers"], &path.child("finalizers"), errors);
    }
}

/// Appends what is wrong with labels, annotations and owner references.
pub(crate) fn validate_lists(meta: &Value, errors: &mut Vec<Error>) {
    lists(meta, &path(), errors);
}

fn lists(meta: &Value, path: &Path, errors: &mut Vec<Error>) {
    if !meta["labels"].is_null() {
        labels(&meta["labels"], &path.child("labels"), errors);
    }
    if !meta["annotations"].is_null() {
        annotations(&meta["annotations"], &path.child("annotations"), errors);
    }
    if !meta["ownerReferences"].is_null() {
        owner_references(&meta["ownerReferences"], &path.child("ownerReferences"), errors);
    }
}

/// Appends what is wrong with the change from `old` to `new` metadata.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    let path = path();
    if !new["finalizers"].is_null() {
        finalizers(&new["finalizers"], &path.child("finalizers"), errors);
    }
    changes(new, old, &path, errors);
    lists(new, &path, errors);
}

/// The same for custom resources. Kubernetes says twice what is wrong with their changes and three times what is with their
/// lists; for built-in kinds see `Kind::validate_update`.
pub fn validate_custom_update(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    let before = errors.len();
    validate_update(new, old, errors);
    if errors.len() > before {
        changes(new, old, &path(), errors);
        validate_lists(new, errors);
        validate_lists(new, errors);
    }
}

fn changes(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    if !old["deletionTimestamp"].is_null() {
        let before = strings(&old["finalizers"]);
        let added: Vec<&str> = strings(&new["finalizers"]).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let list = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            errors.push(Error::forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
                ),
            ));
        }
    }
    if let (Some(new), Some(old)) = (new["generation"].as_i64(), old["generation"].as_i64())
        && new < old
    {
        errors.push(Error::invalid(&path.child("generation"), new, "must not be decremented"));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new[field] != old[field] {
            errors.push(Error::invalid(&path.child(field), new[field].clone(), IMMUTABLE));
        }
    }
}

/// Texts for `Warning` headers about the metadata of a custom resource.
#[must_use]
pub fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(|o| strings(&o["finalizers"])).unwrap_or_default();
    strings(&new["finalizers"])
        .into_iter()
        .filter(|f| !f.contains('/') && !is_standard_finalizer(f) && !before.contains(f))
        .map(|f| {
            format!(
                "metadata.finalizers: {f:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

fn is_standard_finalizer(name: &str) -> bool {
    matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// Built-in kinds want finalizers to be standard or qualified by a domain.
pub fn validate_builtin_finalizers(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, name) in strings(value).into_iter().enumerate() {
        if !name.contains('/') && !is_standard_finalizer(name) {
            errors.push(Error::invalid(
                &path.index(i),
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Appends what is wrong with a map of labels.
pub fn labels(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        errors.extend(qualified_name(key).into_iter().map(|m| Error::invalid(path, key.as_str(), m)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(label_value(value).into_iter().map(|m| Error::invalid(path, value, m)));
    }
}

/// Appends what is wrong with a map of annotations.
pub fn annotations(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut total = 0;
    for (key, value) in value.as_object().into_iter().flatten() {
        // The rule for keys is about lower case names, annotations have long been used in mixed case.
        errors.extend(qualified_name(&key.to_lowercase()).into_iter().map(|m| Error::invalid(path, key.as_str(), m)));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if i64::try_from(total).is_ok_and(|total| total > ANNOTATIONS_LIMIT) {
        errors.push(Error::too_long(path, ANNOTATIONS_LIMIT));
    }
}

fn owner_references(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut controller: Option<String> = None;
    for owner in value.as_array().into_iter().flatten() {
        let api_version = text(owner, "apiVersion");
        // More than one slash is no version at all.
        let (group, version) = match api_version.split_once('/') {
            Some((_, version)) if version.contains('/') => ("", ""),
            Some(parts) => parts,
            None => ("", api_version),
        };
        if version.is_empty() {
            errors.push(Error::invalid(&path.child("apiVersion"), api_version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if text(owner, "kind") == "Event" && group.is_empty() {
            let what = format!("/{version}, Kind=Event is disallowed from being an owner");
            errors.push(Error::invalid(path, owner.clone(), what));
        }
        if owner["controller"] == true {
            let name = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            if let Some(first) = &controller {
                let what = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.push(Error::invalid(path, value.clone(), what).show_value(in_go_order(value)));
            } else {
                controller = Some(name);
            }
        }
    }
}

/// Owner references as Go prints them: members in the order of the struct.
fn in_go_order(owners: &Value) -> String {
    let order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let one = |owner: &Value| {
        let members: Vec<String> =
            order.iter().filter(|m| !owner[**m].is_null()).map(|m| format!("{m:?}:{}", owner[*m])).collect();
        format!("{{{}}}", members.join(","))
    };
    let all: Vec<String> = owners.as_array().into_iter().flatten().map(one).collect();
    format!("[{}]", all.join(","))
}

fn finalizers(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    let names = strings(value);
    for name in &names {
        errors.extend(qualified_name(name).into_iter().map(|m| Error::invalid(path, *name, m)));
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        errors.push(Error::invalid(path, value.clone(), "finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(meta: &Value, expect: &[&str]) {
        let mut errors = Vec::new();
        validate(meta, true, NameRule::Subdomain, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect, "{meta}");
    }

    const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

    #[test]
    fn new_objects() {
        check(&json!({"name": "a.b-c", "namespace": "n", "generateName": "a-"}), &[]);
        check(&json!({"namespace": "n"}), &["metadata.name: Required value: name or generateName is required"]);
        check(
            &json!({"name": "Bad_Name", "namespace": "n"}),
            &[&format!("metadata.name: Invalid value: \"Bad_Name\": {SUBDOMAIN}")],
        );
        let long = "x".repeat(254);
        check(
            &json!({"name": long, "namespace": "n"}),
            &[&format!("metadata.name: Invalid value: \"{long}\": must be no more than 253 characters")],
        );
        check(
            &json!({"name": "a", "namespace": "n", "labels": {"-x": "y"}, "annotations": {"UP/per": "x", "b ad": "y"}}),
            &[
                &format!("metadata.labels: Invalid value: \"-x\": {NAME_PART}"),
                &format!("metadata.annotations: Invalid value: \"b ad\": {NAME_PART}"),
            ],
        );
        let value = "x".repeat(64);
        check(
            &json!({"name": "a", "namespace": "n", "labels": {"e": value}}),
            &[&format!("metadata.labels: Invalid value: \"{value}\": must be no more than 63 bytes")],
        );
        check(
            &json!({"name": "a", "namespace": "n", "labels": {"a/b/c": "d"}}),
            &[
                "metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            ],
        );
        check(
            &json!({"name": "a", "namespace": "n", "annotations": {"k": "x".repeat(262_144)}}),
            &["metadata.annotations: Too long: may not be more than 262144 bytes"],
        );
        check(
            &json!({"name": "a", "namespace": "n", "finalizers": ["bad fin/x y"]}),
            &[
                &format!("metadata.finalizers: Invalid value: \"bad fin/x y\": prefix part {SUBDOMAIN}"),
                &format!("metadata.finalizers: Invalid value: \"bad fin/x y\": {NAME_PART}"),
            ],
        );
        check(
            &json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "", "uid": ""}]}),
            &[
                "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ],
        );
        let owner =
            |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": "1", "controller": true});
        check(
            &json!({"name": "a", "namespace": "n", "ownerReferences": [owner("x"), owner("y")]}),
            &[
                r#"metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"1","controller":true},{"apiVersion":"v1","kind":"ConfigMap","name":"y","uid":"1","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for ConfigMap/x and ConfigMap/y"#,
            ],
        );
    }

    #[test]
    fn updates() {
        let old =
            json!({"name": "a", "uid": "1", "deletionTimestamp": "2020-01-01T00:00:00Z", "finalizers": ["x.test/a"]});
        let mut new = old.clone();
        new["finalizers"] = json!(["x.test/a", "x.test/b"]);
        new["uid"] = json!("2");
        let mut errors = Vec::new();
        validate_update(&new, &old, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.test/b\"}",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }

    #[test]
    fn warns_of_unqualified_finalizers() {
        assert_eq!(
            warnings(&json!({"finalizers": ["nodomain", "orphan", "a.test/b"]}), None),
            [
                "metadata.finalizers: \"nodomain\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
            ]
        );
    }
}
