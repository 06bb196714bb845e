//! Runs compiled rules over an object, paired with the old one where the schema says what belongs together.

use serde_json::Value;

use super::budget::{Budget, PER_OBJECT, PER_RULE};
use super::eval::Evaluator;
use super::value::{Fail, Val};
use super::{CompiledRule, Findings, Node, Program};
use crate::field::{Error, ErrorType, Path, Shown};
use crate::model::{MapType, Rule, Type};
use crate::validate::{At, OldItems};

/// Longest text that a `messageExpression` may make.
const MAX_MESSAGE: usize = 5 * 1024;

/// With `ratchet`, what did not change is not held against the writer.
pub(super) fn run(root: &Node, new: &Value, old: Option<&Value>, ratchet: bool) -> Findings {
    let mut run = Run { left: PER_OBJECT, found: Findings::default(), ratchet };
    // Out of budget: what was found so far, with the error that says so, is the result.
    let _ = run.node(root, &At::Start(""), new, old, None);
    run.found
}

/// The nearest value, here or above, that has an old one: the new and the old.
type Nearest<'v> = Option<(&'v Value, &'v Value)>;

struct Run {
    left: u64,
    found: Findings,
    ratchet: bool,
}

/// No further rules are run.
struct Stop;

impl Run {
    fn node<'v>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        new: &'v Value,
        old: Option<&'v Value>,
        above: Nearest<'v>,
    ) -> Result<(), Stop> {
        let nearest = old.map(|old| (new, old)).or(above);
        if new.is_null() {
            return Ok(());
        }
        for rule in &node.rules {
            self.rule(rule, node, at, new, old, nearest)?;
        }
        match new {
            Value::Object(members) if !node.members.is_empty() || node.additional.is_some() => {
                let is_one_value = node.schema.map_type == Some(MapType::Atomic);
                let old_members = old.filter(|_| !is_one_value).and_then(Value::as_object);
                for (name, member) in members {
                    let old_member = old_members.and_then(|o| o.get(name));
                    if let Some(own) = node.members.get(name) {
                        self.node(own, &At::Member(at, name), member, old_member, nearest)?;
                    } else if let Some(shared) = &node.additional
                        && !node.schema.properties.contains_key(name)
                    {
                        self.node(shared, &At::Key(at, name), member, old_member, nearest)?;
                    }
                }
            }
            Value::Array(items) => {
                if let Some(own) = &node.items {
                    let pairs = OldItems::new(old, &node.schema);
                    for (index, item) in items.iter().enumerate() {
                        self.node(own, &At::Index(at, index), item, pairs.find(item), nearest)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(
        &mut self,
        compiled: &CompiledRule,
        node: &Node,
        at: &At<'_>,
        new: &Value,
        old: Option<&Value>,
        nearest: Nearest<'_>,
    ) -> Result<(), Stop> {
        let type_ = node.schema.type_.map_or("", Type::name);
        let rule = &compiled.rule;
        let program = match &compiled.program {
            Ok(program) => program,
            Err(error) => {
                self.report(at, type_, format!("rule compile error: {error}"));
                return Ok(());
            }
        };
        let optional_old = rule.optional_old_self == Some(true);
        if program.uses_old_self && old.is_none() && !optional_old {
            return Ok(());
        }
        let variables = || {
            let schema = Some(node.schema.as_ref());
            let old = old.map(|old| Val::of(old, schema));
            let old = if optional_old { Some(Val::Optional(old.map(Into::into))) } else { old };
            let mut variables = vec![("self", Val::of(new, schema))];
            variables.extend(old.map(|old| ("oldSelf", old)));
            variables
        };
        let limit = self.left.min(PER_RULE);
        let mut evaluator = Evaluator::new(variables(), Budget::new(limit));
        let result = evaluator.eval(&program.rule);
        self.left -= limit - evaluator.budget.left();
        match result {
            Ok(Val::Bool(true)) => {}
            Ok(_) => {
                // Ratcheting: what did not change is not held against the writer, unless the rule is about change. What
                // has no old value of its own, as an item of an atomic list, goes by what holds it.
                let unchanged = || self.ratchet && nearest.is_some_and(|(new, old)| new == old);
                let forgiven = !program.uses_old_self && unchanged();
                let message = self.message(program, rule, variables);
                let found = if forgiven { &mut self.found.forgiven } else { &mut self.found.errors };
                found.push(failed(compiled, at, new, message));
            }
            Err(Fail::OverBudget) if limit < PER_RULE => {
                let detail =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                self.report(at, type_, detail.to_owned());
                return Err(Stop);
            }
            Err(Fail::OverBudget) => {
                let detail = format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    rule_name(rule)
                );
                self.report(at, type_, detail);
                return Err(Stop);
            }
            Err(Fail::Error(error)) if error == "no such overload" => {
                let detail = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                    rule_name(rule)
                );
                self.report(at, type_, detail);
            }
            Err(Fail::Error(error)) => self.report(at, type_, format!("{error} evaluating rule: {}", rule_name(rule))),
        }
        Ok(())
    }

    /// A rule that could not be evaluated: in place of the value stands its type, as in Kubernetes.
    fn report(&mut self, at: &At<'_>, type_: &str, detail: String) {
        self.found.errors.push(Error::invalid(&at.path(), type_, detail));
    }

    /// The text of a failed rule: made by `messageExpression` if that works, else `message`, else the rule itself.
    fn message<'v>(
        &mut self,
        program: &Program,
        rule: &Rule,
        variables: impl FnOnce() -> Vec<(&'static str, Val<'v>)>,
    ) -> String {
        if let Some(expression) = &program.message {
            let limit = self.left.min(PER_RULE);
            let mut evaluator = Evaluator::new(variables(), Budget::new(limit));
            let result = evaluator.eval(expression);
            self.left -= limit - evaluator.budget.left();
            if let Ok(Val::Text(text)) = &result {
                let text = text.as_str().trim();
                if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains(['\n', '\r']) {
                    return text.to_owned();
                }
            }
        }
        let message = rule.message.trim();
        if message.is_empty() { format!("failed rule: {}", rule.rule.trim()) } else { message.to_owned() }
    }
}

/// How errors name a rule.
fn rule_name(rule: &Rule) -> &str {
    let message = rule.message.trim();
    if message.is_empty() { rule.rule.trim() } else { message }
}

fn failed(compiled: &CompiledRule, at: &At<'_>, value: &Value, message: String) -> Error {
    let path = match &compiled.field_path {
        Some(field) if field.starts_with('[') => Path::new(&format!("{at}{field}")),
        Some(field) => At::Member(at, field).path(),
        None => at.path(),
    };
    match compiled.rule.reason.as_str() {
        "FieldValueForbidden" => Error::forbidden(&path, message),
        "FieldValueRequired" => Error::required(&path, message),
        "FieldValueDuplicate" => with_value(ErrorType::Duplicate, path, value, String::new()),
        _ => with_value(ErrorType::Invalid, path, value, message),
    }
}

/// Objects and lists are not printed in messages of rules.
fn with_value(type_: ErrorType, field: Path, value: &Value, detail: String) -> Error {
    let is_composite = value.is_object() || value.is_array();
    let (bad_value, shown) = if is_composite { (Value::Null, Shown::Omitted) } else { (value.clone(), Shown::Value) };
    Error { type_, field, bad_value, detail, shown }
}
