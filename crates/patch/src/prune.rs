//! Takes out of a merged object what its applier applied last time, does not apply now, and nobody else owns.

use serde_json::Value;

use crate::element::Element;
use crate::field_set::field_set;
use crate::manager::Managed;
use crate::remove::{Emptied, remove};
use crate::set::{Node, Set};
use crate::types::Ty;

/// `merged` without what was given up. `applied` is what the applier applies now and is in `managed` already; `last`
/// is what it applied before.
pub(crate) fn prune(ty: Ty<'_>, merged: Value, managed: &Managed, applied: &Set, last: &Set) -> Value {
    // The common case: only what is in `last` and owned by nobody can go.
    if last.is_subset(applied) {
        return merged;
    }
    without_given_up(ty, &merged, managed, last)
}

fn without_given_up(ty: Ty<'_>, merged: &Value, managed: &Managed, last: &Set) -> Value {
    let named = |set: &Set| with_named_fields(ty, set);
    let without = |set: &Set, emptied| remove(ty, merged, set, emptied).unwrap_or(Value::Null);
    let last = named(last);
    let merged_set = named(&field_set(ty, merged));

    // Everything that the applier applied last time goes …
    let pruned = without(&last, Emptied::Null);
    // … but what somebody owns, this applier included, comes back …
    let mut keep = named(&field_set(ty, &pruned));
    for entry in &managed.entries {
        keep.union(named(&entry.set));
    }
    let mut gone = merged_set.clone();
    gone.subtract(&keep);
    let pruned = without(&gone, Emptied::Null);
    // … and so does what went only because something around it went.
    let mut gone = merged_set;
    gone.subtract(&named(&field_set(ty, &pruned)));
    without(&gone.intersection(&last), Emptied::Gone)
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

#[cfg(test)]
mod tests {
    use kubetask_schema::model::{ListType, Schema, Type};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::manager::{Entry, Id, Operation};

    fn schema() -> Schema {
        let string = || Schema { type_: Some(Type::String), ..Schema::default() };
        let object = |fields: Vec<(&str, Schema)>| Schema {
            type_: Some(Type::Object),
            properties: fields.into_iter().map(|(name, field)| (name.to_owned(), field.into())).collect(),
            ..Schema::default()
        };
        let map = Schema { additional_properties: Some(string().into()), ..object(vec![]) };
        let parts = Schema {
            type_: Some(Type::Array),
            list_type: Some(ListType::Map),
            list_map_keys: vec!["name".to_owned()],
            items: Some(object(vec![("name", string()), ("x", string()), ("map", map.clone())]).into()),
            ..Schema::default()
        };
        object(vec![("map", map), ("parts", parts), ("deep", object(vec![("any", object(vec![]))]))])
    }

    fn config() -> impl Strategy<Value = Value> {
        let map = || proptest::collection::btree_map("[ab]", "[xy]", 0..3);
        let part = (proptest::option::of("[xy]"), proptest::option::of(map()));
        let parts = proptest::collection::btree_map("[ab]", part, 0..3);
        (proptest::option::of(map()), proptest::option::of(parts), proptest::option::of(map())).prop_map(
            |(map, parts, any)| {
                let mut out = json!({"kind": "X"});
                if let Some(map) = map {
                    out["map"] = json!(map);
                }
                if let Some(parts) = parts {
                    let part = |(name, (x, map))| {
                        let mut part = json!({"name": name});
                        if let Some(x) = x {
                            part["x"] = Value::from(x);
                        }
                        if let Some(map) = map {
                            part["map"] = json!(map);
                        }
                        part
                    };
                    let parts: Vec<Value> = parts
                        .into_iter()
                        .map(|(name, (x, map)): (String, (Option<String>, Option<_>))| part((name, (x, map))))
                        .collect();
                    out["parts"] = json!(parts);
                }
                if let Some(any) = any {
                    out["deep"] = json!({"any": {"inner": any}});
                }
                out
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is still applied cannot be given up: leaving out the work changes nothing.
        #[test]
        fn nothing_goes_while_it_is_applied(live in config(), config in config(), last in config()) {
            let schema = schema();
            let ty = Ty::root(&schema);
            let applied = field_set(ty, &config);
            let last = field_set(ty, &last).intersection(&applied);
            let merged = crate::typed_merge::merge(ty, &live, &config);
            let id = Id::new("m", Operation::Apply, "v1", None);
            let managed = Managed { entries: vec![Entry::new(id, "v1", applied.clone())] };
            let full = without_given_up(ty, &merged, &managed, &last);
            prop_assert_eq!(full, prune(ty, merged, &managed, &applied, &last));
        }
    }
}
