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
        let detail = "must be non-empty if specified";
        errors.push(Error::invalid(&at.child("message"), rule.message.as_str(), detail));
    } else if has_newline(&rule.message) {
        let detail = "must not contain line breaks";
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
    let mut report = |detail: &str| errors.push(Error::invalid(&path_at, rule.field_path.as_str(), detail));
    if is_blank(&rule.field_path) {
        report("must be non-empty if specified");
    }
    if rule.field_path.contains(['\n', '\r']) {
        report("must not contain line breaks");
    }
    if cel::resolve_field_path(&rule.field_path, schema).is_err() {
        report("must be a valid path");
    }
}

/// Compiles all rules of a sound schema, and adds up what they may cost.
pub(super) fn compile(schema: &Schema, at: &Path, errors: &mut Vec<Error>) {
    let mut any = false;
    each_node(schema, at, &mut |schema, _| any |= !schema.rules.is_empty());
    if !any {
        return;
    }
    match cel::with_deep_stack(|| {
        let mut compiler = Compiler { errors: Vec::new(), total: 0, expensive: Vec::new() };
        compiler.node(schema, &Place { is_root: true, split: None, times: Some(1) }, at);
        compiler.finish(at)
    }) {
        Ok(found) => errors.extend(found),
        Err(error) => errors.push(Error::internal(at, error)),
    }
}

/// Where in a schema a node is.
struct Place<'a> {
    is_root: bool,
    /// The nearest list or map above whose parts cannot be paired with old ones.
    split: Option<&'a Path>,
    /// How many such values an object has at most; `None` where a list or map above has no limit.
    times: Option<u64>,
}

/// Rules that cost most are named when all together cost too much.
const NAMED: usize = 4;

struct Compiler {
    errors: Vec<Error>,
    /// What all rules of the schema may cost.
    total: u64,
    /// Those that make up a hundredth of the limit or more, the dearest first.
    expensive: Vec<(Path, u64)>,
}

impl Compiler {
    fn node(&mut self, schema: &Schema, place: &Place<'_>, at: &Path) {
        for (index, rule) in schema.rules.iter().enumerate() {
            self.rule(rule, schema, place, &at.child("x-kubernetes-validations").index(index));
        }
        let is_one_value = schema.map_type == Some(MapType::Atomic);
        let below = if is_one_value { place.split.or(Some(at)) } else { place.split };
        let inside = |split, times| Place { is_root: false, split, times };
        for (name, member) in &schema.properties {
            self.node(member, &inside(below, place.times), &at.child("properties").key(name));
        }
        let many = |limit: Option<i64>| {
            let limit = limit.and_then(|limit| u64::try_from(limit).ok());
            place.times.and_then(|times| limit.map(|limit| times.saturating_mul(limit)))
        };
        if let Some(additional) = &schema.additional_properties {
            let times = many(schema.constraints.max_properties);
            self.node(additional, &inside(below, times), &at.child("additionalProperties"));
        }
        if let Some(items) = &schema.items {
            let below = if schema.is_map_list() { place.split } else { place.split.or(Some(at)) };
            self.node(items, &inside(below, many(schema.constraints.max_items)), &at.child("items"));
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, place: &Place<'_>, rule_at: &Path) {
        let program = match cel::check_rule(rule, schema, place.is_root) {
            Ok(program) => program,
            Err(problem) => {
                let name = if problem.in_message { "messageExpression" } else { "rule" };
                let error = Error::invalid(&rule_at.child(name), rule.rule.as_str(), problem.detail);
                return self.errors.push(error.show_value(go_struct(rule)));
            }
        };
        let (cost, message) = program.costs(schema);
        let times = place.times.unwrap_or_else(|| cel::cardinality(schema));
        self.observe(cost.saturating_mul(times), "estimated rule cost", rule_at.child("rule"));
        if let Some(cost) = message {
            self.observe(cost, "estimated messageExpression cost", rule_at.child("messageExpression"));
        }
        if let Some(split) = place.split.filter(|_| program.uses_old_self) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {split}");
            self.errors.push(Error::invalid(&rule_at.child("rule"), rule.rule.as_str(), detail));
        }
        if let (false, Some(optional)) = (program.uses_old_self, rule.optional_old_self) {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&rule_at.child("optionalOldSelf"), optional, detail));
        }
    }

    fn observe(&mut self, cost: u64, what: &str, at: Path) {
        if cost > cel::PER_EXPRESSION {
            self.errors.push(Error::forbidden(&at, over_budget(what, cost, cel::PER_EXPRESSION)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= cel::PER_SCHEMA / 100 {
            self.expensive.push((at, cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(NAMED);
        }
    }

    fn finish(mut self, at: &Path) -> Vec<Error> {
        if self.total > cel::PER_SCHEMA {
            for (path, _) in &self.expensive {
                let text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.errors.push(Error::forbidden(path, text));
            }
            let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            self.errors.push(Error::forbidden(at, over_budget(what, self.total, cel::PER_SCHEMA)));
        }
        self.errors
    }
}

fn over_budget(what: &str, cost: u64, budget: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "the factor is told with one digit")]
    let factor = cost as f64 / budget as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        // One digit would say 1.0.
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
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
