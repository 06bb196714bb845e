//! Types of rules, as far as they can be told: finds fields that the schema does not declare, unknown names and
//! functions, comparisons of what cannot be equal, and results of the wrong type.
//!
//! It errs on the side of [`Ty::Dyn`]: what it does not know it lets pass, for the evaluation to find out.

use kube_cel::cel::common::ast::operators as op;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use kube_cel::cel::parser::Expression;

use super::{escape, foreign, functions};
use crate::model::{Schema, Type};

/// The type of an expression.
#[derive(Debug, Clone)]
pub(super) enum Ty<'s> {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Timestamp,
    Duration,
    Null,
    /// What a schema describes: an object, a map or a list. `true`: it is a whole Kubernetes object.
    Node(&'s Schema, bool),
    List(Box<Ty<'s>>),
    Optional(Box<Ty<'s>>),
}

impl<'s> Ty<'s> {
    /// The type of values that `schema` describes.
    pub(super) fn of(schema: &'s Schema, is_object: bool) -> Self {
        if schema.int_or_string {
            return Self::Dyn;
        }
        match schema.type_ {
            None => Self::Dyn,
            Some(Type::Boolean) => Self::Bool,
            Some(Type::Integer) => Self::Int,
            Some(Type::Number) => Self::Double,
            Some(Type::Object | Type::Array) => Self::Node(schema, is_object || schema.embedded_resource),
            Some(Type::String) => match schema.constraints.format.as_deref() {
                Some("date-time" | "date" | "datetime") => Self::Timestamp,
                Some("duration") => Self::Duration,
                Some("byte") => Self::Bytes,
                _ => Self::Text,
            },
        }
    }

    fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::List(_) => "list",
            Self::Node(schema, _) if schema.type_ == Some(Type::Array) => "list",
            Self::Node(..) => "object",
            Self::Dyn | Self::Null | Self::Optional(_) => return None,
        })
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    fn item(&self) -> Ty<'s> {
        match self {
            Self::List(item) => (**item).clone(),
            Self::Node(schema, _) => match (schema.type_, &schema.items, &schema.additional_properties) {
                (Some(Type::Array), Some(items), _) => Ty::of(items, false),
                (Some(Type::Object), _, Some(_)) => Self::Text,
                _ => Self::Dyn,
            },
            _ => Self::Dyn,
        }
    }
}

/// Finds the type of a rule.
///
/// # Errors
/// What is wrong, as cel-go words it, with the place in the source.
pub(super) fn check<'s>(tree: &Expression, source: &str, variables: Vec<(&str, Ty<'s>)>) -> Result<Ty<'s>, String> {
    let mut checker = Checker { source, variables, errors: Vec::new() };
    let result = checker.infer(tree);
    if checker.errors.is_empty() { Ok(result) } else { Err(checker.errors.join("\n")) }
}

struct Checker<'a, 's> {
    source: &'a str,
    variables: Vec<(&'a str, Ty<'s>)>,
    errors: Vec<String>,
}

impl<'a, 's> Checker<'a, 's> {
    /// Reports an error at the first place where `text` stands; the parser does not tell where its nodes come from.
    fn report(&mut self, text: &str, offset: usize, message: &str) {
        let at = self.source.find(text).map_or(0, |at| at + offset);
        let before = &self.source[..at];
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = self.source.lines().nth(line).unwrap_or_default();
        let dots = ".".repeat(column);
        let number = line + 1;
        self.errors.push(format!("ERROR: <input>:{number}:{}: {message}\n | {shown}\n | {dots}^", column + 1));
    }

    fn infer(&mut self, expression: &'a Expression) -> Ty<'s> {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Ty::Bool,
                LiteralValue::Bytes(_) => Ty::Bytes,
                LiteralValue::Double(_) => Ty::Double,
                LiteralValue::Int(_) => Ty::Int,
                LiteralValue::Null => Ty::Null,
                LiteralValue::String(_) => Ty::Text,
                LiteralValue::UInt(_) => Ty::Uint,
            },
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let operand = self.infer(&select.operand);
                let (operand, optional) = match operand {
                    Ty::Optional(inner) => (*inner, true),
                    other => (other, false),
                };
                let member = self.member(&operand, &select.field);
                match (select.test, optional) {
                    (true, _) => Ty::Bool,
                    (_, true) => Ty::Optional(Box::new(member)),
                    _ => member,
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let items: Vec<Ty<'s>> = list.elements.iter().map(|e| self.infer(e)).collect();
                let same = items.windows(2).all(|pair| pair[0].name().is_some() && pair[0].name() == pair[1].name());
                Ty::List(Box::new(items.into_iter().next().filter(|_| same).unwrap_or(Ty::Dyn)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key);
                        self.infer(&entry.value);
                    }
                }
                Ty::Dyn
            }
            Expr::Comprehension(loop_) => {
                let range = self.infer(&loop_.iter_range);
                let is_list = matches!(loop_.accu_init.expr, Expr::List(_));
                let accumulator = self.infer(&loop_.accu_init);
                let gathers = if is_list { Ty::Dyn } else { accumulator };
                self.variables.push((&loop_.accu_var, gathers));
                self.variables.push((&loop_.iter_var, range.item()));
                let step = self.infer(&loop_.loop_step);
                self.variables.pop();
                let result = self.infer(&loop_.result);
                self.variables.pop();
                if is_list { step } else { result }
            }
            Expr::Struct(_) | Expr::Unspecified => Ty::Dyn,
        }
    }

    fn variable(&mut self, name: &str) -> Ty<'s> {
        if let Some((_, type_)) = self.variables.iter().rev().find(|(bound, _)| *bound == name) {
            return type_.clone();
        }
        if functions::type_constant(name).is_none() {
            self.report(name, 0, &format!("undeclared reference to '{name}' (in container '')"));
        }
        Ty::Dyn
    }

    fn member(&mut self, holder: &Ty<'s>, field: &str) -> Ty<'s> {
        let (schema, is_object) = match holder {
            Ty::Node(schema, is_object) => (*schema, *is_object),
            other => {
                if let Some(name) = other.name().filter(|_| !matches!(other, Ty::List(_))) {
                    self.report(&format!(".{field}"), 0, &format!("type '{name}' does not support field selection"));
                }
                return Ty::Dyn;
            }
        };
        if schema.type_ == Some(Type::Array) {
            self.report(&format!(".{field}"), 0, "type 'list' does not support field selection");
            return Ty::Dyn;
        }
        let name = escape::unescape(field);
        if let Some(member) = schema.properties.get(&name).filter(|_| escape::escape(&name).as_deref() == Some(field)) {
            return Ty::of(member, false);
        }
        if let Some(shared) = &schema.additional_properties {
            return Ty::of(shared, false);
        }
        match (is_object, name.as_str()) {
            (true, "apiVersion" | "kind") => Ty::Text,
            (true, "metadata") => Ty::Dyn,
            _ if schema.preserve_unknown_fields && schema.properties.is_empty() => Ty::Dyn,
            _ => {
                self.report(&format!(".{field}"), 0, &format!("undefined field '{field}'"));
                Ty::Dyn
            }
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Ty<'s> {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            return self.method(name, target, &call.args);
        }
        if let (op::OPT_SELECT, [operand, field]) = (name, &call.args[..]) {
            let operand = match self.infer(operand) {
                Ty::Optional(inner) => *inner,
                other => other,
            };
            let member = match &field.expr {
                Expr::Literal(LiteralValue::String(field)) => self.member(&operand, field.inner()),
                _ => Ty::Dyn,
            };
            return Ty::Optional(Box::new(member));
        }
        let args: Vec<Ty<'s>> = call.args.iter().map(|a| self.infer(a)).collect();
        match (name, &args[..]) {
            (op::CONDITIONAL, [condition, yes, no]) => {
                self.expect_bool(name, &[condition]);
                if yes.name() == no.name() { yes.clone() } else { Ty::Dyn }
            }
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, operands) => {
                self.expect_bool(name, &operands.iter().collect::<Vec<_>>());
                Ty::Bool
            }
            (op::NOT_STRICTLY_FALSE, _) => Ty::Bool,
            (op::EQUALS | op::NOT_EQUALS, [a, b]) => {
                self.expect_alike(name, a, b, false);
                Ty::Bool
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                self.expect_alike(name, a, b, true);
                Ty::Bool
            }
            (op::IN, _) => Ty::Bool,
            (op::INDEX, [holder, _]) => match holder {
                Ty::Node(schema, _) => match (&schema.items, &schema.additional_properties) {
                    (Some(items), _) => Ty::of(items, false),
                    (None, Some(shared)) => Ty::of(shared, false),
                    _ => Ty::Dyn,
                },
                Ty::List(item) => (**item).clone(),
                _ => Ty::Dyn,
            },
            (op::ADD, [a, b]) => {
                let is_time = |t: &Ty<'_>| matches!(t, Ty::Timestamp | Ty::Duration);
                match (a.name(), b.name()) {
                    (Some(_), Some(_)) if is_time(a) || is_time(b) => Ty::Dyn,
                    (Some("list"), Some("list")) => Ty::List(Box::new(a.item())),
                    (Some(x), Some(y)) if x == y && x != "object" && x != "bool" => a.clone(),
                    (Some(x), Some(y)) => {
                        self.no_overload("_+_", &format!("{x}, {y}"), "+");
                        Ty::Dyn
                    }
                    _ => Ty::Dyn,
                }
            }
            (op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) if a.is_number() && b.is_number() => {
                if a.name() == b.name() { a.clone() } else { Ty::Dyn }
            }
            ("size", [_]) | ("int", _) => Ty::Int,
            ("string", _) => Ty::Text,
            ("bool", _) => Ty::Bool,
            ("double", _) => Ty::Double,
            ("duration", _) => Ty::Duration,
            ("timestamp", _) => Ty::Timestamp,
            _ => {
                if !name.starts_with(['_', '@', '!', '-']) && !functions::is_known(name) {
                    self.report(name, 0, &format!("undeclared reference to '{name}' (in container '')"));
                }
                Ty::Dyn
            }
        }
    }

    fn method(&mut self, name: &'a str, target: &'a Expression, args: &'a [Expression]) -> Ty<'s> {
        if let Expr::Ident(library) = &target.expr
            && foreign::is_library(library)
            && !self.variables.iter().any(|(bound, _)| bound == library)
        {
            for arg in args {
                self.infer(arg);
            }
            if !functions::is_known(&format!("{library}.{name}")) {
                let message = format!("undeclared reference to '{library}.{name}' (in container '')");
                self.report(library, 0, &message);
            }
            return if library == "sets" { Ty::Bool } else { Ty::Dyn };
        }
        let target_type = self.infer(target);
        if is_macro(name, args) {
            self.macro_(name, &target_type, args);
            return if matches!(name, "all" | "exists" | "existsOne" | "exists_one") { Ty::Bool } else { Ty::Dyn };
        }
        for arg in args {
            self.infer(arg);
        }
        if !functions::is_known(name) {
            let message = format!("undeclared reference to '{name}' (in container '')");
            self.report(&format!(".{name}"), 1, &message);
            return Ty::Dyn;
        }
        match name {
            "contains" | "startsWith" | "endsWith" | "matches" | "isSorted" | "hasValue" => Ty::Bool,
            "size" => Ty::Int,
            "lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "charAt" | "join" | "format" => Ty::Text,
            "value" => match target_type {
                Ty::Optional(inner) => *inner,
                _ => Ty::Dyn,
            },
            _ => Ty::Dyn,
        }
    }

    fn macro_(&mut self, name: &str, target: &Ty<'s>, args: &'a [Expression]) {
        let bound = self.variables.len();
        let count = if name.starts_with("opt") { 1 } else { 2 };
        let inner = match target {
            Ty::Optional(inner) => (**inner).clone(),
            _ => Ty::Dyn,
        };
        for (index, arg) in args.iter().enumerate() {
            match &arg.expr {
                Expr::Ident(variable) if index < count => self.variables.push((variable, inner.clone())),
                _ => {
                    self.infer(arg);
                }
            }
        }
        self.variables.truncate(bound);
    }

    fn expect_bool(&mut self, name: &str, operands: &[&Ty<'s>]) {
        for operand in operands {
            if let Some(type_) = operand.name().filter(|t| *t != "bool") {
                let symbol = name.trim_matches('_');
                self.no_overload(name, type_, symbol);
            }
        }
    }

    fn expect_alike(&mut self, name: &str, a: &Ty<'s>, b: &Ty<'s>, ordered: bool) {
        let (Some(left), Some(right)) = (a.name(), b.name()) else { return };
        let alike = left == right || (ordered && a.is_number() && b.is_number());
        if !alike {
            let symbol = name.trim_matches('_');
            self.no_overload(name, &format!("{left}, {right}"), symbol);
        }
    }

    fn no_overload(&mut self, name: &str, types: &str, symbol: &str) {
        self.report(symbol, 0, &format!("found no matching overload for '{name}' applied to '({types})'"));
    }
}

fn is_macro(name: &str, args: &[Expression]) -> bool {
    matches!(
        (name, args.len()),
        ("optMap" | "optFlatMap", 2)
            | ("all" | "exists" | "existsOne" | "exists_one", 3)
            | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4)
    )
}
