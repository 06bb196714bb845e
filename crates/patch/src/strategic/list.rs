//! Merging of lists: scalars by value, objects by merge key.

use std::collections::BTreeMap;
use std::mem;

use serde_json::Value;

use super::order::{self, Key};
use super::{Error, Meta, PATCH, merge_map, without_directives};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Items {
    Scalars,
    Objects,
}

/// Merges `new` into `old`; with `delete`, takes the scalars in `new` out of `old`.
pub(super) fn merge(old: Vec<Value>, new: Vec<Value>, meta: Meta<'_>, delete: bool) -> Result<Vec<Value>, Error> {
    let Some(kind) = kind_of_items(old.iter().chain(&new))? else {
        return Ok(old);
    };
    if kind == Items::Scalars {
        let wanted: Vec<Key> = new.iter().map(Key::of_scalar).collect();
        if delete {
            return Ok(old.into_iter().filter(|item| !wanted.contains(&Key::of_scalar(item))).collect());
        }
        let mut merged = old.clone();
        merged.extend(new.iter().cloned());
        let merged = deduplicated(merged);
        return order::arrange(merged, &new, &old, None);
    }
    let Some(key) = meta.merge_key else {
        return Err(Error::Internal("cannot merge lists without merge key for type map".to_owned()));
    };
    let (old, new) = obey_directives(old, new, key)?;
    let merged = merge_objects(old.clone(), new.clone(), meta, key)?;
    order::arrange(merged, &new, &old, Some(key))
}

/// All items must be scalars, or all objects. `None`: there are none.
fn kind_of_items<'v>(items: impl Iterator<Item = &'v Value>) -> Result<Option<Items>, Error> {
    let mut kind: Option<(Items, mem::Discriminant<Value>)> = None;
    for item in items {
        let this = match item {
            Value::Array(_) => return Err(Error::Unprocessable("lists of lists are not supported".to_owned())),
            Value::Object(_) => Items::Objects,
            _ => Items::Scalars,
        };
        let discriminant = mem::discriminant(item);
        match kind {
            None => kind = Some((this, discriminant)),
            Some((_, other)) if other == discriminant => {}
            Some(_) => return Err(Error::Internal("list element types are not identical".to_owned())),
        }
    }
    Ok(kind.map(|(kind, _)| kind))
}

fn deduplicated(items: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(Key::of_scalar(item))).collect()
}

/// Carries out the items of the patch that are directives: `$patch: delete` removes what has the same merge key,
/// `$patch: replace` removes everything. Returns the list and the patch that are left.
fn obey_directives(mut old: Vec<Value>, new: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut ordinary = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        let Some(directive) = item.get(PATCH) else {
            ordinary.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let gone = Key::of(&item, key).ok_or_else(|| Error::no_merge_key(&item, key))?;
                old.retain(|item| Key::of(item, key).as_ref() != Some(&gone));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Internal("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => return Err(Error::unknown_directive(directive, item.as_object().unwrap_or(&serde_json::Map::new()))),
        }
    }
    Ok(if replace { (ordinary, Vec::new()) } else { (old, ordinary) })
}

fn merge_objects(mut list: Vec<Value>, new: Vec<Value>, meta: Meta<'_>, key: &str) -> Result<Vec<Value>, Error> {
    let mut positions: BTreeMap<Key, usize> = BTreeMap::new();
    for (position, item) in list.iter().enumerate() {
        if let Some(key) = Key::of(item, key) {
            positions.entry(key).or_insert(position);
        }
    }
    for item in new {
        let item_key = Key::of(&item, key).ok_or_else(|| Error::no_merge_key(&item, key))?;
        if let Some(existing) = positions.get(&item_key).and_then(|at| list.get_mut(*at)) {
            if let (Value::Object(old), Value::Object(new)) = (mem::take(existing), item) {
                *existing = Value::Object(merge_map(old, new, meta.items())?);
            }
        } else if let Some(item) = without_directives(item) {
            positions.insert(item_key, list.len());
            list.push(item);
        }
    }
    Ok(list)
}
