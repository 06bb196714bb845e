//! Updates: what may change, and what each part of an object may touch.

use kubetask_kinds::Part;
use serde_json::{Value, json};

use crate::pipeline::{create, kind};

/// Changes a created object and says what is wrong with that, each line once.
fn update(name: &str, body: Value, part: Part, change: impl FnOnce(&mut Value)) -> Result<Value, Vec<String>> {
    let old = create(name, body).unwrap();
    let kind = kind(name);
    let mut new = old.clone();
    change(&mut new);
    let mut new = kind.decode(new).unwrap().object;
    kind.default(&mut new);
    kind.prepare_update(&mut new, &old, part);
    let mut errors: Vec<String> = kind.validate_update(&new, &old, part).iter().map(ToString::to_string).collect();
    errors.sort();
    errors.dedup();
    if errors.is_empty() { Ok(new) } else { Err(errors) }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn job() -> Value {
    json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}})
}

#[test]
fn status_and_spec_keep_apart() {
    let changed = update("pods", pod(), Part::Status, |p| {
        p["status"]["phase"] = json!("Running");
        p["spec"]["nodeName"] = json!("elsewhere");
    })
    .unwrap();
    assert_eq!(changed["status"]["phase"], "Running");
    assert_eq!(changed["spec"]["nodeName"], Value::Null);
    assert_eq!(changed["metadata"]["generation"], 1);
    let changed = update("pods", pod(), Part::Main, |p| p["status"]["phase"] = json!("Running")).unwrap();
    assert_eq!(changed["status"]["phase"], "Pending");
}

#[test]
fn pods_hardly_change() {
    let changed = update("pods", pod(), Part::Main, |p| {
        p["spec"]["containers"][0]["image"] = json!("i:2");
        p["spec"]["activeDeadlineSeconds"] = json!(500);
    })
    .unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let labelled = update("pods", pod(), Part::Main, |p| p["metadata"]["labels"] = json!({"a": "b"})).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let errors = update("pods", pod(), Part::Main, |p| p["spec"]["restartPolicy"] = json!("Never")).unwrap_err();
    assert!(errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than"), "{errors:?}");
}

#[test]
fn jobs_change_where_they_may() {
    let changed = update("batch/jobs", job(), Part::Main, |j| {
        j["spec"]["parallelism"] = json!(2);
        j["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        j["spec"]["template"]["metadata"]["annotations"] = json!({"c": "d"});
    })
    .unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let errors = update("batch/jobs", job(), Part::Main, |j| j["spec"]["completions"] = json!(3)).unwrap_err();
    assert_eq!(errors, ["spec.completions: Invalid value: 3: field is immutable"]);
    let errors = update("batch/jobs", job(), Part::Main, |j| {
        j["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1");
    })
    .unwrap_err();
    assert!(errors[0].starts_with("spec.template.spec: Invalid value"), "{errors:?}");
    let mut running = job();
    running["spec"]["suspend"] = json!(false);
    let errors = update("batch/jobs", running, Part::Main, |j| {
        j["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    })
    .unwrap_err();
    assert_eq!(errors.len(), 1);
}

#[test]
fn immutable_content_stays() {
    let frozen = json!({"metadata": {"name": "a"}, "immutable": true, "data": {"k": "1"}});
    let errors = update("configmaps", frozen.clone(), Part::Main, |c| c["data"]["k"] = json!("2")).unwrap_err();
    assert_eq!(errors, ["data: Forbidden: field is immutable when `immutable` is set"]);
    let errors = update("configmaps", frozen.clone(), Part::Main, |c| c["immutable"] = json!(false)).unwrap_err();
    assert_eq!(errors, ["immutable: Forbidden: field is immutable when `immutable` is set"]);
    assert!(update("configmaps", frozen, Part::Main, |c| c["metadata"]["labels"] = json!({"x": "y"})).is_ok());
    let secret = json!({"metadata": {"name": "a"}, "type": "example.test/mine"});
    let errors = update("secrets", secret, Part::Main, |s| s["type"] = json!("Opaque")).unwrap_err();
    assert_eq!(errors, ["type: Invalid value: \"Opaque\": field is immutable"]);
}

#[test]
fn metadata_is_guarded() {
    let errors =
        update("configmaps", json!({"metadata": {"name": "a"}}), Part::Main, |c| c["metadata"]["uid"] = json!("2"))
            .unwrap_err();
    assert_eq!(errors, ["metadata.uid: Invalid value: \"2\": field is immutable"]);
}

#[test]
fn namespaces_keep_their_label_and_finalizer() {
    let body = json!({"metadata": {"name": "n"}});
    let changed = update("namespaces", body.clone(), Part::Main, |n| {
        n["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": "zzz", "team": "a"});
        n["spec"]["finalizers"] = json!([]);
    })
    .unwrap();
    assert_eq!(changed["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n", "team": "a"}));
    assert_eq!(changed["spec"]["finalizers"], json!(["kubernetes"]));
    let finalized = update("namespaces", body, Part::Finalize, |n| n["spec"] = json!({})).unwrap();
    assert_eq!(finalized["spec"], json!({}));
}

#[test]
fn decoding_again_changes_nothing() {
    for kind in kubetask_kinds::registry() {
        let once = kind.empty();
        let twice = kind.decode(once.clone()).unwrap();
        assert_eq!(twice.object, once, "{kind:?}");
        assert!(twice.unknown.is_empty(), "{kind:?}");
    }
}

#[test]
fn roles_referred_to_stay() {
    let body = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}});
    let errors =
        update("rbac.authorization.k8s.io/rolebindings", body, Part::Main, |b| b["roleRef"]["name"] = json!("s"))
            .unwrap_err();
    assert!(errors[0].ends_with("cannot change roleRef"), "{errors:?}");
}
