//! Strategic merge patch. Most cases are recorded from Kubernetes.

use kubetask_patch::strategic::{self, Error};
use serde_json::{Value, json};

use crate::fixture::schema;

#[track_caller]
fn check(kind: &str, live: Value, patch: Value, expect: Value) {
    assert_eq!(strategic::apply(live, &patch, schema(kind)), Ok(expect), "{patch}");
}

#[track_caller]
fn fails(kind: &str, live: Value, patch: Value, expect: Error) {
    assert_eq!(strategic::apply(live, &patch, schema(kind)), Err(expect), "{patch}");
}

fn finalizers(names: &[&str]) -> Value {
    json!({"metadata": {"finalizers": names}})
}

#[test]
fn lists_of_scalars_merge() {
    let live = || finalizers(&["a", "b"]);
    check("ConfigMap", live(), finalizers(&["c"]), finalizers(&["c", "a", "b"]));
    check("ConfigMap", live(), finalizers(&["b"]), finalizers(&["a", "b"]));
    check("ConfigMap", live(), finalizers(&[]), live());
    check(
        "ConfigMap",
        finalizers(&["c", "a", "b"]),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}),
        finalizers(&["c", "b"]),
    );
    check(
        "ConfigMap",
        finalizers(&["b", "c"]),
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}}),
        finalizers(&["c", "b"]),
    );
    check("ConfigMap", live(), json!({"metadata": {"finalizers": null}}), json!({"metadata": {}}));
    check(
        "ConfigMap",
        json!({"metadata": {}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
        json!({"metadata": {}}),
    );
}

#[test]
fn maps_merge_or_are_replaced() {
    let live = || json!({"data": {"k": "1"}, "metadata": {"labels": {"a": "1", "b": "2"}}});
    check(
        "ConfigMap",
        live(),
        json!({"metadata": {"labels": {"a": null, "c": "3", "d": null}}}),
        json!({"data": {"k": "1"}, "metadata": {"labels": {"b": "2", "c": "3"}}}),
    );
    check(
        "ConfigMap",
        live(),
        json!({"data": {"$patch": "replace", "z": "9"}}),
        json!({"data": {"z": "9"}, "metadata": {"labels": {"a": "1", "b": "2"}}}),
    );
    check("ConfigMap", json!({"data": {"k": "1"}}), json!({"data": {"$patch": "delete"}}), json!({"data": {}}));
    // An unknown directive is an error only where there is something to merge with.
    check("ConfigMap", json!({}), json!({"data": {"$patch": "frob"}}), json!({}));
    fails(
        "ConfigMap",
        json!({"data": {"k": "1"}}),
        json!({"data": {"$patch": "frob", "x": "y"}}),
        Error::Internal("unknown patch type: frob in map: map[x:y]".to_owned()),
    );
    check("ConfigMap", json!({}), json!({"data": {"a": null, "b": "1"}}), json!({"data": {"b": "1"}}));
    // A change of type takes the patch.
    check("ConfigMap", json!({"data": "text"}), json!({"data": {"b": "1"}}), json!({"data": {"b": "1"}}));
}

#[test]
fn retain_keys() {
    check(
        "ConfigMap",
        json!({"metadata": {"name": "a", "labels": {"x": "y"}}}),
        json!({"metadata": {"$retainKeys": ["name"]}}),
        json!({"metadata": {"name": "a"}}),
    );
    let malformed = || Error::BadRequest("invalid patch format of retainKeys".to_owned());
    fails("ConfigMap", json!({}), json!({"metadata": {"$retainKeys": "name"}, "$retainKeys": 5}), malformed());
    fails(
        "ConfigMap",
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"$retainKeys": ["name"], "labels": {"x": "y"}}}),
        malformed(),
    );
}

fn pod(spec: Value) -> Value {
    json!({"template": {"spec": spec}})
}

#[test]
fn lists_of_objects_merge_by_key() {
    let live = pod(json!({
        "containers": [
            {
                "name": "one", "image": "i1",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"containerPort": 80, "name": "http"}],
            },
            {"name": "two", "image": "i2"},
        ],
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }));
    let merged = pod(json!({
        "containers": [
            {
                "name": "one", "image": "new",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "22"}, {"name": "C", "value": "3"}],
                "ports": [{"containerPort": 80, "name": "http"}],
            },
            {"name": "three", "image": "i3"},
            {"name": "two", "image": "i2"},
        ],
        "tolerations": [{"key": "z", "operator": "Exists"}],
        "volumes": [{"name": "w", "emptyDir": {}}, {"name": "v", "emptyDir": {}}],
    }));
    check(
        "PodTemplate",
        live,
        pod(json!({
            "containers": [
                {"name": "one", "image": "new", "env": [{"name": "B", "value": "22"}, {"name": "C", "value": "3"}]},
                {"name": "three", "image": "i3"},
            ],
            "tolerations": [{"key": "z", "operator": "Exists"}],
            "volumes": [{"name": "w", "emptyDir": {}}],
        })),
        merged.clone(),
    );
    check(
        "PodTemplate",
        merged,
        pod(json!({
            "$setElementOrder/containers": [{"name": "three"}, {"name": "one"}],
            "containers": [
                {"$patch": "delete", "name": "two"},
                {"name": "one", "env": [{"$patch": "delete", "name": "A"}]},
            ],
            "volumes": [
                {"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}, "emptyDir": null},
            ],
        })),
        pod(json!({
            "containers": [
                {"name": "three", "image": "i3"},
                {
                    "name": "one", "image": "new",
                    "env": [{"name": "B", "value": "22"}, {"name": "C", "value": "3"}],
                    "ports": [{"containerPort": 80, "name": "http"}],
                },
            ],
            "tolerations": [{"key": "z", "operator": "Exists"}],
            "volumes": [{"name": "w", "emptyDir": {}}, {"name": "v", "configMap": {"name": "c"}}],
        })),
    );
}

#[test]
fn directives_in_lists_of_objects() {
    let volumes = |items: Value| pod(json!({"volumes": items}));
    let live = || volumes(json!([{"name": "v", "emptyDir": {}}]));
    check(
        "PodTemplate",
        live(),
        volumes(json!([{"$patch": "replace"}, {"name": "only", "emptyDir": {}}])),
        volumes(json!([{"name": "only", "emptyDir": {}}])),
    );
    check(
        "PodTemplate",
        json!({}),
        volumes(json!([{"$patch": "delete", "name": "x"}, {"name": "a", "$retainKeys": ["name"]}])),
        volumes(json!([{"name": "a"}])),
    );
    check("PodTemplate", live(), pod(json!({"$setElementOrder/volumes": [{"name": "v"}]})), live());
    fails(
        "PodTemplate",
        pod(json!({"containers": [{"name": "a"}]})),
        pod(json!({"containers": [{"image": "noname"}]})),
        Error::Internal("map: map[image:noname] does not contain declared merge key: name".to_owned()),
    );
    fails(
        "PodTemplate",
        live(),
        volumes(json!([{"$patch": "merge", "name": "v"}])),
        Error::Internal("merging lists cannot yet be specified in the patch".to_owned()),
    );
    fails(
        "PodTemplate",
        live(),
        volumes(json!(["v"])),
        Error::Internal("list element types are not identical".to_owned()),
    );
    fails(
        "PodTemplate",
        live(),
        volumes(json!([["v"]])),
        Error::Unprocessable("lists of lists are not supported".to_owned()),
    );
    fails(
        "PodTemplate",
        pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        pod(json!({
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "b"}, {"name": "a"}],
        })),
        Error::Internal(
            "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n"
                .to_owned(),
        ),
    );
}

#[test]
fn malformed_directives() {
    let bad = |text: &str| Error::BadRequest(text.to_owned());
    fails("ConfigMap", json!({}), json!([1]), bad("invalid JSON document"));
    fails("ConfigMap", json!({}), json!({"$setElementOrder": []}), bad("invalid patch format of setElementOrder list"));
    fails(
        "ConfigMap",
        json!({}),
        json!({"$deleteFromPrimitiveList": []}),
        bad("invalid patch format of primitive list"),
    );
    fails(
        "ConfigMap",
        json!({}),
        json!({"$setElementOrder/x": {}}),
        Error::Internal("expected a []interface {}, but received a map[string]interface {}".to_owned()),
    );
}
