//! The CRDs themselves.

use kubetask_schema::crd;
use serde_json::Value;

fn printed() -> Vec<Value> {
    crate::server::documents(&kubetask_api::crds_yaml())
}

/// The schema without descriptions, which the types' own documentation shows better.
fn without_descriptions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !(key == "description" && value.is_string()));
            map.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

#[test]
fn as_printed() {
    for mut crd in printed() {
        let name = crd["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        without_descriptions(&mut crd);
        insta::assert_snapshot!(name, serde_saphyr::to_string(&crd).unwrap());
    }
}

#[test]
fn kubernetes_accepts_them() {
    for mut crd in printed() {
        crd::default_crd(&mut crd);
        crd::prepare_create(&mut crd);
        let errors: Vec<String> = crd::validate_crd(&crd).iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", crd["metadata"]["name"]);
    }
}

#[test]
fn what_is_printed_is_what_is_installed() {
    let installed: Vec<Value> = kubetask_api::crds().iter().map(|c| serde_json::to_value(c).unwrap()).collect();
    for (printed, installed) in printed().iter().zip(&installed) {
        assert_eq!(printed["spec"]["names"], installed["spec"]["names"]);
        assert!(printed["apiVersion"] == "apiextensions.k8s.io/v1" && printed["kind"] == "CustomResourceDefinition");
    }
    assert_eq!(installed.len(), 6);
}

#[test]
fn every_field_is_described() {
    fn walk(schema: &Value, path: &str, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let exempt = matches!(path.as_str(), ".apiVersion" | ".kind" | ".metadata" | ".spec" | ".status");
            if !exempt && !property["description"].is_string() {
                missing.push(path.clone());
            }
            walk(property, &path, missing);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), missing);
        }
    }
    for crd in printed() {
        let mut missing = Vec::new();
        walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "{}", crd["metadata"]["name"]);
    }
}
