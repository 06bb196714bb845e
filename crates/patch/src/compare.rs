//! What differs between two versions of an object, as sets of paths.

use serde_json::{Map, Value};

use crate::element::Element;
use crate::set::{Node, Set};
use crate::types::{List, Shape, Ty, equal};

/// The difference between two values.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Paths that are new or have another value.
    pub(crate) changed: Set,
    /// Paths that are gone.
    pub(crate) removed: Set,
}

impl Difference {
    /// Forgets what differs at and below these paths of members, each written `metadata.labels`.
    pub(crate) fn ignore(&mut self, paths: &[&str]) {
        for path in paths {
            let path: Vec<&str> = path.split('.').collect();
            self.changed.remove_below(&path);
            self.removed.remove_below(&path);
        }
    }
}

/// Compares two objects of one type.
pub(crate) fn compare(ty: Ty<'_>, old: &Value, new: &Value) -> Difference {
    let mut at = Pair::default();
    walk(ty, Some(old), Some(new), &mut at);
    Difference { changed: at.changed.children, removed: at.removed.children }
}

/// The two results at one point of the document.
#[derive(Default)]
struct Pair {
    changed: Node,
    removed: Node,
}

impl Pair {
    /// Hangs the results for a part below this one. Parts must come in sorted order to be cheap.
    fn add(&mut self, element: impl FnOnce() -> Element, part: Self) {
        match (part.changed.is_empty(), part.removed.is_empty()) {
            (true, true) => {}
            (false, true) => self.changed.children.push(element(), part.changed),
            (true, false) => self.removed.children.push(element(), part.removed),
            (false, false) => {
                let element = element();
                self.changed.children.push(element.clone(), part.changed);
                self.removed.children.push(element, part.removed);
            }
        }
    }
}

fn walk(ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>, at: &mut Pair) {
    let leaf = match (old, new) {
        (None, None) => return,
        (_, None) => visit(ty.shape(old), ty, old, new, at),
        (None, _) => visit(ty.shape(new), ty, old, new, at),
        _ => {
            // Where any type may stand, a value can change from one shape to another: both are visited.
            let (was, is) = (ty.shape(old), ty.shape(new));
            if was != is {
                visit(was, ty, old, new, at);
            }
            visit(is, ty, old, new, at)
        }
    };
    if !leaf {
        at.changed.owned |= old.is_none();
        at.removed.owned |= new.is_none();
    }
}

/// Returns whether this point is one value.
fn visit(shape: Shape, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>, at: &mut Pair) -> bool {
    match shape {
        Shape::Scalar => {}
        Shape::List => {
            let list = ty.list();
            let (old, new) = (items(old), items(new));
            // Two empty lists are one value, which keeps an empty list apart from null.
            if !(list.atomic || old.is_empty() && new.is_empty()) {
                visit_items(&list, old, new, at);
                return false;
            }
        }
        Shape::Map => {
            let (old, new) = (members(old), members(new));
            let empty = old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty);
            if !empty && !ty.atomic_map() {
                visit_members(ty, old, new, at);
                return false;
            }
        }
    }
    match (old, new) {
        (None, _) => at.changed.owned = true,
        (_, None) => at.removed.owned = true,
        (Some(old), Some(new)) => at.changed.owned |= !equal(old, new),
    }
    true
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// Walks the members of two objects side by side; both iterate sorted.
fn visit_members(ty: Ty<'_>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, at: &mut Pair) {
    let mut old = old.into_iter().flatten().peekable();
    let mut new = new.into_iter().flatten().peekable();
    loop {
        let (name, was, is) = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(&(name, value)), None) => (name, Some(value), None),
            (None, Some(&(name, value))) => (name, None, Some(value)),
            (Some(&(l, was)), Some(&(r, is))) => match l.cmp(r) {
                std::cmp::Ordering::Less => (l, Some(was), None),
                std::cmp::Ordering::Greater => (r, None, Some(is)),
                std::cmp::Ordering::Equal => (l, Some(was), Some(is)),
            },
        };
        if was.is_some() {
            old.next();
        }
        if is.is_some() {
            new.next();
        }
        let mut part = Pair::default();
        walk(ty.field(name).0, was, is, &mut part);
        at.add(|| Element::Field(name.as_str().into()), part);
    }
}

/// The items of a list by element, sorted; items that have no element (a key is missing) are left out.
fn indexed<'v>(list: &List<'_>, items: &'v [Value]) -> Vec<(Element, &'v Value)> {
    let mut out: Vec<(Element, &Value)> =
        items.iter().filter_map(|item| Element::of_item(list, item).ok().map(|element| (element, item))).collect();
    out.sort_by(|(l, _), (r, _)| l.cmp(r));
    out
}

/// Cuts off the items that share the first element, if it is `element`.
fn group<'a, 'v>(rest: &mut &'a [(Element, &'v Value)], element: &Element) -> &'a [(Element, &'v Value)] {
    let end = rest.iter().position(|(e, _)| e != element).unwrap_or(rest.len());
    let (group, tail) = rest.split_at(end);
    *rest = tail;
    group
}

fn visit_items(list: &List<'_>, old: &[Value], new: &[Value], at: &mut Pair) {
    let (old, new) = (indexed(list, old), indexed(list, new));
    let (mut old, mut new) = (old.as_slice(), new.as_slice());
    while let Some(element) = match (old.first(), new.first()) {
        (Some((l, _)), Some((r, _))) => Some(l.min(r)),
        (l, r) => l.or(r).map(|(element, _)| element),
    } {
        let (was, is) = (group(&mut old, element), group(&mut new, element));
        let mut part = Pair::default();
        match (was, is) {
            ([] | [_], [] | [_]) => {
                walk(list.items, was.first().map(|(_, v)| *v), is.first().map(|(_, v)| *v), &mut part);
            }
            // Items that occur several times are compared as one value.
            ([_, _, ..], [_, _, ..]) => {
                part.changed.owned = was.len() != is.len() || was.iter().zip(is).any(|(l, r)| !equal(l.1, r.1));
            }
            ([_, _, ..], single) => {
                if let Some((_, item)) = single.first() {
                    walk(list.items, None, Some(item), &mut part);
                }
                part.removed.owned = true;
            }
            (single, _) => {
                if let Some((_, item)) = single.first() {
                    walk(list.items, Some(item), None, &mut part);
                }
                part.changed.owned = true;
            }
        }
        at.add(|| element.clone(), part);
    }
}
