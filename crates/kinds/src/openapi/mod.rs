//! OpenAPI v3 documents: made on demand, never kept.
//!
//! [`document`] is for built-in groups (the published types joined with the overlay table), [`custom_document`] for
//! custom resources. Both have what kubectl reads: schemas for `explain`, and paths with
//! `x-kubernetes-group-version-kind` and query parameters, by which it finds out what the server supports.

mod custom;
mod gnostic;
mod paths;
mod schemas;
mod v2;

pub use custom::{Custom, custom_document};
pub use gnostic::encode as gnostic;
pub use v2::swagger;

use serde_json::{Map, Value, json};

use crate::registry::registry;
use paths::Resource;

/// What a document says of itself and of how to authenticate.
fn envelope(title: &str, version: &str, paths: Map<String, Value>, schemas: Map<String, Value>) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
                },
            },
        },
    })
}

/// The document of a built-in group version, or `None` when there are no such kinds.
#[must_use]
pub fn document(group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<_> = registry().iter().filter(|k| k.group == group && k.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut all = Map::new();
    for kind in &kinds {
        paths::add(
            &mut all,
            &Resource {
                group,
                version,
                kind: kind.kind,
                plural: kind.plural,
                namespaced: kind.namespaced,
                type_name: kind.type_name,
                list_type_name: &format!("{}List", kind.type_name),
                verbs: kind.verbs,
                subresources: &kind.subresources.iter().map(|s| (s.name, s.verbs)).collect::<Vec<_>>(),
            },
        );
    }
    Some(envelope("Kubernetes", "v1.36.2", all, schemas::builtin(&kinds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference must lead somewhere.
    pub(super) fn check_references(document: &Value) {
        fn walk(value: &Value, schemas: &Map<String, Value>) {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        let name = target.strip_prefix("#/components/schemas/").unwrap();
                        assert!(schemas.contains_key(name), "nothing called {name}");
                    }
                    members.values().for_each(|v| walk(v, schemas));
                }
                Value::Array(items) => items.iter().for_each(|v| walk(v, schemas)),
                _ => {}
            }
        }
        walk(document, document["components"]["schemas"].as_object().unwrap());
    }

    #[test]
    fn every_group_version_has_a_document() {
        for kind in registry() {
            let document = document(kind.group, kind.version).unwrap();
            let schema = &document["components"]["schemas"][kind.type_name];
            assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], kind.kind);
            assert!(schema["description"].is_string(), "{kind:?}");
            check_references(&document);
        }
        assert!(document("apps", "v1").is_none());
    }

    #[test]
    fn kubectl_finds_what_it_looks_for() {
        let document = document("", "v1").unwrap();
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "kind": "Pod", "version": "v1"}));
        assert_eq!(patch["x-kubernetes-action"], "patch");
        let names: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(names.contains(&name), "{name}");
        }
        let list = &document["paths"]["/api/v1/namespaces/{namespace}/pods"]["get"];
        assert_eq!(list["x-kubernetes-action"], "list");
        let container = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(container["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(container["x-kubernetes-patch-merge-key"], "name");
        assert!(document["paths"]["/api/v1/namespaces/{name}/finalize"]["put"].is_object());
    }
}
