//! Server-side apply: errors, conflicts and corners that the recordings of whole objects do not show.

use kubetask_patch::apply::{self, Applied, Applier, ApplyError};
use kubetask_patch::managed::{self, Updater};
use kubetask_schema::model::{ListType, Schema};
use serde_json::{Value, json};

use crate::fixture::{NOW, reset, schema_of};

const LATER: &str = "2026-01-03T00:00:00Z";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn by<'a>(config: &'a Value, manager: &'a str) -> Applier<'a> {
    Applier {
        manager,
        api_version: config["apiVersion"].as_str().unwrap_or_default(),
        now: NOW,
        reset: reset(config["kind"].as_str().unwrap_or_default(), None),
        ..Applier::default()
    }
}

fn try_apply(live: Option<&Value>, config: &Value, manager: &str) -> Result<Applied, ApplyError> {
    apply::apply(live, config, schema_of(config), &by(config, manager))
}

#[track_caller]
fn applied(live: Option<&Value>, config: &Value, manager: &str) -> Value {
    try_apply(live, config, manager).unwrap().object
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "demo.example.test/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec})
}

fn job(spec: Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec})
}

fn fields_of<'v>(object: &'v Value, manager: &str) -> &'v Value {
    object["metadata"]["managedFields"]
        .as_array()
        .and_then(|entries| entries.iter().find(|entry| entry["manager"] == manager))
        .map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

#[test]
fn conflicts_name_their_owners() {
    let live = applied(None, &widget(json!({"size": 2, "parts": [{"name": "p", "count": 2}]})), "one");
    let error = try_apply(Some(&live), &widget(json!({"parts": [{"name": "p", "count": 7}]})), "two").unwrap_err();
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "one": .spec.parts[name="p"].count"#);
    let ApplyError::Conflicts(conflicts) = error else { panic!("conflicts expected") };
    assert_eq!(conflicts[0].message(), r#"conflict with "one""#);

    let live = applied(None, &job(json!({"suspend": true})), "one");
    let live = applied(Some(&live), &job(json!({"parallelism": 3})), "two");
    let error = try_apply(Some(&live), &job(json!({"parallelism": 4, "suspend": false})), "three").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.suspend\nconflicts with \"two\":\n- .spec.parallelism"
    );

    let mut created = config_map(json!({"a": "1"}));
    let creator = Updater { manager: "creator", api_version: "v1", now: NOW, ..Updater::default() };
    managed::track_update(None, &mut created, schema_of(&config_map(json!({}))), &creator);
    let error = try_apply(Some(&created), &config_map(json!({"a": "7"})), "app").unwrap_err();
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "creator" using v1: .data.a"#);

    let live = widget(json!({"size": 1}));
    let status = |value: &str| {
        let mut config = widget(json!({}));
        config["status"] = json!({"conditions": [{"type": "Ready", "status": value}]});
        config
    };
    let apply_status = |live: &Value, config: &Value, manager| {
        let by = Applier { subresource: Some("status"), reset: &["spec"], ..by(config, manager) };
        apply::apply(Some(live), config, schema_of(config), &by)
    };
    let live = apply_status(&live, &status("True"), "ctl").unwrap().object;
    assert_eq!(
        apply_status(&live, &status("False"), "other").unwrap_err().to_string(),
        r#"Apply failed with 1 conflict: conflict with "ctl" with subresource "status": .status.conditions[type="Ready"].status"#
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let check = |config: Value, expect: ApplyError| {
        assert_eq!(try_apply(None, &config, "m"), Err(expect), "{config}");
    };
    let invalid = |text: &str| ApplyError::Invalid(format!("failed to create typed patch object {text}"));
    check(
        config_map(json!({"k": 5})),
        invalid("(/a; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:5}"),
    );
    check(
        widget(json!({"size": "big", "junk": 1})),
        ApplyError::Undeclared(
            "failed to create typed patch object (/a; demo.example.test/v1, Kind=Widget): errors:\n  .spec.junk: field not declared in schema\n  .spec.size: expected numeric (int or float), got string"
                .to_owned(),
        ),
    );
    check(
        widget(json!({"parts": {"a": 1}})),
        invalid("(/a; demo.example.test/v1, Kind=Widget): .spec.parts: expected list, got &{map[a:1]}"),
    );
    check(
        widget(json!({"deep": [1]})),
        invalid("(/a; demo.example.test/v1, Kind=Widget): .spec.deep: expected map, got &{[1]}"),
    );
    check(
        widget(json!({"parts": [{"name": "p"}, {"name": "p"}]})),
        invalid(r#"(/a; demo.example.test/v1, Kind=Widget): .spec.parts: duplicate entries for key [name="p"]"#),
    );
    check(
        widget(json!({"tags": ["t", "t"]})),
        invalid(r#"(/a; demo.example.test/v1, Kind=Widget): .spec.tags: duplicate entries for key [="t"]"#),
    );
    check(
        widget(json!({"parts": [{"count": 1}]})),
        invalid(
            r#"(/a; demo.example.test/v1, Kind=Widget): .spec.parts: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)"#,
        ),
    );
    let mut with_managed = config_map(json!({}));
    with_managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    check(with_managed, ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));

    let config = config_map(json!({}));
    let wrong = Applier { api_version: "v2", ..by(&config, "m") };
    assert_eq!(
        apply::apply(None, &config, schema_of(&config), &wrong),
        Err(ApplyError::BadRequest("invalid object type: /v1, Kind=ConfigMap".to_owned()))
    );
}

#[test]
fn quantities_and_other_formats_may_be_any_scalar() {
    let container = json!({"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}});
    let config = job(json!({"template": {"spec": {"containers": [container]}}}));
    applied(None, &config, "m");
}

#[test]
fn same_value_is_shared_and_outlives_one_owner() {
    let one = applied(None, &config_map(json!({"k": "1"})), "one");
    let both = applied(Some(&one), &config_map(json!({"k": "1"})), "two");
    let left = applied(Some(&both), &config_map(json!({})), "one");
    assert_eq!(left["data"], json!({"k": "1"}));
    let gone = applied(Some(&left), &config_map(json!({})), "two");
    assert_eq!(gone.get("data"), None, "nobody owns it any more: {gone}");
}

#[test]
fn force_takes_fields_over() {
    let one = applied(None, &config_map(json!({"k": "1", "m": "2"})), "one");
    let config = config_map(json!({"k": "9"}));
    let forced = Applier { force: true, now: LATER, ..by(&config, "two") };
    let object = apply::apply(Some(&one), &config, schema_of(&config), &forced).unwrap().object;
    assert_eq!(object["data"], json!({"k": "9", "m": "2"}));
    assert_eq!(*fields_of(&object, "one"), json!({"f:data": {"f:m": {}}}));
    assert_eq!(*fields_of(&object, "two"), json!({"f:data": {"f:k": {}}}));
}

#[test]
fn applying_the_same_again_keeps_the_time() {
    let config = widget(json!({"size": 2, "parts": [{"name": "p"}]}));
    let first = applied(None, &config, "one");
    let later = Applier { now: LATER, ..by(&config, "one") };
    let again = apply::apply(Some(&first), &config, schema_of(&config), &later).unwrap();
    assert!(!again.changed);
    assert_eq!(again.object, first);
}

#[test]
fn lists_keep_the_order_of_both_sides() {
    let tags = |tags: &[&str]| widget(json!({"tags": tags}));
    let check = |live: &[&str], config: &[&str], expect: &[&str]| {
        let live = applied(None, &tags(live), "one");
        let object = applied(Some(&live), &tags(config), "two");
        assert_eq!(object["spec"]["tags"], json!(expect), "{live} + {config:?}");
    };
    check(&["a", "b"], &["c"], &["a", "b", "c"]);
    check(&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]);
    check(&["a", "b", "c"], &["b", "x"], &["a", "b", "c", "x"]);
    check(&["a", "b", "c"], &["x", "b"], &["a", "x", "b", "c"]);
    check(&[], &["x"], &["x"]);
    check(&["a"], &[], &["a"]);
}

#[test]
fn missing_keys_of_list_items_take_their_defaults() {
    let ports = |port: Value| job(json!({"template": {"spec": {"containers": [{"name": "c", "ports": [port]}]}}}));
    let mut live = applied(None, &ports(json!({"containerPort": 80})), "one");
    // The server defaults what it stores.
    live["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
    let object = applied(Some(&live), &ports(json!({"containerPort": 80, "name": "http"})), "two");
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 80, "name": "http", "protocol": "TCP"}])
    );
}

#[test]
fn giving_up_an_item_removes_it_and_what_was_defaulted_into_it() {
    let mut live = applied(None, &widget(json!({"parts": [{"name": "p"}, {"name": "q"}]})), "one");
    for part in live["spec"]["parts"].as_array_mut().unwrap() {
        part["count"] = json!(1);
    }
    let object = applied(Some(&live), &widget(json!({"parts": [{"name": "q"}]})), "one");
    assert_eq!(object["spec"]["parts"], json!([{"name": "q", "count": 1}]));
}

#[test]
fn atomic_values_are_owned_as_a_whole() {
    let pod = |spec: Value| job(json!({"template": {"spec": spec}}));
    let live = applied(None, &pod(json!({"nodeSelector": {"a": "1"}})), "one");
    assert_eq!(*fields_of(&live, "one"), json!({"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}}));
    let error = try_apply(Some(&live), &pod(json!({"nodeSelector": {"b": "2"}})), "two").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.template.spec.nodeSelector"
    );
    let object = applied(Some(&live), &pod(json!({"nodeSelector": {"b": "2"}})), "one");
    assert_eq!(object["spec"]["template"]["spec"]["nodeSelector"], json!({"b": "2"}));
}

#[test]
fn unknown_fields_are_deduced_where_they_are_preserved() {
    let config = widget(json!({"extra": {"a": {"b": [1, 2]}, "c": "x"}}));
    let object = applied(None, &config, "one");
    assert_eq!(*fields_of(&object, "one"), json!({"f:spec": {"f:extra": {"f:a": {".": {}, "f:b": {}}, "f:c": {}}}}));
    let object = applied(Some(&object), &widget(json!({"extra": {"c": "x"}})), "one");
    assert_eq!(object["spec"]["extra"], json!({"c": "x"}));
}

#[test]
fn metadata_of_custom_resources_is_known() {
    let mut config = widget(json!({"size": 1}));
    config["metadata"] = json!({
        "name": "a", "labels": {"x": "y"}, "finalizers": ["f.example/a"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u-1"}],
    });
    let object = applied(None, &config, "one");
    assert_eq!(
        fields_of(&object, "one")["f:metadata"],
        json!({
            "f:finalizers": {"v:\"f.example/a\"": {}},
            "f:labels": {"f:x": {}},
            "f:ownerReferences": {"k:{\"uid\":\"u-1\"}": {}},
        })
    );
    config["metadata"] = json!({"name": "a", "nonsense": 1});
    assert!(matches!(try_apply(None, &config, "one"), Err(ApplyError::Undeclared(_))));
}

#[test]
fn objects_without_owners_get_one_before_the_first_apply() {
    let live = config_map(json!({"k": "1"}));
    let error = try_apply(Some(&live), &config_map(json!({"k": "2"})), "one").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.k"#
    );
    let object = applied(Some(&live), &config_map(json!({"n": "2"})), "one");
    assert_eq!(*fields_of(&object, "before-first-apply"), json!({"f:data": {".": {}, "f:k": {}}}));
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let client_side = |data: Value, last: Value| {
        let mut object = config_map(data);
        let last = config_map(last);
        object["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
        let by = Updater { manager: "kubectl-client-side-apply", api_version: "v1", now: NOW, ..Updater::default() };
        let schema = schema_of(&object).clone();
        managed::track_update(None, &mut object, &schema, &by);
        object
    };
    let live = client_side(json!({"k": "1"}), json!({"k": "1"}));
    let config = config_map(json!({"k": "2"}));
    let object = applied(Some(&live), &config, "kubectl");
    assert_eq!(object["data"], json!({"k": "2"}));
    assert_eq!(object["metadata"]["annotations"][LAST_APPLIED], format!("{config}\n"));
    // Others have to force it, and so has kubectl for what somebody changed since.
    assert!(matches!(try_apply(Some(&live), &config, "other"), Err(ApplyError::Conflicts(_))));
    let live = client_side(json!({"k": "edited"}), json!({"k": "1"}));
    assert!(matches!(try_apply(Some(&live), &config, "kubectl"), Err(ApplyError::Conflicts(_))));
}

#[test]
fn a_list_that_became_atomic_is_owned_as_a_whole() {
    let live = applied(None, &widget(json!({"tags": ["a"]})), "one");
    let mut schema: Schema = schema_of(&live).clone();
    let spec = std::sync::Arc::make_mut(schema.properties.get_mut("spec").unwrap());
    std::sync::Arc::make_mut(spec.properties.get_mut("tags").unwrap()).list_type = Some(ListType::Atomic);
    let config = widget(json!({"size": 1}));
    let object = apply::apply(Some(&live), &config, &schema, &by(&config, "two")).unwrap().object;
    assert_eq!(*fields_of(&object, "one"), json!({"f:spec": {"f:tags": {}}}));
}

#[test]
fn nulls_in_a_configuration_are_owned() {
    let object = applied(None, &widget(json!({"size": 1, "note": null})), "one");
    assert_eq!(*fields_of(&object, "one"), json!({"f:spec": {"f:note": {}, "f:size": {}}}));
    assert_eq!(object["spec"]["note"], Value::Null);
}
