//! Takes paths out of a value, and out of what is left of it.

use serde_json::{Map, Value};

use crate::element::Element;
use crate::set::Set;
use crate::types::{Shape, Ty};

/// `value` without the paths in `set`. `None`: nothing is left.
pub(crate) fn remove(ty: Ty<'_>, value: &Value, set: &Set) -> Option<Value> {
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
                    Some(node) => out.extend(remove(list.items, item, &node.children)),
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
                        match remove(field, member, &node.children) {
                            Some(rest) => {
                                out.insert(name.clone(), rest);
                            }
                            // Kubernetes leaves null behind, which decoding drops unless null is a value there.
                            None if field.declared().is_some_and(|schema| schema.nullable) => {
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
