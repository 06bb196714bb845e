//! Managed fields of writes that are not applies: what the recordings do not show.

use kubetask_patch::managed::{self, Updater};
use serde_json::{Value, json};

use crate::fixture::{NOW, schema};

const LATER: &str = "2026-01-03T00:00:00Z";

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn by(manager: &str) -> Updater<'_> {
    Updater { manager, api_version: "v1", now: NOW, ..Updater::default() }
}

fn track(live: Option<&Value>, mut new: Value, by: &Updater<'_>) -> Value {
    managed::track_update(live, &mut new, schema("ConfigMap"), by);
    new
}

/// Entries as `manager operation time fields`.
fn owners(object: &Value) -> Vec<String> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {}", text("manager"), text("operation"), text("time"), entry["fieldsV1"])
        })
        .collect()
}

#[test]
fn who_changes_a_field_owns_it() {
    let first = track(None, config_map(json!({"k": "1", "m": "2"})), &by("one"));
    assert_eq!(owners(&first), [r#"one Update 2026-01-02T00:00:00Z {"f:data":{".":{},"f:k":{},"f:m":{}}}"#]);

    let mut changed = first.clone();
    changed["data"]["k"] = json!("9");
    let second = track(Some(&first), changed, &Updater { now: LATER, ..by("two") });

    assert_eq!(
        owners(&second),
        [
            r#"one Update 2026-01-02T00:00:00Z {"f:data":{".":{},"f:m":{}}}"#,
            r#"two Update 2026-01-03T00:00:00Z {"f:data":{"f:k":{}}}"#,
        ]
    );
}

#[test]
fn writing_the_same_again_changes_nothing() {
    let first = track(None, config_map(json!({"k": "1"})), &by("one"));
    let again = track(Some(&first), first.clone(), &Updater { now: LATER, ..by("two") });
    assert_eq!(again, first);
    // Without managed fields in the request they are taken from the live object.
    let again = track(Some(&first), config_map(json!({"k": "1"})), &Updater { now: LATER, ..by("one") });
    assert_eq!(owners(&again), owners(&first));
}

#[test]
fn subresources_are_owned_separately_and_cannot_edit_managed_fields() {
    let first = track(None, config_map(json!({"k": "1"})), &by("one"));
    let mut new = first.clone();
    new["data"]["k"] = json!("2");
    new["metadata"]["managedFields"] = json!([{}]);
    let second = track(Some(&first), new, &Updater { subresource: Some("status"), ..by("one") });
    let entries = second["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:k": {}}}));
}

#[test]
fn unreadable_managed_fields_are_ignored() {
    let first = track(None, config_map(json!({"k": "1"})), &by("one"));
    for bad in [
        json!("text"),
        json!([1]),
        json!([{"manager": "x"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV2", "fieldsV1": {}}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": 1}}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"k:a": {}}}]),
    ] {
        let mut new = first.clone();
        new["metadata"]["managedFields"] = bad.clone();
        assert_eq!(track(Some(&first), new, &by("one")), first, "{bad}");
    }
}

#[test]
fn users_may_edit_managed_fields() {
    let first = track(None, config_map(json!({"k": "1"})), &by("one"));
    let mut new = first.clone();
    new["metadata"]["managedFields"][0]["manager"] = json!("renamed");
    let second = track(Some(&first), new, &by("one"));
    assert_eq!(owners(&second), [r#"renamed Update 2026-01-02T00:00:00Z {"f:data":{".":{},"f:k":{}}}"#]);
}

#[test]
fn old_update_entries_are_lumped_together() {
    let mut object = track(None, config_map(json!({"k0": "0"})), &by("m00"));
    for i in 1..13 {
        let mut new = object.clone();
        new["data"][format!("k{i}")] = json!("x");
        let now = format!("2026-02-{:02}T00:00:00Z", i + 1);
        object = track(Some(&object), new, &Updater { now: &now, ..by(&format!("m{i:02}")) });
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[0],
        r#"ancient-changes Update 2026-02-04T00:00:00Z {"f:data":{".":{},"f:k0":{},"f:k1":{},"f:k2":{},"f:k3":{}}}"#
    );
    assert!(owners[9].starts_with("m12 Update"));
}

#[test]
fn keep_times_undoes_a_write_that_only_moves_the_clock() {
    let live = track(None, config_map(json!({"k": "1"})), &by("one"));
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    assert!(managed::keep_times(&live, &mut new));
    assert_eq!(new, live);

    // The server gives a new version only to what it writes.
    let mut stored = live.clone();
    stored["metadata"]["resourceVersion"] = json!("7");
    assert!(managed::keep_times(&stored, &mut new));
    assert_eq!(new, live);

    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    new["data"]["k"] = json!("2");
    assert!(!managed::keep_times(&live, &mut new));
    assert_eq!(new["metadata"]["managedFields"][0]["time"], LATER);

    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = json!("two");
    assert!(!managed::keep_times(&live, &mut new));
}

#[test]
fn duplicates_in_a_set_are_owned_as_one() {
    let widget = |tags: Value| {
        json!({
            "apiVersion": "demo.example.test/v1", "kind": "Widget", "metadata": {"name": "a"},
            "spec": {"size": 1, "tags": tags},
        })
    };
    let by = Updater { api_version: "demo.example.test/v1", ..by("one") };
    let mut new = widget(json!(["x", "x", "y"]));
    managed::track_update(None, &mut new, schema("Widget"), &by);
    let live = new;
    assert_eq!(
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:tags"],
        json!({".": {}, "v:\"x\"": {}, "v:\"y\"": {}})
    );
    let mut new = widget(json!(["x"]));
    managed::track_update(Some(&live), &mut new, schema("Widget"), &by);
    assert_eq!(new["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:tags"], json!({".": {}, "v:\"x\"": {}}));
}
