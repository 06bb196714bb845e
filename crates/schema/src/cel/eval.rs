//! The interpreter: walks the syntax tree that the `cel` crate parses, over values that stay in the object.
//!
//! Every node of the tree costs, so a rule ends after a bounded number of steps, whatever it and the object say; the
//! depth of the tree is bounded when it is parsed, and with it the stack.

use std::rc::Rc;

use kube_cel::cel::common::ast::operators as op;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr};
use kube_cel::cel::parser::Expression;
use serde_json::Value;

use super::budget::Budget;
use super::value::{Fail, Node, Outcome, Text, Val, fail, no_such_overload};
use super::{escape, foreign, functions, operators};

/// The variable in which the loops that macros expand to gather their result.
const ACCUMULATOR: &str = "@result";

/// One evaluation: what variables are bound to, and what may still be spent.
pub(super) struct Evaluator<'e, 'v> {
    variables: Vec<(&'e str, Val<'v>)>,
    pub(super) budget: Budget,
}

impl<'e, 'v> Evaluator<'e, 'v> {
    pub(super) fn new(variables: Vec<(&'e str, Val<'v>)>, budget: Budget) -> Self {
        Self { variables, budget }
    }

    pub(super) fn eval(&mut self, expression: &'e Expression) -> Outcome<Val<'v>> {
        self.budget.pay(1)?;
        match &expression.expr {
            Expr::Literal(literal) => Ok(literal_value(literal)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(loop_) => self.comprehension(loop_),
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.elements.len());
                for (index, element) in list.elements.iter().enumerate() {
                    let value = self.eval(element)?;
                    if !list.optional_indices.contains(&index) {
                        items.push(value);
                    } else if let Val::Optional(Some(inner)) = value {
                        items.push((*inner).clone());
                    }
                }
                Ok(Val::list(items))
            }
            Expr::Map(map) => {
                let mut entries: Vec<(Val<'v>, Val<'v>)> = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let key = self.eval(&entry.key)?;
                    let mut value = self.eval(&entry.value)?;
                    if entry.optional {
                        let Val::Optional(inner) = value else { return no_such_overload() };
                        let Some(inner) = inner else { continue };
                        value = (*inner).clone();
                    }
                    if entries.iter().any(|(other, _)| super::value::equal(other, &key)) {
                        return fail("Failed with repeated key");
                    }
                    entries.push((key, value));
                }
                Ok(Val::Map(Rc::new(entries)))
            }
            Expr::Struct(object) => fail(format!("unknown type: '{}'", object.type_name)),
            Expr::Unspecified => no_such_overload(),
        }
    }

    fn variable(&self, name: &str) -> Outcome<Val<'v>> {
        match self.variables.iter().rev().find(|(bound, _)| *bound == name) {
            Some((_, Val::Failed(text))) => fail(text.as_ref()),
            Some((_, value)) => Ok(value.clone()),
            None => match functions::type_constant(name) {
                Some(type_) => Ok(Val::Type(type_)),
                None => fail(format!("no such attribute(s): {name}")),
            },
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.variables.iter().any(|(bound, _)| *bound == name)
    }

    fn select(&mut self, select: &'e SelectExpr) -> Outcome<Val<'v>> {
        let operand = self.eval(&select.operand)?;
        if let Val::Optional(inner) = operand {
            let found = inner.and_then(|inner| member(&inner, &select.field));
            return Ok(if select.test { Val::Bool(found.is_some()) } else { Val::Optional(found.map(Rc::new)) });
        }
        if !is_map(&operand) {
            return no_such_overload();
        }
        match member(&operand, &select.field) {
            found if select.test => Ok(Val::Bool(found.is_some())),
            Some(value) => Ok(value),
            None => fail(format!("no such key: {}", escape::unescape(&select.field))),
        }
    }

    fn call(&mut self, call: &'e CallExpr) -> Outcome<Val<'v>> {
        let name = call.func_name.as_str();
        match (name, &call.target, &call.args[..]) {
            (op::CONDITIONAL, None, [condition, yes, no]) => match self.eval(condition)? {
                Val::Bool(true) => self.eval(yes),
                Val::Bool(false) => self.eval(no),
                _ => no_such_overload(),
            },
            (op::LOGICAL_AND, None, [a, b]) => self.logical(a, b, false),
            (op::LOGICAL_OR, None, [a, b]) => self.logical(a, b, true),
            (op::NOT_STRICTLY_FALSE, None, [condition]) => match self.eval(condition) {
                Err(Fail::OverBudget) => Err(Fail::OverBudget),
                Ok(Val::Bool(false)) => Ok(Val::Bool(false)),
                _ => Ok(Val::Bool(true)),
            },
            (op::ADD, None, [a, b]) => match (&a.expr, &b.expr) {
                (Expr::Ident(accumulator), Expr::List(_)) if accumulator == ACCUMULATOR => self.append(b),
                _ => self.operator(name, a, b),
            },
            (op::OPT_SELECT, None, [operand, field]) => self.optional_select(operand, field),
            (_, None, [a, b]) if operators::is_binary(name) => self.operator(name, a, b),
            (op::LOGICAL_NOT, None, [a]) => match self.eval(a)? {
                Val::Bool(flag) => Ok(Val::Bool(!flag)),
                _ => no_such_overload(),
            },
            (op::NEGATE, None, [a]) => operators::negate(&self.eval(a)?),
            (_, Some(target), args) => self.method(name, target, args),
            (_, None, args) => {
                let args = self.eval_all(args)?;
                functions::call(name, None, args, &mut self.budget)
            }
        }
    }

    fn eval_all(&mut self, expressions: &'e [Expression]) -> Outcome<Vec<Val<'v>>> {
        expressions.iter().map(|e| self.eval(e)).collect()
    }

    fn operator(&mut self, name: &str, a: &'e Expression, b: &'e Expression) -> Outcome<Val<'v>> {
        let a = self.eval(a)?;
        let b = self.eval(b)?;
        operators::binary(name, &a, &b, &mut self.budget)
    }

    /// `&&` and `||`: one side that decides makes up for an error on the other.
    fn logical(&mut self, a: &'e Expression, b: &'e Expression, decisive: bool) -> Outcome<Val<'v>> {
        let left = self.eval(a);
        match left {
            Err(Fail::OverBudget) => return left,
            Ok(Val::Bool(flag)) if flag == decisive => return Ok(Val::Bool(decisive)),
            _ => {}
        }
        match (left, self.eval(b)) {
            (_, Err(Fail::OverBudget)) => Err(Fail::OverBudget),
            (_, Ok(Val::Bool(flag))) if flag == decisive => Ok(Val::Bool(decisive)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!decisive)),
            _ => no_such_overload(),
        }
    }

    /// `@result + [item]`, without copying what was gathered before.
    fn append(&mut self, list: &'e Expression) -> Outcome<Val<'v>> {
        let Val::List(new) = self.eval(list)? else { return no_such_overload() };
        let slot = self.variables.iter_mut().rev().find(|(name, _)| *name == ACCUMULATOR);
        match slot.map(|(_, value)| std::mem::replace(value, Val::Null)) {
            Some(Val::List(mut gathered)) => {
                Rc::make_mut(&mut gathered).extend(new.iter().cloned());
                Ok(Val::List(gathered))
            }
            Some(Val::Failed(text)) => fail(text.as_ref()),
            _ => no_such_overload(),
        }
    }

    fn optional_select(&mut self, operand: &'e Expression, field: &'e Expression) -> Outcome<Val<'v>> {
        let operand = self.eval(operand)?;
        let Expr::Literal(LiteralValue::String(field)) = &field.expr else { return no_such_overload() };
        let holder = match &operand {
            Val::Optional(inner) => inner.as_deref(),
            other => Some(other),
        };
        Ok(Val::Optional(holder.and_then(|holder| member(holder, field.inner())).map(Rc::new)))
    }

    fn method(&mut self, name: &str, target: &'e Expression, args: &'e [Expression]) -> Outcome<Val<'v>> {
        if let Expr::Ident(library) = &target.expr
            && foreign::is_library(library)
            && !self.is_bound(library)
        {
            let args = self.eval_all(args)?;
            return functions::call(&format!("{library}.{name}"), None, args, &mut self.budget);
        }
        if let Some((variables, bodies)) = macro_parts(name, args) {
            let target = self.eval(target)?;
            return self.macro_(name, &target, &variables, bodies);
        }
        let target = self.eval(target)?;
        if let (Val::Optional(inner), "or" | "orValue", [other]) = (&target, name, args) {
            return match (inner, name) {
                (Some(_), "or") => Ok(target),
                (Some(inner), _) => Ok((**inner).clone()),
                (None, _) => self.eval(other),
            };
        }
        let args = self.eval_all(args)?;
        functions::call(name, Some(target), args, &mut self.budget)
    }

    fn with<T>(&mut self, name: &'e str, value: Val<'v>, work: impl FnOnce(&mut Self) -> T) -> T {
        self.variables.push((name, value));
        let result = work(self);
        self.variables.pop();
        result
    }

    fn comprehension(&mut self, loop_: &'e ComprehensionExpr) -> Outcome<Val<'v>> {
        let range = self.eval(&loop_.iter_range)?;
        let initial = self.eval(&loop_.accu_init)?;
        let steps = steps(&range)?;
        self.variables.push((&loop_.accu_var, initial));
        let slot = self.variables.len() - 1;
        let mut outcome = Ok(());
        for index in 0..steps.len() {
            let Some(item) = steps.get(index) else { break };
            let step = self.with(&loop_.iter_var, item, |this| {
                Ok(match this.eval(&loop_.loop_cond)? {
                    Val::Bool(true) => Some(this.eval(&loop_.loop_step)),
                    _ => None,
                })
            });
            match step {
                Ok(None) => break,
                Ok(Some(Ok(value))) => self.variables[slot].1 = value,
                // The error is what was gathered: a later item can still decide.
                Ok(Some(Err(Fail::Error(text)))) => self.variables[slot].1 = Val::Failed(text.into()),
                Ok(Some(Err(over))) | Err(over) => {
                    outcome = Err(over);
                    break;
                }
            }
        }
        let result = outcome.and_then(|()| self.eval(&loop_.result));
        self.variables.truncate(slot);
        result
    }

    /// Macros that the parser leaves as calls: those with two variables, and those of optionals.
    fn macro_(
        &mut self,
        name: &str,
        target: &Val<'v>,
        variables: &[&'e str],
        bodies: &'e [Expression],
    ) -> Outcome<Val<'v>> {
        if let ([variable], Val::Optional(inner)) = (variables, target) {
            let Some(inner) = inner else { return Ok(Val::Optional(None)) };
            let value = self.with(variable, (**inner).clone(), |this| this.eval(&bodies[0]))?;
            return Ok(match (name, value) {
                ("optFlatMap", value @ Val::Optional(_)) => value,
                ("optFlatMap", _) => return no_such_overload(),
                (_, value) => Val::Optional(Some(Rc::new(value))),
            });
        }
        let [key_name, value_name] = variables else { return no_such_overload() };
        let steps = steps(target)?;
        let (mut hits, mut failure) = (0usize, None);
        let mut gathered: Vec<(Val<'v>, Val<'v>)> = Vec::new();
        let (filter, body) = if let [filter, body] = bodies { (Some(filter), body) } else { (None, &bodies[0]) };
        for index in 0..steps.len() {
            let Some((key, value)) = steps.pair(index) else { break };
            let outcome = self.with(key_name, key.clone(), |this| {
                this.with(value_name, value, |this| {
                    if let Some(filter) = filter
                        && !matches!(this.eval(filter)?, Val::Bool(true))
                    {
                        return Ok(None);
                    }
                    this.eval(body).map(Some)
                })
            });
            match (name, outcome) {
                (_, Err(Fail::OverBudget)) => return Err(Fail::OverBudget),
                ("all" | "exists", Err(error)) => failure = Some(error),
                (_, Err(error)) => return Err(error),
                ("all", Ok(Some(Val::Bool(false)))) => return Ok(Val::Bool(false)),
                ("exists", Ok(Some(Val::Bool(true)))) => return Ok(Val::Bool(true)),
                ("existsOne" | "exists_one", Ok(Some(Val::Bool(true)))) => hits += 1,
                ("transformList" | "transformMap", Ok(Some(made))) => gathered.push((key, made)),
                ("transformMapEntry", Ok(Some(made))) => gathered.extend(made.entries().unwrap_or_default()),
                _ => {}
            }
        }
        match (failure, name) {
            (Some(error), _) => Err(error),
            (None, "all") => Ok(Val::Bool(true)),
            (None, "exists") => Ok(Val::Bool(false)),
            (None, "existsOne" | "exists_one") => Ok(Val::Bool(hits == 1)),
            (None, "transformList") => Ok(Val::list(gathered.into_iter().map(|(_, value)| value).collect())),
            (None, _) => Ok(Val::Map(Rc::new(gathered))),
        }
    }
}

/// Variables and bodies of a call that is a macro.
fn macro_parts<'e>(name: &str, args: &'e [Expression]) -> Option<(Vec<&'e str>, &'e [Expression])> {
    let variable_count = match (name, args.len()) {
        ("optMap" | "optFlatMap", 2) => 1,
        ("all" | "exists" | "existsOne" | "exists_one", 3) => 2,
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => 2,
        _ => return None,
    };
    let (variables, bodies) = args.split_at(variable_count);
    let names = variables.iter().map(|v| match &v.expr {
        Expr::Ident(name) => Some(name.as_str()),
        _ => None,
    });
    Some((names.collect::<Option<Vec<_>>>()?, bodies))
}

/// What a loop goes through: items of a list, or keys of a map.
enum Steps<'a, 'v> {
    Items(super::value::Items<'a, 'v>),
    Entries(Vec<(Val<'v>, Val<'v>)>),
}

fn steps<'a, 'v>(range: &'a Val<'v>) -> Outcome<Steps<'a, 'v>> {
    match range.items() {
        Some(items) => Ok(Steps::Items(items)),
        None => range.entries().map_or_else(no_such_overload, |entries| Ok(Steps::Entries(entries))),
    }
}

impl<'v> Steps<'_, 'v> {
    fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Entries(entries) => entries.len(),
        }
    }

    fn get(&self, index: usize) -> Option<Val<'v>> {
        match self {
            Self::Items(items) => items.get(index),
            Self::Entries(entries) => entries.get(index).map(|(key, _)| key.clone()),
        }
    }

    /// Index or key, and what is there.
    fn pair(&self, index: usize) -> Option<(Val<'v>, Val<'v>)> {
        match self {
            Self::Items(items) => Some((Val::Int(i64::try_from(index).ok()?), items.get(index)?)),
            Self::Entries(entries) => entries.get(index).cloned(),
        }
    }
}

fn is_map(value: &Val<'_>) -> bool {
    matches!(value, Val::Map(_) | Val::Node(Node { value: Value::Object(_), .. }))
}

/// The member that `.field` reaches.
fn member<'v>(holder: &Val<'v>, field: &str) -> Option<Val<'v>> {
    match holder {
        Val::Node(node) if field.contains("__") && node.is_struct() => node.member(&escape::unescape(field)),
        Val::Node(node) => node.member(field).or_else(|| node.member(&escape::unescape(field))),
        Val::Map(entries) => entries.iter().find(|(key, _)| key.as_text() == Some(field)).map(|(_, v)| v.clone()),
        _ => None,
    }
}

fn literal_value<'v>(literal: &LiteralValue) -> Val<'v> {
    match literal {
        LiteralValue::Boolean(flag) => Val::Bool(*flag.inner()),
        LiteralValue::Bytes(bytes) => Val::Bytes(bytes.inner().into()),
        LiteralValue::Double(n) => Val::Double(*n.inner()),
        LiteralValue::Int(n) => Val::Int(*n.inner()),
        LiteralValue::Null => Val::Null,
        LiteralValue::String(text) => Val::Text(Text::Made(text.inner().into())),
        LiteralValue::UInt(n) => Val::Uint(*n.inner()),
    }
}
