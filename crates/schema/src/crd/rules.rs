//! `x-kubernetes-validations` in a definition: complete, compilable, and `oldSelf` only where old and new correspond.

use serde_json::Value;

use crate::cel;
use crate::field::{Error, Path};
use crate::model::{MapType, Rule, Schema};

const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What can be told from the texts of rules alone.
pub(super) fn texts(schema: &Schema, at: &Path, errors: &mut Vec<Error>) {
    each_node(schema, at, &mut |schema, at| {
        for (index, rule) in schema.rules.iter().enumerate() {
            text(rule, schema, &at.child("x-kubernetes-validations").index(index), errors);
        }
    });
}

fn text(rule: &Rule, schema: &Schema, at: &Path, errors: &mut Vec<Error>) {
    let has_newline = |text: &str| text.trim().contains(['\n', '\r']);
    let is_blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    if rule.rule.trim().is_empty() {
        errors.push(Error::required(&at.child("rule"), "rule is not specified"));
    } else if is_blank(&rule.message) {
        let detail = "message must be non-empty if specified";
        errors.push(Error::invalid(&at.child("message"), rule.message.as_str(), detail));
    } else if has_newline(&rule.message) {
        let detail = "message must not contain line breaks";
        errors.push(Error::invalid(&at.child("message"), rule.message.as_str(), detail));
    } else if has_newline(&rule.rule) && rule.message.trim().is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(Error::required(&at.child("message"), detail));
    }
    if is_blank(&rule.message_expression) {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(Error::required(&at.child("messageExpression"), detail));
    }
    if !rule.reason.is_empty() && !REASONS.contains(&rule.reason.as_str()) {
        errors.push(Error::not_supported(&at.child("reason"), rule.reason.as_str(), REASONS));
    }
    if rule.field_path.is_empty() {
        return;
    }
    let path_at = at.child("fieldPath");
    let mut report = |detail: String| errors.push(Error::invalid(&path_at, rule.field_path.as_str(), detail));
    if is_blank(&rule.field_path) {
        report("fieldPath must be non-empty if specified".to_owned());
    } else if has_newline(&rule.field_path) {
        report("fieldPath must not contain line breaks".to_owned());
    } else if let Err(wrong) = cel::resolve_field_path(&rule.field_path, schema) {
        report(format!("fieldPath must be a valid path: {wrong}"));
    }
}

/// Compiles all rules of a sound schema.
pub(super) fn compile(schema: &Schema, at: &Path, errors: &mut Vec<Error>) {
    let mut any = false;
    each_node(schema, at, &mut |schema, _| any |= !schema.rules.is_empty());
    if !any {
        return;
    }
    match cel::with_deep_stack(|| {
        let mut found = Vec::new();
        compile_node(schema, true, None, at, &mut found);
        found
    }) {
        Ok(found) => errors.extend(found),
        Err(error) => errors.push(Error::internal(at, error)),
    }
}

/// `split` is the nearest list or map above whose parts cannot be paired with old ones.
fn compile_node(schema: &Schema, is_root: bool, split: Option<&Path>, at: &Path, errors: &mut Vec<Error>) {
    for (index, rule) in schema.rules.iter().enumerate() {
        let rule_at = at.child("x-kubernetes-validations").index(index);
        match cel::check_rule(rule, schema, is_root) {
            Err(problem) => {
                let name = if problem.in_message { "messageExpression" } else { "rule" };
                let error = Error::invalid(&rule_at.child(name), rule.rule.as_str(), problem.detail);
                errors.push(error.show_value(go_struct(rule)));
            }
            Ok(program) => {
                if let Some(split) = split.filter(|_| program.uses_old_self) {
                    let detail =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {split}");
                    errors.push(Error::invalid(&rule_at.child("rule"), rule.rule.as_str(), detail));
                }
            }
        }
    }
    let is_one_value = schema.map_type == Some(MapType::Atomic);
    let below = if is_one_value { split.or(Some(at)) } else { split };
    for (name, member) in &schema.properties {
        compile_node(member, false, below, &at.child("properties").key(name), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        compile_node(additional, false, below, &at.child("additionalProperties"), errors);
    }
    if let Some(items) = &schema.items {
        let below = if schema.is_map_list() { split } else { split.or(Some(at)) };
        compile_node(items, false, below, &at.child("items"), errors);
    }
}

/// A rule as Kubernetes prints its internal form in messages.
fn go_struct(rule: &Rule) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let reason = if rule.reason.is_empty() { "null".to_owned() } else { quoted(&rule.reason) };
    let optional = rule.optional_old_self.map_or_else(|| "null".to_owned(), |flag| flag.to_string());
    format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{reason},"FieldPath":{},"OptionalOldSelf":{optional}}}"#,
        quoted(&rule.rule),
        quoted(&rule.message),
        quoted(&rule.message_expression),
        quoted(&rule.field_path),
    )
}

fn each_node(schema: &Schema, at: &Path, visit: &mut impl FnMut(&Schema, &Path)) {
    visit(schema, at);
    for (name, member) in &schema.properties {
        each_node(member, &at.child("properties").key(name), visit);
    }
    if let Some(additional) = &schema.additional_properties {
        each_node(additional, &at.child("additionalProperties"), visit);
    }
    if let Some(items) = &schema.items {
        each_node(items, &at.child("items"), visit);
    }
}
