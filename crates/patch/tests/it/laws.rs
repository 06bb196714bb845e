//! Laws that hold for any input.

use kubetask_patch::apply::{self, Applier, ApplyError};
use kubetask_patch::managed::{self, Updater};
use kubetask_patch::set::Set;
use kubetask_patch::{json, merge, strategic};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::fixture::{NOW, schema};

const LATER: &str = "2026-01-03T00:00:00Z";

fn object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(members.into_iter().collect())
}

/// Any JSON, with names that mean something to patches and schemas.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        "[a-c]",
        proptest::sample::select(vec![
            "spec",
            "metadata",
            "data",
            "parts",
            "tags",
            "name",
            "labels",
            "managedFields",
            "finalizers",
            "template",
            "containers",
            "$patch",
            "$retainKeys",
            "$setElementOrder/finalizers",
            "$deleteFromPrimitiveList/finalizers",
            "op",
            "path",
            "from",
            "value",
            "f:a",
            "k:{\"name\":\"a\"}",
            "v:1",
            "i:0",
            ".",
            "x:y",
            "apiVersion",
            "kind",
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |f| serde_json::Number::from_f64(f).map(Value::Number)),
        proptest::sample::select(vec![
            "", "a", "b", "replace", "delete", "merge", "/a", "/spec/-", "add", "copy", "\"\\"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(Value::Array), vec((name.clone(), inner), 0..5).prop_map(object),]
    })
}

/// A Widget as somebody may apply it.
fn widget() -> impl Strategy<Value = Value> {
    let part = ("[a-d]", proptest::option::of(0..5_i64)).prop_map(|(name, count)| {
        let mut part = Map::new();
        part.insert("name".to_owned(), name.into());
        part.extend(count.map(|count| ("count".to_owned(), Value::from(count))));
        (part["name"].to_string(), Value::Object(part))
    });
    let spec = (
        proptest::option::of(1..9_i64),
        proptest::option::of(btree_map("[a-d]", 0..3_i64, 0..3)),
        proptest::option::of(proptest::collection::btree_set("[a-e]", 0..4).prop_shuffle_set()),
        proptest::option::of(vec(part, 0..4)),
        proptest::option::of(any_json()),
    );
    (spec, btree_map("[a-c]", "[x-z]", 0..3)).prop_map(|((size, limits, tags, parts, extra), labels)| {
        let mut spec = Map::new();
        spec.extend(size.map(|size| ("size".to_owned(), json!(size))));
        spec.extend(limits.map(|limits| ("limits".to_owned(), json!(limits))));
        spec.extend(tags.map(|tags| ("tags".to_owned(), json!(tags))));
        spec.extend(parts.map(|parts| {
            let mut seen = std::collections::BTreeSet::new();
            let parts: Vec<Value> =
                parts.into_iter().filter(|(key, _)| seen.insert(key.clone())).map(|(_, part)| part).collect();
            ("parts".to_owned(), json!(parts))
        }));
        spec.extend(extra.filter(Value::is_object).map(|extra| ("extra".to_owned(), extra)));
        json!({
            "apiVersion": "demo.example.test/v1", "kind": "Widget",
            "metadata": {"name": "a", "labels": labels}, "spec": spec,
        })
    })
}

/// Sets in any order, as lists.
trait ShuffleSet: Strategy<Value = std::collections::BTreeSet<String>> + Sized {
    fn prop_shuffle_set(self) -> BoxedStrategy<Vec<String>>
    where
        Self: 'static,
    {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle().boxed()
    }
}

impl<S: Strategy<Value = std::collections::BTreeSet<String>>> ShuffleSet for S {}

fn applier<'a>(manager: &'a str, now: &'a str, force: bool) -> Applier<'a> {
    Applier { manager, api_version: "demo.example.test/v1", now, force, reset: &["status"], subresource: None }
}

fn updater<'a>(manager: &'a str, now: &'a str) -> Updater<'a> {
    Updater { manager, api_version: "demo.example.test/v1", now, reset: &["status"], subresource: None }
}

fn nothing_left(a: &Set, b: &Set) -> bool {
    let mut rest = a.clone();
    rest.subtract(b);
    rest.is_empty()
}

/// The value with the lists of a Widget that have no order of their own sorted.
fn unordered(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["parts", "tags"] {
        if let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) {
            items.sort_by_key(Value::to_string);
        }
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Applying a second time changes nothing, whoever owned what before.
    #[test]
    fn apply_is_idempotent(live in proptest::option::of(widget()), other in widget(), config in widget()) {
        let schema = schema("Widget");
        let live = live.map(|mut live| { managed::track_update(None, &mut live, schema, &updater("creator", NOW)); live });
        let live = apply::apply(live.as_ref(), &other, schema, &applier("other", NOW, true)).unwrap().object;
        let once = apply::apply(Some(&live), &config, schema, &applier("one", NOW, true)).unwrap().object;
        let twice = apply::apply(Some(&once), &config, schema, &applier("one", LATER, false)).unwrap();
        prop_assert!(!twice.changed, "once {once}\ntwice {}", twice.object);
        prop_assert_eq!(twice.object, once);
    }

    /// What was applied is in the result, and whoever applies owns it.
    #[test]
    fn apply_has_its_way(live in widget(), config in widget()) {
        let schema = schema("Widget");
        let object = apply::apply(Some(&live), &config, schema, &applier("one", NOW, true)).unwrap().object;
        for member in ["size", "limits", "extra"] {
            if let Some(wanted) = config["spec"].get(member).filter(|wanted| !wanted.is_object()) {
                prop_assert_eq!(object["spec"].get(member), Some(wanted));
            }
        }
        for tag in config["spec"]["tags"].as_array().into_iter().flatten() {
            prop_assert!(object["spec"]["tags"].as_array().unwrap().contains(tag));
        }
        for (name, limit) in config["spec"]["limits"].as_object().into_iter().flatten() {
            prop_assert_eq!(&object["spec"]["limits"][name], limit);
        }
    }

    /// Without force, nothing that somebody else owns changes: either there is a conflict, or their values stay. The
    /// order of a list is nobody's.
    #[test]
    fn no_silent_takeover(theirs in widget(), config in widget()) {
        let schema = schema("Widget");
        let live = apply::apply(None, &theirs, schema, &applier("theirs", NOW, false)).unwrap().object;
        match apply::apply(Some(&live), &config, schema, &applier("one", NOW, false)) {
            Err(ApplyError::Conflicts(conflicts)) => prop_assert!(!conflicts.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(applied) => {
                let again = apply::apply(Some(&applied.object), &theirs, schema, &applier("theirs", NOW, false)).unwrap();
                prop_assert_eq!(unordered(&again.object["spec"]), unordered(&applied.object["spec"]));
            }
        }
    }

    /// Tracking records every difference once: writing the result again changes no owner.
    #[test]
    fn tracking_settles(first in widget(), second in widget()) {
        let schema = schema("Widget");
        let mut first = first;
        managed::track_update(None, &mut first, schema, &updater("one", NOW));
        let mut second = second;
        managed::track_update(Some(&first), &mut second, schema, &updater("two", NOW));
        let mut again = second.clone();
        managed::track_update(Some(&second), &mut again, schema, &updater("three", LATER));
        prop_assert_eq!(again, second);
    }

    #[test]
    fn sets_survive_fields_v1(value in any_json()) {
        if let Ok(set) = Set::from_fields_v1(&value) {
            let json = set.to_fields_v1();
            prop_assert_eq!(Set::from_fields_v1(&json), Ok(set));
        }
    }

    #[test]
    fn set_algebra(a in any_json(), b in any_json()) {
        let (Ok(a), Ok(b)) = (Set::from_fields_v1(&a), Set::from_fields_v1(&b)) else { return Ok(()) };
        let mut union = a.clone();
        union.union(b.clone());
        let mut rest = a.clone();
        rest.subtract(&b);
        let both = a.intersection(&b);
        prop_assert_eq!(a.intersects(&b), !both.is_empty());
        prop_assert!(!rest.intersects(&b));
        rest.union(both);
        prop_assert_eq!(&rest, &a, "a = (a - b) + (a and b)");
        let mut nothing = a.clone();
        nothing.subtract(&union);
        prop_assert!(nothing.is_empty());
        prop_assert!(a.is_subset(&union) && b.is_subset(&union));
        prop_assert_eq!(a.is_subset(&b), nothing_left(&a, &b));
    }

    #[test]
    fn merge_patch_laws(doc in any_json(), patch in any_json()) {
        if !patch.is_object() {
            prop_assert!(merge::apply(doc, &patch).is_err());
            return Ok(());
        }
        let once = merge::apply(doc.clone(), &patch).unwrap();
        prop_assert_eq!(&merge::apply(once.clone(), &patch).unwrap(), &once, "idempotent");
        if doc.is_object() {
            prop_assert_eq!(merge::apply(doc.clone(), &json!({})).unwrap(), doc);
        }
        for (name, value) in patch.as_object().unwrap() {
            prop_assert_eq!(once.get(name).is_none(), value.is_null());
        }
    }

    /// Nothing that a client sends can bring the server down.
    #[test]
    fn no_input_panics(live in any_json(), patch in any_json(), kind in proptest::sample::select(vec!["Widget", "PodTemplate", "ConfigMap", "Job"])) {
        let schema = schema(kind);
        let _ = json::apply(live.clone(), &patch);
        let _ = json::apply(live.clone(), &json!([patch.clone()]));
        let _ = strategic::apply(live.clone(), &patch, schema);
        let _ = strategic::apply(json!({"metadata": live.clone()}), &json!({"metadata": patch.clone()}), schema);
        let _ = strategic::apply(
            json!({"template": {"spec": {"containers": live.clone()}}}),
            &json!({"template": {"spec": {"containers": patch.clone()}}}),
            schema,
        );
        let by = Applier { manager: "m", now: NOW, ..Applier::default() };
        let _ = apply::apply(Some(&live), &patch, schema, &by);
        let wrap = |spec: &Value| json!({
            "apiVersion": "v1", "kind": kind, "spec": spec, "metadata": {"labels": spec, "managedFields": spec},
        });
        let mut config = wrap(&patch);
        config["metadata"].as_object_mut().unwrap().remove("managedFields");
        let _ = apply::apply(Some(&wrap(&live)), &config, schema, &Applier { api_version: "v1", force: true, ..by });
        let by = Updater { manager: "m", api_version: "v1", now: NOW, ..Updater::default() };
        managed::track_update(Some(&live), &mut patch.clone(), schema, &by);
        let mut new = wrap(&patch);
        managed::track_update(Some(&wrap(&live)), &mut new, schema, &by);
        managed::keep_times(&wrap(&live), &mut new);
    }
}
