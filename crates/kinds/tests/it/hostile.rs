//! Whatever is thrown at a kind, it answers; nothing panics.

use kubetask_kinds::{Part, registry};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Names that lead deep into the built-in types, and one that leads nowhere.
const NAMES: [&str; 34] = [
    "metadata",
    "spec",
    "status",
    "template",
    "containers",
    "volumes",
    "env",
    "valueFrom",
    "resources",
    "limits",
    "name",
    "labels",
    "finalizers",
    "ownerReferences",
    "data",
    "selector",
    "matchLabels",
    "rules",
    "subjects",
    "roleRef",
    "versions",
    "phase",
    "conditions",
    "containerStatuses",
    "state",
    "type",
    "ports",
    "items",
    "securityContext",
    "podFailurePolicy",
    "deletionTimestamp",
    "spec.nope",
    "nope",
    "projected",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![
            ".{0,6}",
            "[0-9.]{1,4}[mkMGi]{0,2}",
            "2020-01-01T00:00:00(\\.[0-9]{0,7})?Z?",
            Just("Never".to_owned())
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..5).prop_map(|members| Value::Object(
                members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
            )),
        ]
    })
}

fn exercise(object: Value, old: &Value) {
    let now = jiff::Timestamp::UNIX_EPOCH;
    for kind in registry() {
        // What cannot be decoded is exercised as it is: stored data may be damaged.
        let decoded = kind.decode(object.clone()).map(|d| d.object);
        if let Ok(decoded) = &decoded {
            let again = kind.decode(decoded.clone()).unwrap();
            assert_eq!(&again.object, decoded, "{kind:?}: decoding is idempotent");
        }
        for mut object in [Some(object.clone()), decoded.ok()].into_iter().flatten() {
            kind.default(&mut object);
            let once = object.clone();
            kind.default(&mut object);
            assert_eq!(object, once, "{kind:?}: defaulting is idempotent");
            kind.admit_create(&mut object);
            kind.prepare_create(&mut object);
            let _ = kind.validate_create(&object);
            let _ = kind.warnings(&object, None);
            let _ = kind.row(&object, now);
            let _ = kind.grace_period(&object, None);
            for field in kind.field_selectors {
                let _ = kind.selectable_field(&object, field);
            }
            for part in [Part::Main, Part::Status, Part::Finalize, Part::EphemeralContainers, Part::Resize] {
                let mut new = object.clone();
                kind.prepare_update(&mut new, old, part);
                let _ = kind.validate_update(&new, old, part);
            }
            let _ = kind.from_storage(kind.to_storage(object));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_object(object in value(), old in value()) {
        exercise(object, &old);
    }

    #[test]
    fn any_text(text in ".*") {
        let _ = kubetask_kinds::json::parse(text.as_bytes());
        for check in [
            kubetask_kinds::names::dns1123_label, kubetask_kinds::names::qualified_name,
            kubetask_kinds::names::label_value, kubetask_kinds::names::config_key, kubetask_kinds::names::port_name,
        ] {
            let _ = check(&text);
        }
    }
}
