//! Lays a configuration over a live object: what the configuration speaks of wins, the rest stays.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use crate::element::Element;
use crate::types::{List, Shape, Ty};

/// The live value with the configuration laid over it. The configuration has been validated.
pub(crate) fn merge(ty: Ty<'_>, live: &Value, config: &Value) -> Value {
    match ty.shape(Some(config)) {
        Shape::Scalar => config.clone(),
        Shape::List => match (live.as_array(), config.as_array()) {
            (live, Some(config)) if !config.is_empty() || live.is_some_and(|live| !live.is_empty()) => {
                let list = ty.list();
                if list.atomic {
                    Value::Array(config.clone())
                } else {
                    Value::Array(merge_items(&list, live.map_or(&[], Vec::as_slice), config))
                }
            }
            (Some(live), None) if !live.is_empty() && !ty.list().atomic => Value::Array(live.clone()),
            _ => config.clone(),
        },
        Shape::Map => match (live.as_object(), config.as_object()) {
            _ if ty.atomic_map() => config.clone(),
            (Some(live), Some(config)) => Value::Object(merge_members(ty, live, config)),
            (Some(live), None) if !live.is_empty() => Value::Object(live.clone()),
            _ => config.clone(),
        },
    }
}

fn merge_members(ty: Ty<'_>, live: &Map<String, Value>, config: &Map<String, Value>) -> Map<String, Value> {
    let mut out = live.clone();
    for (name, wanted) in config {
        match out.get_mut(name) {
            Some(value) => *value = merge(ty.field(name).0, value, wanted),
            None => {
                out.insert(name.clone(), wanted.clone());
            }
        }
    }
    out
}

/// Merges two lists whose items have an identity. The items of the configuration keep their order; live items stay
/// where they are relative to those that both lists share.
fn merge_items(list: &List<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let index = |items: &[Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| Element::of_item(list, item).ok()).collect()
    };
    let (live_elements, config_elements) = (index(live), index(config));
    // An element that occurs several times live merges with nothing.
    let mut live_by_element: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in live_elements.iter().zip(live) {
        if let Some(element) = element {
            live_by_element.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
        }
    }
    let mut wanted_by_element: BTreeMap<&Element, bool> =
        config_elements.iter().flatten().map(|element| (element, false)).collect();
    let mut shared: VecDeque<&Element> =
        config_elements.iter().flatten().filter(|element| live_by_element.contains_key(element)).collect();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let take = |element: Option<&Element>, wanted: &Value| match element.and_then(|e| live_by_element.get(e)) {
        Some(Some(live)) => merge(list.items, live, wanted),
        _ => wanted.clone(),
    };

    let mut live = live_elements.iter().map(Option::as_ref).zip(live).peekable();
    let mut config = config_elements.iter().map(Option::as_ref).zip(config).peekable();
    loop {
        if let (Some(&(Some(l), _)), Some(&(Some(r), wanted))) = (live.peek(), config.peek()) {
            if l == r {
                wanted_by_element.insert(r, true);
                out.push(take(Some(r), wanted));
                live.next();
                config.next();
                shared.pop_front();
                continue;
            }
            if wanted_by_element.contains_key(l) && shared.front().is_some_and(|next| *next != l) {
                // Shared, but another shared item comes first: it is taken in its place in the configuration.
                live.next();
                continue;
            }
        }
        if let Some(&(element, item)) = live.peek() {
            match element.and_then(|element| wanted_by_element.get(element)) {
                None => {
                    out.push(item.clone());
                    live.next();
                    continue;
                }
                Some(true) => {
                    live.next();
                }
                Some(false) => {}
            }
        }
        if let Some((element, wanted)) = config.next() {
            out.push(take(element, wanted));
            if let Some(element) = element {
                wanted_by_element.insert(element, true);
                if shared.front() == Some(&element) {
                    shared.pop_front();
                }
            }
        } else if live.peek().is_none() {
            return out;
        } else if live
            .peek()
            .is_some_and(|(element, _)| element.is_some_and(|element| wanted_by_element.get(element) == Some(&false)))
        {
            // Cannot happen: what the configuration wants has been taken once it is at its end.
            live.next();
        }
    }
}
