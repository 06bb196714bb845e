//! A rule made ready: its syntax trees and what it uses.

use kube_cel::cel::parser::Expression;

use super::check::{Ty, check};
use super::parse;
use crate::model::{Rule, Schema};

/// A rule that can be run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) rule: Expression,
    pub(super) message: Option<Expression>,
    /// Whether the rule compares with the value before.
    pub(crate) uses_old_self: bool,
}

impl Program {
    /// What the rule, and its message, may cost at most on one value of `schema`.
    pub(crate) fn costs(&self, schema: &Schema) -> (u64, Option<u64>) {
        let message = self.message.as_ref().map(|message| super::cost::estimate(message, schema));
        (super::cost::estimate(&self.rule, schema), message)
    }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Whether it is `messageExpression` that is wrong, not the rule.
    pub(crate) in_message: bool,
    /// In the words of Kubernetes.
    pub(crate) detail: String,
}

/// Parses a rule; call it inside [`parse::with_deep_stack`].
pub(crate) fn parse_rule(rule: &Rule) -> Result<Program, Problem> {
    let wrong = |in_message| move |detail| Problem { in_message, detail: format!("compilation failed: {detail}") };
    let tree = parse::parse(rule.rule.trim()).map_err(wrong(false))?;
    let message = match rule.message_expression.trim() {
        "" => None,
        text => Some(parse::parse(text).map_err(wrong(true))?),
    };
    let uses_old_self = parse::mentions(&tree, "oldSelf");
    Ok(Program { rule: tree, message, uses_old_self })
}

/// Parses a rule and checks its types against the schema that holds it; call it inside [`parse::with_deep_stack`].
pub(crate) fn check_rule(rule: &Rule, schema: &Schema, is_object: bool) -> Result<Program, Problem> {
    let program = parse_rule(rule)?;
    let self_type = || Ty::of(schema, is_object);
    let old_self =
        || if rule.optional_old_self == Some(true) { Ty::Optional(Box::new(self_type())) } else { self_type() };
    let variables = || vec![("self", self_type()), ("oldSelf", old_self())];
    let wrong = |in_message, detail: String| Problem { in_message, detail };
    match check(&program.rule, rule.rule.trim(), variables()) {
        Err(detail) => return Err(wrong(false, format!("compilation failed: {detail}"))),
        Ok(Ty::Bool | Ty::Dyn) => {}
        Ok(_) => return Err(wrong(false, "cel expression must evaluate to a bool".to_owned())),
    }
    if let Some(message) = &program.message {
        let source = rule.message_expression.trim();
        match check(message, source, variables()) {
            Err(detail) => {
                return Err(wrong(true, format!("messageExpression compilation failed: {detail}")));
            }
            Ok(Ty::Text | Ty::Dyn) => {}
            Ok(_) => return Err(wrong(true, "messageExpression must evaluate to a string".to_owned())),
        }
    }
    Ok(program)
}
