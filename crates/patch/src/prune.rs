//! Takes out of a merged object what its applier applied last time, does not apply now, and nobody else owns.

use serde_json::Value;

use crate::element::Element;
use crate::field_set::field_set;
use crate::manager::Managed;
use crate::remove::remove;
use crate::set::{Node, Set};
use crate::types::Ty;

/// `merged` without what was given up. `managed` already holds what the applier applies now; `last` is what it
/// applied before.
pub(crate) fn prune(ty: Ty<'_>, merged: Value, managed: &Managed, last: &Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &Set| with_named_fields(ty, set);
    let without = |set: &Set| remove(ty, &merged, set).unwrap_or(Value::Null);
    let last = named(last);
    let merged_set = named(&field_set(ty, &merged));

    // Everything that the applier applied last time goes …
    let pruned = without(&last);
    // … but what somebody owns, this applier included, comes back …
    let mut keep = named(&field_set(ty, &pruned));
    for entry in &managed.entries {
        keep.union(named(&entry.set));
    }
    let mut gone = merged_set.clone();
    gone.subtract(&keep);
    let pruned = without(&gone);
    // … and so does what went only because something around it went.
    let mut gone = merged_set;
    gone.subtract(&named(&field_set(ty, &pruned)));
    without(&gone.intersection(&last))
}

/// The set with each declared member in it that has members of its own in it: a set speaks of structs only through
/// their members.
fn with_named_fields(ty: Ty<'_>, set: &Set) -> Set {
    let mut out = Set::default();
    for (element, node) in set.nodes() {
        let (below, named) = match element {
            Element::Field(name) => ty.field(name),
            _ => (ty.list().items, false),
        };
        let owned = node.owned || (named && !node.children.is_empty());
        out.push(element.clone(), Node { owned, children: with_named_fields(below, &node.children) });
    }
    out
}
