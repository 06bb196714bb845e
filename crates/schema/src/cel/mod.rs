//! `x-kubernetes-validations`: CEL rules, compiled once and run on every write.
//!
//! The `cel` crate parses rules and `kube-cel` brings Kubernetes' function libraries; the evaluation is our own
//! ([`eval`]), because it has to be bounded in time, memory and stack, to read the object where it is, and to follow
//! the schema: member names escaped as Kubernetes does, formats as times and durations, sets and maps in any order.
//! [`Compiled`] mirrors the part of the schema that has rules.

mod budget;
mod check;
mod compile;
mod cost;
mod escape;
mod eval;
mod field_path;
mod foreign;
mod functions;
mod lists;
mod operators;
mod parse;
mod run;
mod strings;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::compile::{Program, check_rule};
pub(crate) use self::cost::{PER_EXPRESSION, PER_SCHEMA, cardinality};
pub(crate) use self::field_path::resolve as resolve_field_path;
pub(crate) use self::parse::with_deep_stack;
use crate::field::Error;
use crate::model::{Rule, Schema};

/// The compiled rules of a schema.
#[derive(Debug, Default)]
pub struct Compiled {
    root: Option<Node>,
}

/// A node of the schema that has rules, or has nodes below that do.
#[derive(Debug)]
struct Node {
    schema: Arc<Schema>,
    rules: Vec<CompiledRule>,
    members: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

#[derive(Debug)]
struct CompiledRule {
    rule: Rule,
    /// `fieldPath`, ready to be appended to the path of the node.
    field_path: Option<String>,
    program: Result<Program, String>,
}

/// What was found in an object.
#[derive(Debug, Default)]
pub struct Findings {
    /// What it is refused for.
    pub errors: Vec<Error>,
    /// What it is only warned of: broken rules about what the writer did not change (KEP-4008).
    pub forgiven: Vec<Error>,
}

impl Compiled {
    /// Compiles all rules of `schema`. A rule that does not compile fails every value it is run on.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        if !has_rules(schema) {
            return Self::default();
        }
        let schema = Arc::new(schema.clone());
        match with_deep_stack(|| compile(&schema)) {
            Ok(root) => Self { root },
            Err(error) => Self {
                root: Some(Node {
                    schema: Arc::clone(&schema),
                    rules: vec![CompiledRule { rule: Rule::default(), field_path: None, program: Err(error) }],
                    members: BTreeMap::new(),
                    additional: None,
                    items: None,
                }),
            },
        }
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Runs the rules on `new`; those that use `oldSelf` only where there is an old value to compare with.
    #[must_use]
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Findings {
        self.root.as_ref().map(|root| run::run(root, new, old, true)).unwrap_or_default()
    }

    /// [`Compiled::validate`] of a default: it has itself as the old value, and is held to every rule.
    #[must_use]
    pub fn validate_default(&self, default: &Value) -> Vec<Error> {
        self.root.as_ref().map(|root| run::run(root, default, Some(default), false).errors).unwrap_or_default()
    }
}

fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(|member| has_rules(member))
        || schema.additional_properties.as_deref().is_some_and(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
}

fn compile(schema: &Arc<Schema>) -> Option<Node> {
    let rules: Vec<CompiledRule> = schema
        .rules
        .iter()
        .filter(|rule| !rule.rule.trim().is_empty())
        .map(|rule| CompiledRule {
            rule: rule.clone(),
            field_path: resolve_field_path(&rule.field_path, schema).ok(),
            program: compile::parse_rule(rule).map_err(|problem| problem.detail),
        })
        .collect();
    let members: BTreeMap<String, Node> = schema
        .properties
        .iter()
        .filter_map(|(name, member)| compile(member).map(|node| (name.clone(), node)))
        .collect();
    let additional = schema.additional_properties.as_ref().and_then(compile).map(Box::new);
    let items = schema.items.as_ref().and_then(compile).map(Box::new);
    let is_empty = rules.is_empty() && members.is_empty() && additional.is_none() && items.is_none();
    (!is_empty).then(|| Node { schema: Arc::clone(schema), rules, members, additional, items })
}
