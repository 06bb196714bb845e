//! Operators of CEL on values: checked arithmetic, comparison, `in` and indexing.

use std::cmp::Ordering;
use std::rc::Rc;

use kube_cel::cel::common::ast::operators as op;
use serde_json::Value;

use super::budget::Budget;
use super::value::{Node, Outcome, Val, compare, equal, fail, no_such_overload};
use crate::model::ListType;

pub(super) fn is_binary(name: &str) -> bool {
    matches!(
        name,
        op::ADD
            | op::SUBSTRACT
            | op::MULTIPLY
            | op::DIVIDE
            | op::MODULO
            | op::EQUALS
            | op::NOT_EQUALS
            | op::LESS
            | op::LESS_EQUALS
            | op::GREATER
            | op::GREATER_EQUALS
            | op::IN
            | op::INDEX
            | op::OPT_INDEX
    )
}

pub(super) fn binary<'v>(name: &str, a: &Val<'v>, b: &Val<'v>, budget: &mut Budget) -> Outcome<Val<'v>> {
    match name {
        op::EQUALS | op::NOT_EQUALS => {
            pay_to_compare(a, b, budget)?;
            Ok(Val::Bool(equal(a, b) == (name == op::EQUALS)))
        }
        op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
            pay_to_compare(a, b, budget)?;
            let is_nan = |v: &Val<'_>| matches!(v, Val::Double(n) if n.is_nan());
            let Some(order) = compare(a, b) else {
                return if is_nan(a) || is_nan(b) { Ok(Val::Bool(false)) } else { no_such_overload() };
            };
            Ok(Val::Bool(match name {
                op::LESS => order == Ordering::Less,
                op::LESS_EQUALS => order != Ordering::Greater,
                op::GREATER => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        op::IN => contains(b, a, budget).map(Val::Bool),
        op::INDEX => match a {
            Val::Optional(inner) => {
                Ok(Val::Optional(inner.as_ref().and_then(|inner| index(inner, b).ok()).map(Rc::new)))
            }
            _ => index(a, b),
        },
        op::OPT_INDEX => {
            let holder = match a {
                Val::Optional(inner) => inner.as_deref(),
                other => Some(other),
            };
            Ok(Val::Optional(holder.and_then(|holder| index(holder, b).ok()).map(Rc::new)))
        }
        op::ADD => add(a, b, budget),
        _ => arithmetic(name, a, b),
    }
}

/// Comparing unordered lists compares each item with each.
fn pay_to_compare(a: &Val<'_>, b: &Val<'_>, budget: &mut Budget) -> Outcome<()> {
    let is_unordered = |v: &Val<'_>| matches!(v, Val::Node(Node { schema: Some(s), .. }) if matches!(s.list_type, Some(ListType::Set | ListType::Map)));
    let mut weight = a.weight().min(b.weight());
    if is_unordered(a) || is_unordered(b) {
        let count = |v: &Val<'_>| v.items().map_or(1, |items| items.len());
        weight = weight.saturating_mul(count(a).min(count(b)));
    } else if let (Val::Map(entries), _) | (_, Val::Map(entries)) = (a, b) {
        weight = weight.saturating_mul(entries.len());
    }
    budget.pay_for_size(weight)
}

pub(super) fn negate<'v>(value: &Val<'v>) -> Outcome<Val<'v>> {
    match value {
        Val::Int(n) => n.checked_neg().map(Val::Int).map_or_else(overflow, Ok),
        Val::Double(n) => Ok(Val::Double(-n)),
        Val::Duration(n) => n.checked_neg().map(Val::Duration).map_or_else(overflow, Ok),
        _ => no_such_overload(),
    }
}

fn overflow<T>() -> Outcome<T> {
    fail("integer overflow")
}

fn arithmetic<'v>(name: &str, a: &Val<'v>, b: &Val<'v>) -> Outcome<Val<'v>> {
    let divides = matches!(name, op::DIVIDE | op::MODULO);
    let by_zero = || fail(if name == op::DIVIDE { "division by zero" } else { "modulus by zero" });
    match (a, b) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) if divides => by_zero(),
        (Val::Int(a), Val::Int(b)) => {
            let result = match name {
                op::SUBSTRACT => a.checked_sub(*b),
                op::MULTIPLY => a.checked_mul(*b),
                op::DIVIDE => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result.map(Val::Int).map_or_else(overflow, Ok)
        }
        (Val::Uint(a), Val::Uint(b)) => {
            let result = match name {
                op::SUBSTRACT => a.checked_sub(*b),
                op::MULTIPLY => a.checked_mul(*b),
                op::DIVIDE => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result.map_or_else(|| fail("unsigned integer overflow"), |n| Ok(Val::Uint(n)))
        }
        (Val::Double(a), Val::Double(b)) => match name {
            op::SUBSTRACT => Ok(Val::Double(a - b)),
            op::MULTIPLY => Ok(Val::Double(a * b)),
            op::DIVIDE => Ok(Val::Double(a / b)),
            _ => no_such_overload(),
        },
        (Val::Timestamp(a), Val::Timestamp(b)) if name == op::SUBSTRACT => {
            i64::try_from(a.as_nanosecond() - b.as_nanosecond()).map_or_else(|_| overflow(), |n| Ok(Val::Duration(n)))
        }
        (Val::Timestamp(a), Val::Duration(b)) if name == op::SUBSTRACT => shift(*a, b.checked_neg()),
        (Val::Duration(a), Val::Duration(b)) if name == op::SUBSTRACT => {
            a.checked_sub(*b).map(Val::Duration).map_or_else(overflow, Ok)
        }
        _ => no_such_overload(),
    }
}

fn shift<'v>(time: jiff::Timestamp, nanos: Option<i64>) -> Outcome<Val<'v>> {
    let shifted = nanos.and_then(|n| time.checked_add(jiff::SignedDuration::from_nanos(n)).ok());
    shifted.map_or_else(|| fail("timestamp overflow"), |t| Ok(Val::Timestamp(t)))
}

fn add<'v>(a: &Val<'v>, b: &Val<'v>, budget: &mut Budget) -> Outcome<Val<'v>> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => a.checked_add(*b).map(Val::Int).map_or_else(overflow, Ok),
        (Val::Uint(a), Val::Uint(b)) => {
            a.checked_add(*b).map_or_else(|| fail("unsigned integer overflow"), |n| Ok(Val::Uint(n)))
        }
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Text(a), Val::Text(b)) => {
            budget.pay_for_size(a.as_str().len() + b.as_str().len())?;
            Ok(Val::text([a.as_str(), b.as_str()].concat()))
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            budget.pay_for_size(a.len() + b.len())?;
            Ok(Val::Bytes([a.as_ref(), b.as_ref()].concat().into()))
        }
        (Val::Timestamp(time), Val::Duration(nanos)) | (Val::Duration(nanos), Val::Timestamp(time)) => {
            shift(*time, Some(*nanos))
        }
        (Val::Duration(a), Val::Duration(b)) => a.checked_add(*b).map(Val::Duration).map_or_else(overflow, Ok),
        _ => add_lists(a, b, budget),
    }
}

/// Lists are joined; a set takes what it does not have, a map list replaces items of the same keys.
fn add_lists<'v>(a: &Val<'v>, b: &Val<'v>, budget: &mut Budget) -> Outcome<Val<'v>> {
    let (Some(left), Some(right)) = (a.items(), b.items()) else { return no_such_overload() };
    budget.pay(u64::try_from(left.len() + right.len()).unwrap_or(u64::MAX))?;
    let schema = match a {
        Val::Node(node) => node.schema,
        _ => None,
    };
    let mut sum = left.to_vec();
    let list_type = schema.and_then(|s| s.list_type).unwrap_or_default();
    if list_type == ListType::Atomic {
        sum.extend(right.to_vec());
        return Ok(Val::list(sum));
    }
    let pairs = left.len().saturating_mul(right.len());
    budget.pay(u64::try_from(pairs).unwrap_or(u64::MAX))?;
    let keys: &[String] = schema.map_or(&[], |s| &s.list_map_keys);
    let same = |x: &Val<'v>, y: &Val<'v>| match list_type {
        ListType::Map => {
            keys.iter().all(|key| match (index(x, &Val::text(key.as_str())), index(y, &Val::text(key.as_str()))) {
                (Ok(x), Ok(y)) => equal(&x, &y),
                (x, y) => x.is_err() && y.is_err(),
            })
        }
        _ => equal(x, y),
    };
    for item in right.to_vec() {
        match sum.iter().position(|other| same(other, &item)) {
            Some(at) => sum[at] = item,
            None => sum.push(item),
        }
    }
    Ok(Val::list(sum))
}

fn contains(holder: &Val<'_>, value: &Val<'_>, budget: &mut Budget) -> Outcome<bool> {
    if let Some(items) = holder.items() {
        budget.pay(u64::try_from(items.len()).unwrap_or(u64::MAX))?;
        return Ok((0..items.len()).any(|i| items.get(i).is_some_and(|item| equal(&item, value))));
    }
    match (holder, value) {
        (Val::Node(node), Val::Text(key)) => Ok(node.value.get(key.as_str()).is_some()),
        (Val::Node(_), _) => Ok(false),
        (Val::Map(entries), _) => {
            budget.pay(u64::try_from(entries.len()).unwrap_or(u64::MAX))?;
            Ok(entries.iter().any(|(key, _)| equal(key, value)))
        }
        _ => no_such_overload(),
    }
}

/// `holder[key]`.
pub(super) fn index<'v>(holder: &Val<'v>, key: &Val<'_>) -> Outcome<Val<'v>> {
    if let Some(items) = holder.items() {
        let at = match key {
            Val::Int(n) => *n,
            Val::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            #[expect(clippy::cast_possible_truncation, reason = "only for floats without a fraction")]
            Val::Double(n) if n.fract() == 0.0 && n.abs() < 9e15 => *n as i64,
            _ => return no_such_overload(),
        };
        let found = usize::try_from(at).ok().and_then(|at| items.get(at));
        return found.map_or_else(|| fail(format!("index out of bounds: {at}")), Ok);
    }
    let found = match (holder, key) {
        (Val::Node(node @ Node { value: Value::Object(_), .. }), Val::Text(key)) => node.member(key.as_str()),
        (Val::Node(_), _) => None,
        (Val::Map(entries), _) => entries.iter().find(|(k, _)| equal(k, key)).map(|(_, v)| v.clone()),
        _ => return no_such_overload(),
    };
    found.map_or_else(|| fail(format!("no such key: {}", super::functions::to_text(key).unwrap_or_default())), Ok)
}
