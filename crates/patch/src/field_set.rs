//! The set of paths that a configuration speaks of: what its applier owns.

use serde_json::Value;

use crate::element::Element;
use crate::set::{Node, Set};
use crate::types::{Shape, Ty};

/// All paths of `value`. An object is owned only through its members, unless it is empty or one value.
pub(crate) fn field_set(ty: Ty<'_>, value: &Value) -> Set {
    let mut at = Node::default();
    walk(ty, value, &mut at);
    at.children
}

fn walk(ty: Ty<'_>, value: &Value, at: &mut Node) {
    match ty.shape(Some(value)) {
        Shape::Scalar => at.owned = true,
        Shape::List => {
            let list = ty.list();
            if list.atomic {
                at.owned = true;
                return;
            }
            let mut items: Vec<(Element, &Value)> = value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|item| Element::of_item(&list, item).ok().map(|element| (element, item)))
                .collect();
            items.sort_by(|(l, _), (r, _)| l.cmp(r));
            for group in items.chunk_by(|(l, _), (r, _)| l == r) {
                let mut part = Node { owned: true, ..Node::default() };
                // An item that occurs several times is owned as one value.
                if let [(_, item)] = group {
                    walk(list.items, item, &mut part);
                }
                if let Some((element, _)) = group.first() {
                    at.children.push(element.clone(), part);
                }
            }
        }
        Shape::Map => {
            if ty.atomic_map() {
                at.owned = true;
                return;
            }
            for (name, member) in value.as_object().into_iter().flatten() {
                let (field, declared) = ty.field(name);
                let mut part = Node::default();
                walk(field, member, &mut part);
                let nothing = member.is_null() || member.as_object().is_some_and(serde_json::Map::is_empty);
                part.owned |= nothing || !declared;
                at.children.push(Element::Field(name.as_str().into()), part);
            }
        }
    }
}
