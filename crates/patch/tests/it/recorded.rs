//! `fixtures/recorded.json`: what a Kubernetes 1.36.2 API server made of real requests. `live` is the object before,
//! `result` the answer, without what controllers and strategies generate; times in it are not meaningful.

use kubetask_patch::apply::{self, Applier};
use kubetask_patch::managed::{self, Updater};
use serde_json::Value;

use crate::fixture::{NOW, reset, schema_of};

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("../fixtures/recorded.json")).expect("recorded.json is JSON")
}

/// Managed fields without the moment of each entry, but with whether it has one.
fn comparable(object: &Value) -> Vec<Value> {
    let mut entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    for entry in &mut entries {
        if let Some(time) = entry.get_mut("time") {
            *time = Value::from("set");
        }
    }
    entries.sort_by_key(|entry| {
        format!("{}{}{}{}", entry["manager"], entry["operation"], entry["apiVersion"], entry["subresource"])
    });
    entries
}

#[test]
fn updates_are_tracked_as_recorded() {
    let mut count = 0;
    for case in recorded().iter().filter(|case| case["how"] != "apply") {
        let result = &case["result"];
        let kind = result["kind"].as_str().unwrap();
        let subresource = case["subresource"].as_str();
        let mut new = result.clone();
        match case.get("given") {
            Some(given) => new["metadata"]["managedFields"] = given.clone(),
            None => drop(new["metadata"].as_object_mut().unwrap().remove("managedFields")),
        }
        let by = Updater {
            manager: case["manager"].as_str().unwrap(),
            subresource,
            api_version: result["apiVersion"].as_str().unwrap(),
            now: NOW,
            reset: reset(kind, subresource),
        };

        managed::track_update(case.get("live"), &mut new, schema_of(result), &by);

        similar(&comparable(&new), &comparable(result), case);
        count += 1;
    }
    assert!(count > 60, "only {count} recordings");
}

#[test]
fn applies_are_merged_and_tracked_as_recorded() {
    let mut count = 0;
    for case in recorded().iter().filter(|case| case["how"] == "apply") {
        let result = &case["result"];
        let kind = result["kind"].as_str().unwrap();
        let subresource = case["subresource"].as_str();
        let by = Applier {
            manager: case["manager"].as_str().unwrap(),
            subresource,
            force: case["force"] == true,
            api_version: result["apiVersion"].as_str().unwrap(),
            now: NOW,
            reset: reset(kind, subresource),
        };

        let applied = apply::apply(case.get("live"), &case["config"], schema_of(result), &by)
            .unwrap_or_else(|error| panic!("{}: {error}", case["from"]));

        similar(&comparable(&applied.object), &comparable(result), case);
        if kind == "ConfigMap" {
            // Nothing is defaulted in these, so the whole object must be the same.
            similar(&applied.object["data"], &result["data"], case);
            similar(&applied.object["metadata"]["labels"], &result["metadata"]["labels"], case);
        }
        let (before, after) = (&case["live"]["metadata"]["resourceVersion"], &result["metadata"]["resourceVersion"]);
        assert_eq!(applied.changed, before != after, "{}: whether anything changed", case["from"]);
        count += 1;
    }
    assert!(count > 15, "only {count} recordings");
}

#[track_caller]
fn similar<T: serde::Serialize + PartialEq>(got: &T, expect: &T, case: &Value) {
    assert!(
        got == expect,
        "{}\n     got {}\nexpected {}",
        case["from"],
        serde_json::to_string(got).unwrap(),
        serde_json::to_string(expect).unwrap()
    );
}
