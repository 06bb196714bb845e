//! Schemas of built-in types in OpenAPI's form, from the published types and the overlay table.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::types::{Generate, definitions, overlay};

const PREFIX: &str = "#/components/schemas/";

/// Schemas which every document needs: metadata, deletion, answers.
fn common() -> Vec<Generate> {
    vec![
        |g| drop(g.subschema_for::<meta::ObjectMeta>()),
        |g| drop(g.subschema_for::<meta::ListMeta>()),
        |g| drop(g.subschema_for::<meta::DeleteOptions>()),
        |g| drop(g.subschema_for::<meta::Status>()),
        |g| drop(g.subschema_for::<meta::Patch>()),
    ]
}

/// The schemas of built-in kinds, their lists, and all they refer to.
pub(super) fn builtin(kinds: &[&Kind]) -> Map<String, Value> {
    let mut roots = common();
    roots.extend(kinds.iter().map(|k| k.generate));
    let mut all = definitions(&roots);
    for (name, schema) in &mut all {
        publish(name, schema);
    }
    for kind in kinds {
        let gvk = |kind_name: &str| json!([{"group": kind.group, "kind": kind_name, "version": kind.version}]);
        if let Some(Value::Object(schema)) = all.get_mut(kind.type_name) {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), gvk(kind.kind));
        }
        if kind.verbs.contains(&"list") {
            let list = list_schema(kind.kind, kind.type_name, gvk(&kind.list_kind()));
            all.insert(format!("{}List", kind.type_name), list);
        }
    }
    all
}

/// The schemas which documents of custom resources need besides their own.
pub(super) fn for_custom() -> Map<String, Value> {
    let mut all = definitions(&common());
    for (name, schema) in &mut all {
        publish(name, schema);
    }
    all
}

pub(super) const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
pub(super) const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The schema of a list of a type.
pub(super) fn list_schema(kind: &str, type_name: &str, gvk: Value) -> Value {
    let items = "List of objects. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
    json!({
        "description": format!("{kind}List is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "kind": {"description": KIND, "type": "string"},
            "items": {
                "description": items,
                "type": "array",
                "items": {"allOf": [{"$ref": format!("{PREFIX}{type_name}")}], "default": {}},
            },
            "metadata": {
                "allOf": [{"$ref": format!("{PREFIX}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")}],
                "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
            },
        },
        "x-kubernetes-group-version-kind": gvk,
    })
}

/// Brings one generated schema into the form in which Kubernetes publishes it.
fn publish(name: &str, schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            members.remove("x-kubernetes-int-or-string");
            members.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": "number"}]));
        }
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            members.remove("x-kubernetes-int-or-string");
            members.insert("format".to_owned(), json!("int-or-string"));
            members.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
        }
        _ => {}
    }
    for (key, value) in overlay::type_(name).extensions() {
        members.insert(key.to_owned(), value);
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (field, property) in properties {
            wrap(property);
            if let Value::Object(property) = property {
                for (key, value) in overlay::field(name, field).extensions() {
                    property.insert(key.to_owned(), value);
                }
            }
        }
    }
}

/// A reference may have no siblings: one with a description is wrapped.
fn wrap(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    if members.len() > 1
        && let Some(target) = members.remove("$ref")
    {
        members.insert("allOf".to_owned(), json!([{"$ref": target}]));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = members.get_mut(nested) {
            wrap(nested);
        }
    }
}
