//! The order of a merged list: what the patch speaks of in the order of the patch, the rest in the order it had, the
//! two interleaved by the order of the live list.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Error, PATCH};
use crate::text;

/// What identifies an item: its merge key, or itself. Canonical JSON text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of_scalar(item: &Value) -> Self {
        let mut out = String::new();
        text::write_json(&mut out, item);
        Self(out)
    }

    /// The merge key of an object; `None` if it has none.
    pub(super) fn of(item: &Value, merge_key: &str) -> Option<Self> {
        item.get(merge_key).map(Self::of_scalar)
    }

    fn of_item(item: &Value, merge_key: Option<&str>) -> Result<Self, Error> {
        match merge_key {
            None => Ok(Self::of_scalar(item)),
            Some(_) if !item.is_object() => Err(Error::wrong_type("map[string]interface {}", item)),
            Some(key) => Self::of(item, key).ok_or_else(|| Error::no_merge_key(item, key)),
        }
    }
}

fn positions(items: &[Value], merge_key: Option<&str>) -> Result<BTreeMap<Key, usize>, Error> {
    let mut out = BTreeMap::new();
    for (position, item) in items.iter().enumerate() {
        out.entry(Key::of_item(item, merge_key)?).or_insert(position);
    }
    Ok(out)
}

/// Puts `merged` in order: `wanted` is the order of the patch, `live` that of the live list.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    live: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let (wanted, live) = (positions(wanted, merge_key)?, positions(live, merge_key)?);
    let mut patched = Vec::new();
    let mut rest = Vec::new();
    for item in merged {
        let key = Key::of_item(&item, merge_key)?;
        let at = live.get(&key).copied();
        match wanted.get(&key) {
            Some(position) => patched.push((*position, at, item)),
            None => rest.push((at.unwrap_or(usize::MAX), at, item)),
        }
    }
    patched.sort_by_key(|(position, ..)| *position);
    rest.sort_by_key(|(position, ..)| *position);

    let mut out = Vec::with_capacity(patched.len() + rest.len());
    let mut patched = patched.into_iter().peekable();
    let mut rest = rest.into_iter().peekable();
    loop {
        let rest_first = match (rest.peek(), patched.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // An item that only the live list has goes first where it stood before the other one.
            (Some((_, Some(l), _)), Some((_, Some(r), _))) => l < r,
            _ => false,
        };
        let next = if rest_first { rest.next() } else { patched.next() };
        out.extend(next.map(|(_, _, item)| item));
    }
}

/// Checks that a patch list agrees with its `$setElementOrder` list: the same relative order, nothing that is not in
/// it. Items with a directive do not count.
pub(super) fn check(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut order_keys = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let key = Key::of_item(item, merge_key)?;
        let mut found = false;
        for candidate in order_keys.by_ref() {
            if Key::of_item(candidate, merge_key)? == key {
                found = true;
                break;
            }
        }
        if !found {
            let list = |items: &[Value]| text::go(&Value::Array(items.to_vec()));
            return Err(Error::Internal(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                list(patch),
                list(order)
            )));
        }
    }
    Ok(())
}
