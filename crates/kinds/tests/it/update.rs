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

/// A status update of a job, from one status to another.
fn job_status(spec: Value, before: Value, after: Value) -> Vec<String> {
    let mut body = job();
    body["spec"]["suspend"] = json!(false);
    for (name, value) in spec.as_object().unwrap() {
        body["spec"][name] = value.clone();
    }
    let mut old = create("batch/jobs", body).unwrap();
    old["status"] = before;
    let kind = kind("batch/jobs");
    let old = kind.decode(old).unwrap().object;
    let mut new = old.clone();
    new["status"] = after;
    let mut new = kind.decode(new).unwrap().object;
    kind.prepare_update(&mut new, &old, Part::Status);
    kind.validate_update(&new, &old, Part::Status).iter().map(ToString::to_string).collect()
}

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn conditions(names: &[&str]) -> Value {
    let one = |name: &&str| match name.strip_prefix('-') {
        Some(name) => json!({"type": name, "status": "False"}),
        None => json!({"type": name, "status": "True"}),
    };
    names.iter().map(one).collect()
}

#[test]
fn jobs_end_once_and_properly() {
    let all = |names: &[&str]| json!({"startTime": T1, "completionTime": T2, "conditions": conditions(names)});
    let complete = all(&["SuccessCriteriaMet", "Complete"]);
    let running = json!({"startTime": T1, "active": 1, "ready": 1});
    assert_eq!(job_status(json!({}), json!({}), complete.clone()), [""; 0]);
    assert_eq!(job_status(json!({}), running.clone(), complete.clone()), [""; 0]);
    assert_eq!(
        job_status(json!({}), running.clone(), all(&["SuccessCriteriaMet", "Complete", "Failed", "FailureTarget"])),
        [
            "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
            "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ]
    );
    assert_eq!(
        job_status(json!({}), running.clone(), all(&["Failed"])),
        [
            "status.completionTime: Invalid value: \"2026-01-01T00:00:02Z\": cannot set completionTime when there is no Complete=True condition",
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ]
    );
    assert_eq!(
        job_status(json!({}), json!({}), json!({"conditions": conditions(&["Complete"])})),
        [
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.startTime: Required value: startTime is required for finished job",
        ]
    );
    let mut untidy = complete.clone();
    untidy["active"] = json!(1);
    untidy["terminating"] = json!(1);
    untidy["uncountedTerminatedPods"] = json!({"succeeded": ["u"]});
    assert_eq!(
        job_status(json!({}), running, untidy),
        [
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.uncountedTerminatedPods: Invalid value: {\"Succeeded\":[\"u\"],\"Failed\":null}: uncountedTerminatedPods needs to be empty for finished job",
            "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
        ]
    );
    assert_eq!(
        job_status(json!({}), complete.clone(), json!({"startTime": T1})),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
    let mut later = complete.clone();
    later["completionTime"] = json!("2026-01-01T00:00:03Z");
    assert_eq!(
        job_status(json!({}), complete, later),
        ["status.completionTime: Invalid value: \"2026-01-01T00:00:03Z\": completionTime cannot be mutated"]
    );
}

#[test]
fn times_and_counters_of_jobs() {
    let before =
        json!({"startTime": T2, "completionTime": T1, "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
    assert_eq!(
        job_status(json!({}), json!({}), before),
        [
            "status.completionTime: Invalid value: \"2026-01-01T00:00:01Z\": completionTime cannot be set before startTime"
        ]
    );
    let removed = "status.startTime: Required value: startTime cannot be removed for unsuspended job";
    assert_eq!(job_status(json!({}), json!({"startTime": T1}), json!({})), [removed]);
    assert_eq!(job_status(json!({}), json!({"startTime": T1}), json!({"startTime": T2})), [removed]);
    assert_eq!(job_status(json!({"suspend": true}), json!({"startTime": T1}), json!({})), [""; 0]);
    let suspended = json!({"startTime": T1, "conditions": conditions(&["Suspended"])});
    let resumed = json!({"startTime": T2, "conditions": conditions(&["-Suspended"])});
    assert_eq!(job_status(json!({}), suspended, resumed), [""; 0]);
    assert_eq!(
        job_status(json!({}), json!({"failed": 2, "succeeded": 2}), json!({"failed": 1, "ready": 2, "active": -1})),
        [
            "status.active: Invalid value: -1: must be greater than or equal to 0",
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ]
    );
    assert_eq!(
        job_status(json!({}), json!({}), json!({"uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}})),
        [
            "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
        ]
    );
}

#[test]
fn indexes_of_jobs() {
    let indexed = json!({"completionMode": "Indexed", "completions": 6, "parallelism": 6, "backoffLimitPerIndex": 1});
    let fine = json!({"completedIndexes": "0,3-4", "failedIndexes": "1,5", "succeeded": 3});
    assert_eq!(job_status(indexed.clone(), json!({}), fine.clone()), [""; 0]);
    assert_eq!(job_status(indexed.clone(), fine, json!({"succeeded": 1})), [""; 0], "elastic");
    assert_eq!(
        job_status(indexed.clone(), json!({}), json!({"completedIndexes": "0,2-4", "failedIndexes": "1,3-5"})),
        ["status.failedIndexes: Invalid value: \"1,3-5\": failedIndexes and completedIndexes overlap at index: 3"]
    );
    assert_eq!(
        job_status(indexed, json!({}), json!({"completedIndexes": "6", "failedIndexes": "b"})),
        [
            "status.completedIndexes: Invalid value: \"6\": error parsing completedIndexes: too large index: \"6\"",
            "status.failedIndexes: Invalid value: \"b\": error parsing failedIndexes: cannot convert string to integer for index: \"b\"",
        ]
    );
    assert_eq!(
        job_status(json!({}), json!({}), json!({"completedIndexes": "0", "failedIndexes": ""})),
        [
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
            "status.failedIndexes: Invalid value: \"\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        ]
    );
}

#[test]
fn templates_change_once_a_job_is_at_rest() {
    let change = |status: Value| {
        let mut old = create("batch/jobs", job()).unwrap();
        old["status"] = status;
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        kind("batch/jobs").validate_update(&new, &old, Part::Main).is_empty()
    };
    assert!(change(json!({})));
    assert!(!change(json!({"startTime": T1})), "suspended only just now");
    assert!(!change(json!({"startTime": T1, "active": 1, "conditions": conditions(&["Suspended"])})));
    assert!(change(json!({"startTime": T1, "conditions": conditions(&["Suspended"])})));
}

#[test]
fn ephemeral_containers_come_and_stay() {
    let debug = json!({"name": "debugger", "image": "b:1", "targetContainerName": "c"});
    let add = |p: &mut Value, one: &Value| p["spec"]["ephemeralContainers"] = json!([one]);
    let changed = update("pods", pod(), Part::EphemeralContainers, |p| {
        add(p, &debug);
        p["spec"]["containers"][0]["image"] = json!("other:1");
        p["metadata"]["labels"] = json!({"a": "b"});
    })
    .unwrap();
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        (&changed["spec"]["containers"][0]["image"], &changed["metadata"]["labels"]),
        (&json!("i:1"), &Value::Null)
    );
    assert_eq!(changed["metadata"]["generation"], 2);
    let refused = |one: Value| update("pods", pod(), Part::EphemeralContainers, |p| add(p, &one)).unwrap_err();
    assert_eq!(
        refused(json!({"name": "c", "image": "b", "targetContainerName": "x", "ports": [{"containerPort": 1}],
            "resources": {"limits": {"cpu": "1"}}, "restartPolicy": "Always"})),
        [
            "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
        ]
    );
    let next = |change: fn(&mut Value)| {
        let mut new = changed.clone();
        change(&mut new);
        kind("pods").prepare_update(&mut new, &changed, Part::EphemeralContainers);
        let errors = kind("pods").validate_update(&new, &changed, Part::EphemeralContainers);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(next(|_| ()), [""; 0]);
    assert_eq!(
        next(|p| p["spec"]["ephemeralContainers"] = json!([])),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debugger\" may not be removed\n"]
    );
    assert_eq!(
        next(|p| p["spec"]["ephemeralContainers"][0]["image"] = json!("b:2")),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debugger\" may not be changed\n"]
    );
}

#[test]
fn pods_are_resized_before_they_run() {
    let mut body = pod();
    body["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1", "x.test/gpu": "1"}, "limits": {"x.test/gpu": "1"}});
    let resize = |change: fn(&mut Value)| update("pods", body.clone(), Part::Resize, change);
    let changed = resize(|p| {
        p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
        p["spec"]["nodeName"] = json!("elsewhere");
    })
    .unwrap();
    assert_eq!(changed["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    assert_eq!((&changed["spec"]["nodeName"], &changed["metadata"]["generation"]), (&Value::Null, &json!(2)));
    let gpu = resize(|p| {
        p["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1", "x.test/gpu": "2"}, "limits": {"x.test/gpu": "2"}});
    });
    assert_eq!(gpu.unwrap_err(), ["spec: Forbidden: only cpu and memory resources are mutable"]);
    let gone = resize(|p| {
        p["spec"]["containers"][0]["resources"] =
            json!({"requests": {"x.test/gpu": "1"}, "limits": {"x.test/gpu": "1"}})
    });
    assert_eq!(
        gone.unwrap_err(),
        [
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
        ]
    );
    let main = update("pods", body.clone(), Part::Main, |p| {
        p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
    });
    assert!(main.unwrap_err()[0].starts_with("spec: Forbidden: pod updates may not change"));
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
