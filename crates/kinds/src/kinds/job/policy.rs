//! Validation of the policies of a job: when failures fail it, and what counts as success.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::one_of;
use crate::kinds::edit::{has, items, text};

/// What is wrong with `podFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
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
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let field = path.child("action");
    match text(rule, "action") {
        "" => errors.push(Error::required(&field, valid(ACTIONS))),
        "FailIndex" if !per_index => {
            errors.push(Error::invalid(&field, "FailIndex", "requires the backoffLimitPerIndex to be set"));
        }
        _ => one_of(rule, "action", ACTIONS, path, errors),
    }
    let codes = &rule["onExitCodes"];
    let conditions = items(rule, "onPodConditions");
    if !codes.is_null() {
        exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    let field = path.child("onPodConditions");
    if conditions.len() > 20 {
        errors.push(Error::too_many(&field, i64::try_from(conditions.len()).unwrap_or(i64::MAX), 20));
    }
    for (i, pattern) in conditions.iter().enumerate() {
        const STATUSES: &[&str] = &["False", "True", "Unknown"];
        let path = field.index(i);
        let type_ = text(pattern, "type");
        errors.extend(
            crate::names::qualified_name(type_).into_iter().map(|m| Error::invalid(&path.child("type"), type_, m)),
        );
        if text(pattern, "status").is_empty() {
            errors.push(Error::required(&path.child("status"), valid(STATUSES)));
        } else {
            one_of(pattern, "status", STATUSES, &path, errors);
        }
    }
    let mut wrong = |why: &str| errors.push(Error::invalid(path, rule.clone(), why).omit_value());
    match (codes.is_null(), conditions.is_empty()) {
        (true, true) => wrong("specifying one of OnExitCodes and OnPodConditions is required"),
        (false, false) => wrong("specifying both OnExitCodes and OnPodConditions is not supported"),
        _ => {}
    }
}

/// `valid values: ["A" "B"]`, as Go prints lists of quoted words.
fn valid(values: &[&str]) -> String {
    let list: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", list.join(" "))
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
        let shown = crate::internal::text("SuccessPolicy", &spec["successPolicy"]);
        let error = Error::invalid(&field, spec["successPolicy"].clone(), "requires indexed completion mode");
        errors.push(error.show_value(shown));
        return;
    }
    let field = field.child("rules");
    let rules = items(&spec["successPolicy"], "rules");
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&field, text));
    }
    if rules.len() > 20 {
        errors.push(Error::too_many(&field, i64::try_from(rules.len()).unwrap_or(i64::MAX), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, spec["completions"].as_i64().unwrap_or_default(), &field.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 64 * 1024;
    let (indexes, count) = (rule["succeededIndexes"].as_str(), rule["succeededCount"].as_i64());
    if indexes.is_none() && count.is_none() {
        let text = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, text));
    }
    let mut named = 0;
    if let Some(indexes) = indexes {
        let field = path.child("succeededIndexes");
        if indexes.len() > LONGEST {
            errors.push(Error::too_long(&field, i64::try_from(LONGEST).unwrap_or(i64::MAX)));
        }
        match number_of_indexes(indexes, completions) {
            Ok(number) => named = number,
            Err(why) => {
                errors.push(Error::invalid(&field, indexes, format!("error parsing succeededIndexes: {why}")));
            }
        }
    }
    let Some(count) = count else { return };
    let field = path.child("succeededCount");
    crate::kinds::check::not_negative(rule, "succeededCount", path, errors);
    if count > completions {
        let text = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(Error::invalid(&field, count, text));
    }
    if indexes.is_some() && count > named {
        let text = format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(Error::invalid(&field, count, text));
    }
}

/// First and last index of each interval.
pub(super) type Intervals = Vec<(i64, i64)>;

/// Reads `3` or `3-5`.
pub(super) fn interval(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| {
        let index: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
    };
    let parts: Vec<&str> = interval.split('-').collect();
    let (from, to) = match parts.as_slice() {
        [one] => (number(one)?, number(one)?),
        [from, to] => (number(from)?, number(to)?),
        _ => {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
    };
    if from >= to && parts.len() > 1 {
        return Err(format!("non-increasing order, previous: {from}, current: {to}"));
    }
    Ok((from, to))
}

/// How many indexes `0,3-5` names.
pub(super) fn number_of_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last): (i64, Option<i64>) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_in_order() {
        assert_eq!(number_of_indexes("", 5), Ok(0));
        assert_eq!(number_of_indexes("0,2-4", 5), Ok(4));
        assert!(number_of_indexes("3,1", 5).is_err_and(|why| why.contains("previous: 3, current: 1")));
        assert!(number_of_indexes("5", 5).is_err_and(|why| why == "too large index: \"5\""));
        assert!(number_of_indexes("1-2-3", 5).is_err_and(|why| why.contains("at most two parts")));
        assert!(number_of_indexes("x", 5).is_err_and(|why| why.contains("cannot convert")));
    }
}
