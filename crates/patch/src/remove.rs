//! Takes paths out of a value, and out of what is left of it.

use serde_json::{Map, Value};

use crate::element::Element;
use crate::set::Set;
use crate::types::{Shape, Ty};

/// What stands for a member of which nothing is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// Null: the member is still there, which matters while sets are compared.
    Null,
    /// Nothing, unless null is a value there. Kubernetes leaves null behind, which decoding then drops.
    Gone,
}

/// `value` without the paths in `set`. `None`: nothing is left.
pub(crate) fn remove(ty: Ty<'_>, value: &Value, set: &Set, emptied: Emptied) -> Option<Value> {
    match ty.shape(Some(value)) {
        Shape::Scalar => Some(value.clone()),
        Shape::List => {
            let list = ty.list();
            let items = value.as_array()?;
            if list.atomic {
                return None;
            }
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let element = Element::of_item(&list, item).ok();
                match element.and_then(|element| set.get(&element)) {
                    None => out.push(item.clone()),
                    Some(node) if node.owned => {}
                    Some(node) => out.extend(remove(list.items, item, &node.children, emptied)),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        Shape::Map => {
            let members = value.as_object()?;
            if ty.atomic_map() {
                return None;
            }
            let mut out = Map::new();
            for (name, member) in members {
                match set.field(name) {
                    None => {
                        out.insert(name.clone(), member.clone());
                    }
                    Some(node) if node.owned => {}
                    Some(node) => {
                        let field = ty.field(name).0;
                        match remove(field, member, &node.children, emptied) {
                            Some(rest) => {
                                out.insert(name.clone(), rest);
                            }
                            None if emptied == Emptied::Null || field.declared().is_some_and(|s| s.nullable) => {
                                out.insert(name.clone(), Value::Null);
                            }
                            None => {}
                        }
                    }
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
    }
}
