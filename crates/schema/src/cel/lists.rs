//! Functions on lists, alone and as sets.

use std::cmp::Ordering;

use kube_cel::cel::common::ast::operators as op;

use super::budget::Budget;
use super::operators;
use super::value::{Items, Outcome, Val, compare, equal, fail, no_such_overload};

pub(super) fn call<'v>(name: &str, args: &[Val<'v>], budget: &mut Budget) -> Option<Outcome<Val<'v>>> {
    let items = args.first()?.items()?;
    let size = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Err(over) = budget.pay(1 + size) {
        return Some(Err(over));
    }
    Some(match (name, &args[1..]) {
        ("isSorted", []) => is_sorted(items),
        ("sum", []) => sum(items, budget),
        ("min", []) => extreme(items, name, Ordering::Less),
        ("max", []) => extreme(items, name, Ordering::Greater),
        ("indexOf", [value]) => Ok(position(items, value, (0..items.len()).collect())),
        ("lastIndexOf", [value]) => Ok(position(items, value, (0..items.len()).rev().collect())),
        ("reverse", []) => Ok(Val::list(items.to_vec().into_iter().rev().collect())),
        ("sets.contains" | "sets.intersects" | "sets.equivalent", [other]) => {
            let Some(others) = other.items() else { return Some(no_such_overload()) };
            let pairs = size.saturating_mul(u64::try_from(others.len()).unwrap_or(u64::MAX));
            if let Err(over) = budget.pay(pairs) {
                return Some(Err(over));
            }
            let (mine, theirs) = (items.to_vec(), others.to_vec());
            let has = |list: &[Val<'v>], item: &Val<'v>| list.iter().any(|other| equal(other, item));
            Ok(Val::Bool(match name {
                "sets.intersects" => theirs.iter().any(|item| has(&mine, item)),
                "sets.contains" => theirs.iter().all(|item| has(&mine, item)),
                _ => theirs.iter().all(|item| has(&mine, item)) && mine.iter().all(|item| has(&theirs, item)),
            }))
        }
        _ => return None,
    })
}

fn is_sorted<'v>(items: Items<'_, 'v>) -> Outcome<Val<'v>> {
    let items = items.to_vec();
    for pair in items.windows(2) {
        match compare(&pair[0], &pair[1]) {
            Some(Ordering::Greater) => return Ok(Val::Bool(false)),
            Some(_) => {}
            None => return no_such_overload(),
        }
    }
    Ok(Val::Bool(true))
}

fn sum<'v>(items: Items<'_, 'v>, budget: &mut Budget) -> Outcome<Val<'v>> {
    let mut items = items.to_vec().into_iter();
    let Some(mut total) = items.next() else { return Ok(Val::Int(0)) };
    for item in items {
        total = operators::binary(op::ADD, &total, &item, budget)?;
    }
    Ok(total)
}

fn extreme<'v>(items: Items<'_, 'v>, name: &str, wanted: Ordering) -> Outcome<Val<'v>> {
    let mut items = items.to_vec().into_iter();
    let Some(mut best) = items.next() else { return fail(format!("{name} called on empty list")) };
    for item in items {
        match compare(&item, &best) {
            Some(order) if order == wanted => best = item,
            Some(_) => {}
            None => return no_such_overload(),
        }
    }
    Ok(best)
}

fn position<'v>(items: Items<'_, 'v>, value: &Val<'v>, order: Vec<usize>) -> Val<'v> {
    let found = order.into_iter().find(|&at| items.get(at).is_some_and(|item| equal(&item, value)));
    Val::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}
