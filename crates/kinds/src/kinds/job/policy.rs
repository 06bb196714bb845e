//! Validation of the policies of a job: when failures fail it, and what counts as success.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::one_of;
use crate::kinds::edit::{has, items, text};

/// What is wrong with `podFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    if text(&spec["template"]["spec"], "restartPolicy") != "Never" {
        // The field named is the one the policy depends on.
        errors.push(Error::invalid(path, spec["podFailurePolicy"].clone(), "only \"Never\" is supported"));
    }
    let template = &spec["template"]["spec"];
    let names: BTreeSet<&str> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| items(template, list))
        .map(|c| text(c, "name"))
        .collect();
    let rules = items(&spec["podFailurePolicy"], "rules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&path.child("rules"), i64::try_from(rules.len()).unwrap_or(i64::MAX), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(rule, &names, has(spec, "backoffLimitPerIndex"), &path.child("rules").index(i), errors);
    }
}

fn failure_rule(rule: &Value, names: &BTreeSet<&str>, per_index: bool, path: &Path, errors: &mut Vec<Error>) {
    let actions: &[&str] =
        if per_index { &["Count", "FailIndex", "FailJob", "Ignore"] } else { &["Count", "FailJob", "Ignore"] };
    let action = text(rule, "action");
    if action.is_empty() {
        let list = actions.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(", ");
        errors.push(Error::required(&path.child("action"), format!("valid values: [{list}]")));
    } else {
        one_of(rule, "action", actions, path, errors);
    }
    let codes = &rule["onExitCodes"];
    let conditions = items(rule, "onPodConditions");
    match (codes.is_null(), conditions.is_empty()) {
        (true, true) => errors.push(Error::invalid(
            path,
            rule.clone(),
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        (false, false) => errors.push(Error::invalid(
            path,
            rule.clone(),
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        _ => {}
    }
    if !codes.is_null() {
        exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let path = path.child("onPodConditions").index(i);
        let type_ = text(pattern, "type");
        errors.extend(
            crate::names::qualified_name(type_).into_iter().map(|m| Error::invalid(&path.child("type"), type_, m)),
        );
        one_of(pattern, "status", &["False", "True", "Unknown"], &path, errors);
    }
}

fn exit_codes(codes: &Value, names: &BTreeSet<&str>, path: &Path, errors: &mut Vec<Error>) {
    let operator = text(codes, "operator");
    if operator.is_empty() {
        errors.push(Error::required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]"));
    } else {
        one_of(codes, "operator", &["In", "NotIn"], path, errors);
    }
    if let Some(name) = codes["containerName"].as_str()
        && !names.contains(name)
    {
        let text = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, text));
    }
    let values = items(codes, "values");
    let field = path.child("values");
    if values.is_empty() {
        errors.push(Error::invalid(&field, codes["values"].clone(), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(Error::too_many(&field, i64::try_from(values.len()).unwrap_or(i64::MAX), 255));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (i, number) in numbers.iter().enumerate() {
        if operator == "In" && *number == 0 {
            errors.push(Error::invalid(&field.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(*number) {
            errors.push(Error::duplicate(&field.index(i), *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(&field, codes["values"].clone(), "must be ordered"));
    }
}

/// What is wrong with `successPolicy`.
pub(super) fn success(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let field = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.push(Error::invalid(&field, spec["successPolicy"].clone(), "requires indexed completion mode"));
        return;
    }
    let rules = items(&spec["successPolicy"], "rules");
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&field.child("rules"), text));
    }
    for (i, rule) in rules.iter().enumerate() {
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(Error::required(&field.child("rules").index(i), text));
        }
    }
}
