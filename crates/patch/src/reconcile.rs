//! Fits stored sets to a schema that has changed: what became one value is owned as one value.

use crate::set::{Node, Set};
use crate::types::{Shape, Ty};

/// Replaces paths below atomic lists and objects by the path of the list or object. Returns whether it had to.
pub(crate) fn reconcile(ty: Ty<'_>, set: &mut Set) -> bool {
    let mut changed = false;
    for (element, node) in set.nodes_mut() {
        if node.children.is_empty() {
            continue;
        }
        let below = match element {
            crate::set::Element::Field(name) => ty.field(name).0,
            _ => ty.list().items,
        };
        changed |= reconcile_node(below, node);
    }
    changed
}

fn reconcile_node(ty: Ty<'_>, node: &mut Node) -> bool {
    // Only a schema that says what stands there can have changed.
    let atomic = ty.declared().is_some_and(|schema| schema.type_.is_some())
        && match ty.shape(None) {
            Shape::Scalar => false,
            Shape::List => ty.list().atomic,
            Shape::Map => ty.atomic_map(),
        };
    if atomic {
        *node = Node { owned: true, children: Set::default() };
        return true;
    }
    reconcile(ty, &mut node.children)
}
