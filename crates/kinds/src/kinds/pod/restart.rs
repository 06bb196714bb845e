//! Validation of a container's own restart policy and its rules.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::one_of;
use crate::kinds::edit::{has, items, text};

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// What is wrong with `restartPolicy` and `restartPolicyRules`.
pub(super) fn validate(container: &Value, path: &Path, errors: &mut Vec<Error>) {
    let rules = items(container, "restartPolicyRules");
    let field = path.child("restartPolicyRules");
    if !has(container, "restartPolicy") {
        if rules.is_empty() {
            return;
        }
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(&path.child("restartPolicy"), why));
    }
    one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    let too_many = |field: &Path, actual: usize, most: usize| {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Error::too_many(field, number(actual), number(most))
    };
    if rules.len() > MOST_RULES {
        errors.push(too_many(&field, rules.len(), MOST_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = field.index(i);
        let action = text(rule, "action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            let known = ["Restart", "RestartAllContainers"];
            errors.push(Error::not_supported_in_order(&path.child("action"), action, known));
        }
        let codes = &rule["exitCodes"];
        let path = path.child("exitCodes");
        if codes.is_null() {
            errors.push(Error::required(&path, "must be specified"));
            continue;
        }
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.push(Error::not_supported_in_order(&path.child("operator"), operator, ["In", "NotIn"]));
        }
        let values = items(codes, "values").len();
        if values > MOST_CODES {
            errors.push(too_many(&path.child("values"), values, MOST_CODES));
        }
    }
}
