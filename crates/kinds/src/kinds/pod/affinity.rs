//! Validation of affinities: to nodes, and to other pods.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::label_selector;
use crate::kinds::edit::{items, text, texts};
use crate::names::{dns1123_label, dns1123_subdomain, label_value, qualified_name};

const NO_OPERATOR: &str = "not a valid selector operator";

/// What is wrong with where a pod wants to go.
pub(super) fn validate(affinity: &Value, path: &Path, errors: &mut Vec<Error>) {
    let node = &affinity["nodeAffinity"];
    let node_path = path.child("nodeAffinity");
    let required_terms = &node["requiredDuringSchedulingIgnoredDuringExecution"];
    if !required_terms.is_null() {
        let path = node_path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = items(required_terms, "nodeSelectorTerms");
        if terms.is_empty() {
            errors.push(Error::required(&path, "must have at least one node selector term"));
        }
        for (i, term) in terms.iter().enumerate() {
            node_selector_term(term, true, &path.index(i), errors);
        }
    }
    for (i, preferred) in items(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let path = node_path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
        weight(preferred, &path, errors);
        // What is only preferred may name values that no label can have.
        node_selector_term(&preferred["preference"], false, &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = &affinity[kind];
        let path = path.child(kind);
        for (i, term) in items(pods, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            pod_term(term, &path.child("requiredDuringSchedulingIgnoredDuringExecution").index(i), errors);
        }
        for (i, preferred) in items(pods, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
            weight(preferred, &path, errors);
            pod_term(&preferred["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &Path, errors: &mut Vec<Error>) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Vec<Error>) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    label_selector(&term["namespaceSelector"], &path.child("namespaceSelector"), errors);
    for name in texts(term, "namespaces") {
        errors.extend(dns1123_label(name).into_iter().map(|m| Error::invalid(&path.child("namespace"), name, m)));
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    }
    errors.extend(qualified_name(key).into_iter().map(|m| Error::invalid(&path.child("topologyKey"), key, m)));
}

fn node_selector_term(term: &Value, required: bool, path: &Path, errors: &mut Vec<Error>) {
    for (i, expression) in items(term, "matchExpressions").iter().enumerate() {
        expression_of_labels(expression, required, &path.child("matchExpressions").index(i), errors);
    }
    for (i, expression) in items(term, "matchFields").iter().enumerate() {
        expression_of_fields(expression, &path.child("matchFields").index(i), errors);
    }
}

fn expression_of_labels(expression: &Value, required: bool, path: &Path, errors: &mut Vec<Error>) {
    let values = items(expression, "values").len();
    match text(expression, "operator") {
        "In" | "NotIn" => {
            if values == 0 {
                let text = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Error::required(&path.child("values"), text));
            }
        }
        "Exists" | "DoesNotExist" => {
            if values > 0 {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Error::forbidden(&path.child("values"), text));
            }
        }
        "Gt" | "Lt" => {
            if values != 1 {
                let text = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(Error::required(&path.child("values"), text));
            }
        }
        other => errors.push(Error::invalid(&path.child("operator"), other, NO_OPERATOR)),
    }
    let key = text(expression, "key");
    errors.extend(qualified_name(key).into_iter().map(|m| Error::invalid(&path.child("key"), key, m)));
    for (i, value) in texts(expression, "values").enumerate().filter(|_| required) {
        let field = path.child("values").index(i);
        errors.extend(label_value(value).into_iter().map(|m| Error::invalid(&field, value, m)));
    }
}

fn expression_of_fields(expression: &Value, path: &Path, errors: &mut Vec<Error>) {
    match text(expression, "operator") {
        "In" | "NotIn" => {
            if items(expression, "values").len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(Error::required(&path.child("values"), why));
            }
        }
        other => errors.push(Error::invalid(&path.child("operator"), other, NO_OPERATOR)),
    }
    let key = text(expression, "key");
    if key != "metadata.name" {
        return errors.push(Error::invalid(&path.child("key"), key, "not a valid field selector key"));
    }
    for (i, value) in texts(expression, "values").enumerate() {
        let field = path.child("values").index(i);
        errors.extend(dns1123_subdomain(value).into_iter().map(|m| Error::invalid(&field, value, m)));
    }
}
