//! CustomResourceDefinitions, replayed from recordings.

use kubetask_schema::crd;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    old: Option<Value>,
    new: Value,
    /// The message is missing where the recording does not compare it.
    causes: Option<Vec<(String, Option<String>, String)>>,
    stored: Option<Value>,
}

#[test]
fn recorded_definitions_are_answered_alike() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/definitions.json")).unwrap();
    assert!(cases.len() > 15);
    let mut failures = Vec::new();
    for case in cases {
        let mut object = case.new.clone();
        crd::default_crd(&mut object);
        let errors = match &case.old {
            None => {
                crd::prepare_create(&mut object);
                crd::validate_crd(&object)
            }
            Some(old) => {
                let mut old = old.clone();
                crd::default_crd(&mut old);
                crd::prepare_update(&mut object, &old);
                crd::validate_crd_update(&object, &old)
            }
        };
        let found = super::causes(&errors);
        let expected = case.causes.clone().unwrap_or_default();
        let alike = found.len() == expected.len()
            && expected.iter().zip(&found).all(|(want, got)| {
                want.0 == got.0 && want.2 == got.2 && want.1.as_ref().is_none_or(|message| *message == got.1)
            });
        if !alike {
            failures.push(format!("{}:\n  expected {expected:#?}\n  found {found:#?}", case.name));
        }
        for (part, value) in case.stored.iter().flat_map(|s| s.as_object().unwrap()) {
            if object.get(part) != Some(value) {
                failures.push(format!("{}: expected {part} {value}, found {:?}", case.name, object.get(part)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
