//! Documents of custom resources.

use serde_json::{Map, Value, json};

use super::paths::{self, Resource};
use super::schemas::{self, API_VERSION, KIND};

/// One served kind of a group version of custom resources.
#[derive(Debug, Clone, Copy)]
pub struct Custom<'a> {
    /// Kind of one object.
    pub kind: &'a str,
    /// Kind of a list.
    pub list_kind: &'a str,
    /// Resource name in paths.
    pub plural: &'a str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `/status` subresource.
    pub status: bool,
    /// Whether there is a `/scale` subresource.
    pub scale: bool,
    /// `openAPIV3Schema` in JSON form; `None`: anything goes.
    pub schema: Option<&'a Value>,
    /// `selectableFields` JSON paths, e.g. `.spec.color`.
    pub selectable_fields: &'a [String],
}

const OBJECT_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUB_VERBS: &[&str] = &["get", "patch", "update"];

/// The document of a group version of custom resources.
#[must_use]
pub fn custom_document(group: &str, version: &str, kinds: &[Custom<'_>]) -> Value {
    let mut all_paths = Map::new();
    let mut all_schemas = schemas::for_custom();
    let mut reversed: Vec<&str> = group.split('.').collect();
    reversed.reverse();
    let prefix = format!("{}.{version}", reversed.join("."));
    for custom in kinds {
        let type_name = format!("{prefix}.{}", custom.kind);
        let list_type_name = format!("{prefix}.{}", custom.list_kind);
        let mut subresources: Vec<(&str, &[&str])> = Vec::new();
        if custom.scale {
            subresources.push(("scale", SUB_VERBS));
        }
        if custom.status {
            subresources.push(("status", SUB_VERBS));
        }
        paths::add(
            &mut all_paths,
            &Resource {
                group,
                version,
                kind: custom.kind,
                plural: custom.plural,
                namespaced: custom.namespaced,
                type_name: &type_name,
                list_type_name: &list_type_name,
                verbs: VERBS,
                subresources: &subresources,
            },
        );
        let gvk = |kind: &str| json!([{"group": group, "kind": kind, "version": version}]);
        all_schemas.insert(list_type_name, schemas::list_schema(custom.kind, &type_name, gvk(custom.list_kind)));
        all_schemas.insert(type_name, schema(custom, gvk(custom.kind)));
    }
    super::envelope("Kubernetes CRD Swagger", "v0.1.0", all_paths, all_schemas)
}

fn schema(custom: &Custom<'_>, gvk: Value) -> Value {
    let mut schema = custom
        .schema
        .cloned()
        .unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    complete(&mut schema);
    let Value::Object(members) = &mut schema else { return schema };
    let properties = members.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.insert("apiVersion".to_owned(), json!({"description": API_VERSION, "type": "string"}));
        properties.insert("kind".to_owned(), json!({"description": KIND, "type": "string"}));
        properties.insert("metadata".to_owned(), json!({"allOf": [{"$ref": OBJECT_META}], "description": METADATA}));
    }
    members.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
    if !custom.selectable_fields.is_empty() {
        let fields: Vec<Value> = custom
            .selectable_fields
            .iter()
            .map(|path| json!({"fieldPath": path.strip_prefix('.').unwrap_or(path)}))
            .collect();
        members.insert("x-kubernetes-selectable-fields".to_owned(), Value::Array(fields));
    }
    schema
}

/// Says in plain OpenAPI what two extensions mean: embedded objects and int-or-string.
fn complete(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    let is = |name: &str, members: &Map<String, Value>| members.get(name) == Some(&Value::Bool(true));
    if is("x-kubernetes-int-or-string", members) && !members.contains_key("anyOf") && !members.contains_key("allOf") {
        members.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = members.get_mut(nested) {
            complete(nested);
        }
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(complete);
    }
    if is("x-kubernetes-embedded-resource", members) {
        embed(members);
    }
}

fn embed(members: &mut Map<String, Value>) {
    let api_version = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
    let kind = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
    if let Value::Object(properties) = members.entry("properties").or_insert_with(|| json!({})) {
        properties.insert("apiVersion".to_owned(), json!({"description": api_version, "type": "string"}));
        properties.insert("kind".to_owned(), json!({"description": kind, "type": "string"}));
        properties.insert("metadata".to_owned(), json!({"allOf": [{"$ref": OBJECT_META}], "description": METADATA}));
    }
    if let Value::Array(required) = members.entry("required").or_insert_with(|| json!([])) {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == name) {
                required.push(Value::from(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_a_schema() {
        let own = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }}}});
        let custom = Custom {
            kind: "Widget",
            list_kind: "WidgetList",
            plural: "widgets",
            namespaced: true,
            status: true,
            scale: false,
            schema: Some(&own),
            selectable_fields: &[".spec.color".to_owned()],
        };
        let document = custom_document("demo.example.test", "v1", &[custom]);
        super::super::tests::check_references(&document);
        let widget = &document["components"]["schemas"]["test.example.demo.v1.Widget"];
        let spec = &widget["properties"]["spec"]["properties"];
        assert_eq!(spec["port"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(spec["embedded"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(widget["properties"]["metadata"]["allOf"][0]["$ref"], OBJECT_META);
        assert_eq!(widget["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.color"}]));
        assert_eq!(widget["required"], json!(["spec"]));
        let path = &document["paths"]["/apis/demo.example.test/v1/namespaces/{namespace}/widgets/{name}"];
        assert!(path["patch"]["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());
    }
}
