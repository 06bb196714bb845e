//! JSON patch and merge patch.

use kubetask_patch::{json, merge};
use serde_json::{Value, json};

fn json_patch(doc: Value, patch: Value, expect: Value) {
    assert_eq!(json::apply(doc, &patch), Ok(expect), "{patch}");
}

fn json_patch_fails(doc: Value, patch: Value) {
    assert!(matches!(json::apply(doc, &patch), Err(json::Error::Failed(_))), "{patch}");
}

#[test]
fn json_patch_operations() {
    let doc = || json!({"data": {"k": "1", "m": "x"}, "list": [1, 2]});
    json_patch(
        doc(),
        json!([
            {"op": "add", "path": "/data/n", "value": "2"},
            {"op": "replace", "path": "/data/k", "value": "9"},
            {"op": "copy", "from": "/data/k", "path": "/data/kk"},
            {"op": "move", "from": "/data/m", "path": "/data/mm"},
            {"op": "test", "path": "/data/n", "value": "2"},
        ]),
        json!({"data": {"k": "9", "kk": "9", "mm": "x", "n": "2"}, "list": [1, 2]}),
    );
    json_patch(doc(), json!([]), doc());
    json_patch(
        doc(),
        json!([{"op": "add", "path": "/list/-", "value": 3}, {"op": "remove", "path": "/list/0"}]),
        json!({"data": {"k": "1", "m": "x"}, "list": [2, 3]}),
    );
    json_patch(
        json!({"a": {}}),
        json!([
            {"op": "add", "path": "/a/x", "value": {"a~b/c": "1"}},
            {"op": "replace", "path": "/a/x/a~0b~1c", "value": "2"},
        ]),
        json!({"a": {"x": {"a~b/c": "2"}}}),
    );
}

#[test]
fn json_patch_is_as_lenient_as_kubernetes() {
    // A missing member can be replaced, and is null.
    json_patch(json!({"a": {}}), json!([{"op": "replace", "path": "/a/b", "value": 1}]), json!({"a": {"b": 1}}));
    json_patch(json!({"a": {}}), json!([{"op": "test", "path": "/a/b", "value": null}]), json!({"a": {}}));
    json_patch_fails(json!({"a": {}}), json!([{"op": "replace", "path": "/a/b/c", "value": 1}]));
    json_patch_fails(json!({"a": []}), json!([{"op": "replace", "path": "/a/0", "value": 1}]));
}

#[test]
fn json_patch_failures() {
    let doc = || json!({"data": {"n": "2"}});
    json_patch_fails(doc(), json!([{"op": "test", "path": "/data/n", "value": "3"}]));
    json_patch_fails(doc(), json!([{"op": "remove", "path": "/data/none"}]));
    json_patch_fails(doc(), json!([{"op": "add", "path": "/x/y/z", "value": "x"}]));
    json_patch_fails(doc(), json!([{"op": "frob", "path": "/data/n"}]));
    json_patch_fails(doc(), json!([{"op": "move", "from": "/data/none", "path": "/x"}]));
    json_patch_fails(doc(), json!([{"op": "add", "path": "data", "value": 1}]));
    json_patch_fails(doc(), json!([5]));
}

#[test]
fn json_patch_limits() {
    let check = |patch: Value, expect: &str| {
        let doc = json!({"big": "x".repeat(2 * 1024 * 1024)});
        assert_eq!(json::apply(doc, &patch).unwrap_err().to_string(), expect);
    };
    check(
        json!({"op": "add"}),
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
    );
    check(
        Value::Array(vec![json!({"op": "remove", "path": "/x"}); json::MAX_OPERATIONS + 1]),
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    );
    // Copies of copies double the document with each operation: they are counted before they are made.
    check(
        json!([{"op": "copy", "from": "/big", "path": "/a"}, {"op": "copy", "from": "", "path": "/b"}]),
        "operation 1: the copies exceed 3145728 bytes",
    );
}

#[test]
fn merge_patch() {
    let check = |doc: Value, patch: Value, expect: Value| {
        assert_eq!(merge::apply(doc, &patch), Ok(expect), "{patch}");
    };
    check(
        json!({"data": {"k": "1", "m": "x"}, "metadata": {"labels": {"l": "1"}, "name": "a"}}),
        json!({"data": {"k": null, "n": "2"}, "metadata": {"labels": null}}),
        json!({"data": {"m": "x", "n": "2"}, "metadata": {"name": "a"}}),
    );
    check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
    check(json!({"a": "b"}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}}));
    check(json!({}), json!({}), json!({}));
}

#[test]
fn merge_patch_must_be_an_object() {
    let error = merge::apply(json!({}), &json!([1])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}
