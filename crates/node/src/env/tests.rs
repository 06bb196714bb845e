//! Tables for environments: what each source gives, and what is missing.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::*;

fn fetched() -> Fetched {
    let map: ConfigMap = from(json!({"data": {"A": "from-cm", "B": "b", "DUP": "cm", "bad=key": "skipped"}}));
    let secret: Secret = from(json!({"data": {"DUP": "c2Vj", "PW": "cHc="}}));
    Fetched { config_maps: [("c".to_owned(), map.into())].into(), secrets: [("s".to_owned(), secret.into())].into() }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    match serde_json::from_value(value) {
        Ok(value) => value,
        Err(error) => panic!("fixture: {error}"),
    }
}

#[track_caller]
fn check(container: Value, expect: Result<Value, &str>) {
    let mut container = container;
    container["name"] = json!("main");
    let container: Container = from(container);
    let pod: Pod =
        from(json!({"metadata": {"name": "p", "namespace": "n", "labels": {"l": "lab"}}, "spec": {"containers": []}}));
    let node = NodeFacts { name: "node".into(), address: "127.0.0.1".into(), allocatable: BTreeMap::new() };
    let got = resolve(&pod, &container, &fetched(), &node);
    match (got, expect) {
        (Ok(got), Ok(expect)) => {
            let env: serde_json::Map<String, Value> =
                got.env.into_iter().map(|(name, value)| (name, json!(value))).collect();
            assert_eq!(json!({"env": env, "command": got.command, "args": got.args}), expect);
        }
        (got, expect) => assert_eq!(got.map(|_| json!({})), expect.map_err(str::to_owned)),
    }
}

#[test]
fn every_source_and_their_order() {
    check(
        json!({
            "command": ["sh", "-c", "echo $(X) $(NOPE) $$(X)"], "args": ["$(ONE)"],
            "resources": {"limits": {"cpu": "300m"}},
            "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}},
                {"configMapRef": {"name": "c"}, "prefix": "P_"}, {"configMapRef": {"name": "ghost", "optional": true}}],
            "env": [
                {"name": "ONE", "valueFrom": {"configMapKeyRef": {"key": "A", "name": "c"}}},
                {"name": "TWO", "valueFrom": {"secretKeyRef": {"key": "PW", "name": "s"}}},
                {"name": "LAB", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"divisor": "1m", "resource": "limits.cpu"}}},
                {"name": "X", "value": "$(ONE)-$(LATER)-$(TWO)-$(P_B)"},
                {"name": "LATER", "value": "x"},
                {"name": "MISS", "valueFrom": {"configMapKeyRef": {"key": "zz", "name": "c", "optional": true}}},
                {"name": "EMPTY"},
                {"name": "B", "value": "override"}]
        }),
        Ok(json!({
            "command": ["sh", "-c", "echo from-cm-$(LATER)-pw-b $(NOPE) $(X)"], "args": ["from-cm"],
            "env": {"A": "from-cm", "B": "override", "CPU": "300", "DUP": "sec", "EMPTY": "", "LAB": "lab",
                "LATER": "x", "ONE": "from-cm", "PW": "pw", "P_A": "from-cm", "P_B": "b", "P_DUP": "cm", "TWO": "pw",
                "P_bad=key": null, "X": "from-cm-$(LATER)-pw-b"}
        }))
        .map(|mut value: Value| {
            value["env"].as_object_mut().map(|env| env.remove("P_bad=key"));
            value
        }),
    );
}

#[test]
fn what_is_missing_is_named() {
    let key = |kind: &str, name: &str, key: &str| json!({"env": [{"name": "V", "valueFrom": {kind: {"key": key, "name": name}}}]});
    check(key("configMapKeyRef", "late", "v"), Err("configmap \"late\" not found"));
    check(key("secretKeyRef", "late", "v"), Err("secret \"late\" not found"));
    check(key("configMapKeyRef", "c", "v"), Err("couldn't find key v in ConfigMap n/c"));
    check(key("secretKeyRef", "s", "v"), Err("couldn't find key v in Secret n/s"));
    check(json!({"envFrom": [{"secretRef": {"name": "ghost"}}]}), Err("secret \"ghost\" not found"));
}
