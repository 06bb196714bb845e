//! What a rule may cost at most, told from the schema alone when a definition is created.
//!
//! The model is cel-go's: each step has a cost, work on texts and lists costs by their size, and sizes come from the
//! schema's limits or, where it has none, from the largest request there can be. A loop costs what one turn costs times
//! the largest size of what it goes through.

use kube_cel::cel::common::ast::operators as op;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use kube_cel::cel::parser::Expression;

use super::escape;
use crate::model::{Schema, Type};

/// Most that one expression may cost.
pub(crate) const PER_EXPRESSION: u64 = 10_000_000;
/// Most that all expressions of a schema may cost together.
pub(crate) const PER_SCHEMA: u64 = 100_000_000;

/// Largest request, in bytes.
const REQUEST: u64 = 3 << 20;
const PER_CHARACTER: f64 = 0.1;
const PER_REGEX_CHARACTER: f64 = 0.25;
const LIST: u64 = 10;
const MAP: u64 = 30;
const MESSAGE: u64 = 40;
/// Longest texts of formats that are values of their own: durations, and dates with and without a time.
const DURATION: u64 = 32;
const DATE: u64 = 12;
const DATE_TIME: u64 = 32;

/// What an expression may cost at most, run once on a value of `schema`.
pub(super) fn estimate(tree: &Expression, schema: &Schema) -> u64 {
    let mut estimator = Estimator { variables: vec![("self", Sized::of(schema)), ("oldSelf", Sized::of(schema))] };
    estimator.cost(tree).0
}

/// How many values of a schema fit into one request.
pub(crate) fn cardinality(schema: &Schema) -> u64 {
    REQUEST / (smallest(schema) + 1)
}

/// The least number of bytes of a value.
fn smallest(schema: &Schema) -> u64 {
    if schema.int_or_string {
        return 1;
    }
    match schema.type_ {
        None => 1,
        Some(Type::Boolean) => 4,
        Some(Type::Integer | Type::Number) => 1,
        Some(Type::String) => match schema.constraints.format.as_deref() {
            Some("date" | "date-time" | "datetime") => DATE,
            Some("duration") => 4,
            _ => 2,
        },
        Some(Type::Array) => 2,
        Some(Type::Object) => {
            let required = schema.constraints.required.iter();
            let members = required.filter_map(|name| Some((name, schema.properties.get(name)?)));
            members.filter(|(_, member)| member.default.is_none()).fold(2u64, |sum, (name, member)| {
                sum.saturating_add(u64::try_from(name.len()).unwrap_or(u64::MAX))
                    .saturating_add(smallest(member))
                    .saturating_add(4)
            })
        }
    }
}

/// The largest size of a value, as `size()` would tell it.
fn largest(schema: &Schema) -> u64 {
    let limit = |limit: Option<i64>| limit.map(|limit| u64::try_from(limit).unwrap_or(0));
    if schema.int_or_string {
        return REQUEST - 2;
    }
    match schema.type_ {
        Some(Type::Array) => limit(schema.constraints.max_items)
            .unwrap_or_else(|| (REQUEST - 2) / (schema.items.as_deref().map_or(1, smallest) + 1)),
        Some(Type::Object) => match &schema.additional_properties {
            Some(value) => {
                limit(schema.constraints.max_properties).unwrap_or_else(|| (REQUEST - 2) / (smallest(value) + 6))
            }
            None => 0,
        },
        Some(Type::String) => match schema.constraints.format.as_deref() {
            Some("duration") => DURATION,
            Some("date") => DATE,
            Some("date-time" | "datetime") => DATE_TIME,
            Some("byte") => limit(schema.constraints.max_length).unwrap_or(REQUEST - 2),
            _ => match (limit(schema.constraints.max_length), &schema.constraints.enum_values) {
                // A character has up to four bytes.
                (Some(length), _) => length.saturating_mul(4),
                (None, Some(values)) if !values.is_empty() => {
                    let lengths = values.iter().filter_map(|v| v.as_str()).map(str::len);
                    u64::try_from(lengths.max().unwrap_or(0)).unwrap_or(u64::MAX)
                }
                _ => REQUEST - 2,
            },
        },
        _ => 0,
    }
}

/// What is known of a value: its schema or the values in it, and its largest size.
#[derive(Debug, Clone)]
struct Sized<'s> {
    size: u64,
    kind: Kind<'s>,
}

#[derive(Debug, Clone)]
enum Kind<'s> {
    Schema(&'s Schema),
    List(Box<Sized<'s>>),
    Map(Box<Sized<'s>>),
    Text,
    Scalar,
    Unknown,
}

impl<'s> Sized<'s> {
    const SCALAR: Self = Self { size: 1, kind: Kind::Scalar };
    const UNKNOWN: Self = Self { size: u64::MAX, kind: Kind::Unknown };

    fn of(schema: &'s Schema) -> Self {
        Self { size: largest(schema), kind: Kind::Schema(schema) }
    }

    fn text(size: u64) -> Self {
        Self { size, kind: Kind::Text }
    }

    fn is_text(&self) -> bool {
        match &self.kind {
            Kind::Text => true,
            Kind::Schema(schema) => !schema.int_or_string && schema.type_ == Some(Type::String),
            _ => false,
        }
    }

    fn is_list(&self) -> bool {
        match &self.kind {
            Kind::List(_) => true,
            Kind::Schema(schema) => schema.type_ == Some(Type::Array),
            _ => false,
        }
    }

    /// What a loop over it goes through.
    fn turn(&self) -> Self {
        match &self.kind {
            Kind::List(item) => (**item).clone(),
            Kind::Schema(schema) => match (schema.type_, &schema.items) {
                (Some(Type::Array), Some(items)) => Self::of(items),
                // The names of members, whose length no schema limits and no estimate counts.
                (Some(Type::Object), _) => Self::text(0),
                _ => Self::UNKNOWN,
            },
            Kind::Map(_) => Self::text(0),
            _ => Self::UNKNOWN,
        }
    }

    /// What an index leads to.
    fn at_index(&self) -> Self {
        match &self.kind {
            Kind::List(item) | Kind::Map(item) => (**item).clone(),
            Kind::Schema(schema) => match (&schema.items, &schema.additional_properties) {
                (Some(items), _) => Self::of(items),
                (None, Some(value)) => Self::of(value),
                _ => Self::UNKNOWN,
            },
            _ => Self::UNKNOWN,
        }
    }

    fn member(&self, field: &str) -> Self {
        match &self.kind {
            Kind::Map(value) => (**value).clone(),
            Kind::Schema(schema) => match schema.properties.get(&escape::unescape(field)) {
                Some(member) => Self::of(member),
                None => match &schema.additional_properties {
                    Some(value) => Self::of(value),
                    None => Self::UNKNOWN,
                },
            },
            _ => Self::UNKNOWN,
        }
    }

    fn or(self, other: Self) -> Self {
        Self { size: self.size.max(other.size), ..self }
    }
}

fn scaled(size: u64, factor: f64) -> u64 {
    // Precise enough: estimates are compared with budgets, and what does not fit a float exactly is far above them.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "see above"
    )]
    let cost = (size as f64 * factor).ceil() as u64;
    cost
}

fn by_character(size: u64) -> u64 {
    scaled(size, PER_CHARACTER)
}

struct Estimator<'a, 's> {
    variables: Vec<(&'a str, Sized<'s>)>,
}

impl<'a, 's> Estimator<'a, 's> {
    fn cost(&mut self, expression: &'a Expression) -> (u64, Sized<'s>) {
        match &expression.expr {
            Expr::Literal(literal) => (
                0,
                match literal {
                    LiteralValue::String(text) => {
                        Sized::text(u64::try_from(text.inner().chars().count()).unwrap_or(u64::MAX))
                    }
                    LiteralValue::Bytes(bytes) => Sized::text(u64::try_from(bytes.inner().len()).unwrap_or(u64::MAX)),
                    _ => Sized::SCALAR,
                },
            ),
            Expr::Ident(name) => {
                let known = self.variables.iter().rev().find(|(bound, _)| bound == name);
                (1, known.map_or(Sized::UNKNOWN, |(_, sized)| sized.clone()))
            }
            Expr::Select(select) => {
                let (cost, operand) = self.cost(&select.operand);
                if select.test {
                    return (cost, Sized::SCALAR);
                }
                (cost.saturating_add(1), operand.member(&select.field))
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let mut total = LIST;
                let mut item = None;
                for element in &list.elements {
                    let (cost, sized) = self.cost(element);
                    total = total.saturating_add(cost);
                    item = Some(match item {
                        None => sized,
                        Some(other) => sized.or(other),
                    });
                }
                let item = item.unwrap_or(Sized { size: 0, kind: Kind::Unknown });
                let size = u64::try_from(list.elements.len()).unwrap_or(u64::MAX);
                (total, Sized { size, kind: Kind::List(Box::new(item)) })
            }
            Expr::Map(map) => {
                let mut total = MAP;
                let mut value = Sized { size: 0, kind: Kind::Unknown };
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        total = total.saturating_add(self.cost(&entry.key).0);
                        let (cost, sized) = self.cost(&entry.value);
                        total = total.saturating_add(cost);
                        value = sized.or(value);
                    }
                }
                let size = u64::try_from(map.entries.len()).unwrap_or(u64::MAX);
                (total, Sized { size, kind: Kind::Map(Box::new(value)) })
            }
            Expr::Comprehension(loop_) => {
                let (range_cost, range) = self.cost(&loop_.iter_range);
                let (init_cost, init) = self.cost(&loop_.accu_init);
                let gathers = matches!(loop_.accu_init.expr, Expr::List(_) | Expr::Map(_));
                self.variables.push((&loop_.accu_var, init.clone()));
                let bound = self.variables.len();
                if let Some(second) = &loop_.iter_var2 {
                    let first = if range.is_list() { Sized::SCALAR } else { Sized::text(0) };
                    self.variables.push((&loop_.iter_var, first));
                    self.variables.push((second, range.at_index()));
                } else {
                    self.variables.push((&loop_.iter_var, range.turn()));
                }
                let (condition, _) = self.cost(&loop_.loop_cond);
                let (step, made) = self.cost(&loop_.loop_step);
                self.variables.truncate(bound);
                let (result, shown) = self.cost(&loop_.result);
                self.variables.truncate(bound - 1);
                let turns = range.size.saturating_mul(condition.saturating_add(step));
                let total = range_cost.saturating_add(init_cost).saturating_add(turns).saturating_add(result);
                (total, if gathers { Sized { size: range.size, kind: made.kind } } else { shown.or(init) })
            }
            Expr::Struct(object) => {
                let mut total = MESSAGE;
                for entry in &object.entries {
                    if let EntryExpr::StructField(field) = &entry.expr {
                        total = total.saturating_add(self.cost(&field.value).0);
                    }
                }
                (total, Sized::UNKNOWN)
            }
            Expr::Unspecified => (0, Sized::UNKNOWN),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> (u64, Sized<'s>) {
        if let Some(target) = &call.target {
            return self.method(&call.func_name, target, &call.args);
        }
        let args: Vec<(u64, Sized<'s>)> = call.args.iter().map(|arg| self.cost(arg)).collect();
        let sum = args.iter().fold(0u64, |sum, (cost, _)| sum.saturating_add(*cost));
        let one = sum.saturating_add(1);
        match (call.func_name.as_str(), args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [_, _]) => (sum, Sized::SCALAR),
            (op::CONDITIONAL, [condition, yes, no]) => {
                (condition.0.saturating_add(yes.0.max(no.0)), yes.1.clone().or(no.1.clone()))
            }
            (op::EQUALS | op::NOT_EQUALS | op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                (sum.saturating_add(by_character(a.1.size.min(b.1.size)).max(1)), Sized::SCALAR)
            }
            (op::IN, [_, list]) if list.1.is_list() => (sum.saturating_add(list.1.size), Sized::SCALAR),
            (op::ADD, [a, b]) => {
                let size = a.1.size.saturating_add(b.1.size);
                if a.1.is_list() || b.1.is_list() {
                    let item = if a.1.size == 0 { b.1.turn() } else { a.1.turn().or(b.1.turn()) };
                    (one, Sized { size, kind: Kind::List(Box::new(item)) })
                } else if a.1.is_text() || b.1.is_text() {
                    (sum.saturating_add(by_character(size)), Sized::text(size))
                } else {
                    (one, Sized::SCALAR)
                }
            }
            (op::INDEX | op::OPT_INDEX, [holder, _]) => (one, holder.1.at_index()),
            (op::OPT_SELECT, [operand, _]) => match call.args.get(1).map(|field| &field.expr) {
                Some(Expr::Literal(LiteralValue::String(field))) => (one, operand.1.member(field.inner())),
                _ => (one, Sized::UNKNOWN),
            },
            ("dyn", [arg]) => (one, arg.1.clone()),
            ("bytes", [arg]) => {
                (sum.saturating_add(by_character(arg.1.size)), Sized::text(arg.1.size.saturating_mul(4)))
            }
            ("string", [arg]) if arg.1.is_text() => {
                (sum.saturating_add(by_character(arg.1.size)), Sized::text(arg.1.size))
            }
            ("string" | "type", _) => (one, Sized::text(u64::MAX)),
            ("url" | "isURL" | "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity", [arg]) => {
                (sum.saturating_add(by_character(arg.1.size)), Sized::SCALAR)
            }
            _ => (one, Sized::SCALAR),
        }
    }

    fn method(&mut self, name: &str, target: &'a Expression, args: &'a [Expression]) -> (u64, Sized<'s>) {
        let bound = self.variables.len();
        let (cost, on) = self.cost(target);
        let mut sum = cost;
        let mut sizes: Vec<Sized<'s>> = Vec::new();
        let is_macro = matches!(name, "optMap" | "optFlatMap");
        for (i, arg) in args.iter().enumerate() {
            match &arg.expr {
                Expr::Ident(variable) if is_macro && i == 0 => self.variables.push((variable, on.clone())),
                _ => {
                    let (cost, sized) = self.cost(arg);
                    sum = sum.saturating_add(cost);
                    sizes.push(sized);
                }
            }
        }
        self.variables.truncate(bound);
        let first = sizes.first().map_or(0, |sized| sized.size);
        let plus = |more: u64| sum.saturating_add(more);
        match name {
            "startsWith" | "endsWith" => (plus(by_character(first)), Sized::SCALAR),
            "contains" => (plus(by_character(on.size).saturating_mul(by_character(first))), Sized::SCALAR),
            "matches" => {
                let text = by_character(on.size.saturating_add(1));
                (plus(text.saturating_mul(scaled(first, PER_REGEX_CHARACTER))), Sized::SCALAR)
            }
            "find" | "findAll" => {
                let text = by_character(on.size.saturating_add(1));
                let cost = plus(text.saturating_mul(scaled(first, PER_REGEX_CHARACTER)));
                let found = Sized::text(on.size);
                let all = Sized { size: on.size, kind: Kind::List(Box::new(found.clone())) };
                (cost, if name == "find" { found } else { all })
            }
            "lowerAscii" | "upperAscii" | "trim" | "substring" => (plus(by_character(on.size)), Sized::text(on.size)),
            "replace" => {
                let with = sizes.get(1).map_or(0, |sized| sized.size);
                let size = on.size.saturating_mul(with.max(1));
                (plus(by_character(on.size)), Sized::text(size))
            }
            "split" => {
                let parts = Sized { size: on.size, kind: Kind::List(Box::new(Sized::text(on.size))) };
                (plus(by_character(on.size)), parts)
            }
            "join" => {
                let size = on.size.saturating_mul(on.turn().size.saturating_add(first));
                (plus(by_character(size)), Sized::text(size))
            }
            "format" => (plus(by_character(on.size)), Sized::text(u64::MAX)),
            "indexOf" | "lastIndexOf" if on.is_text() => {
                (plus(by_character(on.size).saturating_mul(by_character(first))), Sized::SCALAR)
            }
            "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => (plus(on.size), on.turn()),
            "value" | "orValue" | "or" => (plus(1), on),
            name if is_macro => (plus(1), if name == "optMap" { Sized::UNKNOWN } else { on }),
            "charAt" => (plus(1), Sized::text(1)),
            _ => (plus(1), Sized::SCALAR),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::field::Path;

    fn cost(schema: Value, rule: &str) -> u64 {
        let schema = crate::parse::read(&schema, &Path::new("s"), &mut Vec::new());
        super::super::with_deep_stack(|| estimate(&super::super::parse::parse(rule).expect("a rule"), &schema))
            .expect("a stack")
    }

    /// What Kubernetes was seen to accept: the most items for a length of their texts.
    #[test]
    fn loops_cost_as_in_kubernetes() {
        for (length, most) in [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)] {
            let of = |items: u64| {
                let schema =
                    json!({"type": "array", "maxItems": items, "items": {"type": "string", "maxLength": length}});
                cost(schema, "self.all(x, x.contains('gpu'))")
            };
            assert!(of(most) <= PER_EXPRESSION, "{length} {most} {}", of(most));
            assert!(of(most + 1) > PER_EXPRESSION, "{length} {most} {}", of(most + 1));
        }
        let unbounded = json!({"type": "array", "items": {"type": "string"}});
        assert!(cost(unbounded, "self.all(x, x.contains('gpu'))") > 100 * PER_EXPRESSION);
    }

    #[test]
    fn plain_rules_are_cheap() {
        let schema = json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}});
        for rule in [
            "self.min <= self.max",
            "self == oldSelf",
            "self.name == oldSelf.name",
            "self.name.startsWith('a') || self.name.matches('^[a-z]+$')",
            "!has(self.name) || 'x' in self.tags",
            "self.tags.size() < 3",
            "self.tags.all(t, t == 'a' || t == 'b')",
        ] {
            assert!(cost(schema.clone(), rule) < PER_EXPRESSION, "{rule} {}", cost(schema.clone(), rule));
        }
        // The text of a number has no size that a schema tells.
        assert!(cost(schema.clone(), "'a' + string(self.min) == ''") > PER_EXPRESSION);
        assert!(cost(schema, "self.tags.all(a, self.tags.exists(b, a == b))") > 100 * PER_EXPRESSION);
    }
}
