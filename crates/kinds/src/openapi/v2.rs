//! The one OpenAPI v2 document, put together from the v3 documents of all group versions, for clients that know no other.

use serde_json::{Map, Value, json};

const PREFIX: &str = "#/components/schemas/";
const PRODUCES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The document.
#[must_use]
pub fn swagger(documents: impl IntoIterator<Item = Value>) -> Value {
    let (mut all_paths, mut definitions) = (Map::new(), Map::new());
    for mut document in documents {
        if let Value::Object(paths) = document["paths"].take() {
            all_paths.extend(paths.into_iter().map(|(path, item)| (path, path_item(item))));
        }
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            for (name, mut schema) in schemas {
                let is_custom = !name.starts_with("io.k8s.");
                definitions.entry(name).or_insert_with(|| {
                    down(&mut schema, is_custom);
                    schema
                });
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": all_paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn path_item(item: Value) -> Value {
    let Value::Object(members) = item else { return item };
    let member = |(name, value): (String, Value)| match (name.as_str(), value) {
        ("parameters", Value::Array(list)) => (name, list.into_iter().map(parameter).collect()),
        (_, value) => (name, operation(value)),
    };
    Value::Object(members.into_iter().map(member).collect())
}

fn operation(operation: Value) -> Value {
    let Value::Object(mut members) = operation else { return operation };
    let mut parameters: Vec<Value> = Vec::new();
    let mut consumes: Vec<Value> = vec!["*/*".into()];
    if let Some(Value::Object(content)) = members.remove("requestBody").map(|mut body| body["content"].take()) {
        consumes = content.keys().map(|media| media.as_str().into()).collect();
        let schema = content.into_iter().next().map(|(_, mut media)| media["schema"].take()).unwrap_or_default();
        let mut body = json!({"name": "body", "in": "body", "required": true, "schema": schema});
        down(&mut body["schema"], false);
        if members.get("x-kubernetes-action").is_some_and(|action| *action == "delete" || *action == "deletecollection")
            && let Value::Object(body) = &mut body
        {
            body.remove("required");
        }
        parameters.push(body);
    }
    if let Some(Value::Array(list)) = members.remove("parameters") {
        parameters.extend(list.into_iter().map(parameter));
    }
    members.insert("parameters".to_owned(), Value::Array(parameters));
    for (_, response) in members.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        let content = response.as_object_mut().and_then(|response| response.remove("content"));
        if let Some((_, media)) = content.as_ref().and_then(Value::as_object).and_then(|content| content.iter().next())
        {
            let mut schema = media["schema"].clone();
            down(&mut schema, false);
            response["schema"] = schema;
        }
    }
    members.insert("consumes".to_owned(), Value::Array(consumes));
    members.insert("produces".to_owned(), json!(PRODUCES));
    members.insert("schemes".to_owned(), json!(["https"]));
    Value::Object(members)
}

/// A parameter says its type beside its name.
fn parameter(parameter: Value) -> Value {
    let Value::Object(mut members) = parameter else { return parameter };
    if let Some(Value::Object(schema)) = members.remove("schema") {
        members.extend(schema);
    }
    Value::Object(members)
}

/// A schema in the words of v2: references go to `definitions`, and in custom resources what v2 cannot say is left out.
fn down(schema: &mut Value, custom: bool) {
    let Value::Object(members) = schema else { return };
    let reference = match (members.get("$ref"), members.get("allOf").and_then(Value::as_array).map(Vec::as_slice)) {
        (Some(Value::String(target)), _) => Some(target.clone()),
        (_, Some([only])) => only["$ref"].as_str().map(str::to_owned),
        _ => None,
    };
    if let Some(target) = reference {
        members.remove("allOf");
        members.insert("$ref".to_owned(), target.replace(PREFIX, "#/definitions/").into());
    }
    let is = |name: &str, members: &Map<String, Value>| members.get(name) == Some(&Value::Bool(true));
    if custom {
        for junctor in ["allOf", "anyOf", "oneOf", "not"] {
            members.remove(junctor);
        }
        if is("nullable", members) {
            ["type", "items", "properties"].iter().for_each(|name| drop(members.remove(*name)));
        }
        if is("x-kubernetes-preserve-unknown-fields", members) {
            ["items", "properties"].iter().for_each(|name| drop(members.remove(*name)));
        }
        if is("x-kubernetes-int-or-string", members) {
            members.remove("type");
        }
    } else if members.contains_key("oneOf") {
        // The published types say so of int-or-string, and v2 knows no alternatives.
        members.remove("oneOf");
        members.entry("type").or_insert_with(|| "string".into());
    }
    members.remove("nullable");
    if members.get("default").is_some_and(|default| custom || default.is_null()) {
        members.remove("default");
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = members.get_mut(nested) {
            down(nested, custom);
        }
    }
    for (_, property) in members.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        down(property, custom);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_definitions() {
        let all =
            crate::registry::registry().iter().filter_map(|kind| super::super::document(kind.group, kind.version));
        let document = swagger(all);
        fn walk(value: &Value, definitions: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        let name = target.strip_prefix("#/definitions/").expect("a reference into the definitions");
                        assert!(definitions[name].is_object(), "nothing called {name}");
                    }
                    assert!(!members.get("oneOf").is_some_and(Value::is_array), "{value}");
                    members.values().for_each(|v| walk(v, definitions));
                }
                Value::Array(items) => items.iter().for_each(|v| walk(v, definitions)),
                _ => {}
            }
        }
        walk(&document, &document["definitions"]);
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["parameters"][0]["in"], "body");
        assert!(patch["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "dryRun")));
        let bytes = super::super::gnostic::encode(&document);
        assert!(bytes.len() > 100_000);
    }

    #[test]
    fn custom_resources_lose_what_v2_cannot_say() {
        let mut schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "nullable": true, "default": "x"},
            "b": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
            "metadata": {"allOf": [{"$ref": "#/components/schemas/M"}], "description": "d"}}});
        down(&mut schema, true);
        let want = json!({"type": "object", "properties": {
            "a": {},
            "b": {"x-kubernetes-int-or-string": true},
            "metadata": {"$ref": "#/definitions/M", "description": "d"}}});
        assert_eq!(schema, want);
    }
}
