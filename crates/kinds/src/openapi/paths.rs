//! The paths of a resource: one operation a verb, with the extensions by which clients recognise it.

use serde_json::{Map, Value, json};

/// What the paths of a resource are made from.
pub(super) struct Resource<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) plural: &'a str,
    pub(super) namespaced: bool,
    pub(super) type_name: &'a str,
    pub(super) list_type_name: &'a str,
    pub(super) verbs: &'a [&'a str],
    pub(super) subresources: &'a [(&'a str, &'a [&'a str])],
}

/// Adds all paths of a resource.
pub(super) fn add(paths: &mut Map<String, Value>, resource: &Resource<'_>) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let has = |verb: &str| resource.verbs.contains(&verb);
    let (collection, scope) = if resource.namespaced {
        (format!("{root}/namespaces/{{namespace}}/{}", resource.plural), vec![in_path("namespace")])
    } else {
        (format!("{root}/{}", resource.plural), Vec::new())
    };
    if resource.namespaced && has("list") {
        let all = format!("{root}/{}", resource.plural);
        paths.insert(all, json!({"get": resource.operation("list", "get", "AllNamespaces")}));
    }
    let mut item = Map::new();
    for (verb, method) in [("list", "get"), ("create", "post"), ("deletecollection", "delete")] {
        if has(verb) {
            item.insert(method.to_owned(), resource.operation(verb, method, ""));
        }
    }
    item.insert("parameters".to_owned(), Value::Array(scope.clone()));
    paths.insert(collection.clone(), Value::Object(item));

    let mut by_name = scope;
    by_name.push(in_path("name"));
    let mut item = Map::new();
    for (verb, method) in [("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")] {
        if has(verb) {
            item.insert(method.to_owned(), resource.operation(verb, method, ""));
        }
    }
    if !item.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(by_name.clone()));
        paths.insert(format!("{collection}/{{name}}"), Value::Object(item));
    }
    for (name, verbs) in resource.subresources {
        let mut item = Map::new();
        for verb in *verbs {
            let method = match *verb {
                "create" => "post",
                "update" => "put",
                other => other,
            };
            item.insert(method.to_owned(), resource.operation(verb, method, name));
        }
        item.insert("parameters".to_owned(), Value::Array(by_name.clone()));
        paths.insert(format!("{collection}/{{name}}/{name}"), Value::Object(item));
    }
}

fn in_path(name: &str) -> Value {
    let description = if name == "name" {
        "name of the object"
    } else {
        "object name and auth scope, such as for teams and projects"
    };
    json!({
        "name": name, "in": "path", "required": true, "description": description,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn query(name: &str, type_: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": true}})
}

fn reference(type_name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{type_name}")})
}

/// Media types in which a patch may come.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl Resource<'_> {
    fn operation(&self, verb: &str, method: &str, suffix: &str) -> Value {
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let answer = if verb == "list" {
            reference(self.list_type_name)
        } else if matches!(verb, "delete" | "deletecollection") {
            reference("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
        } else {
            reference(self.type_name)
        };
        let mut operation = json!({
            "operationId": self.operation_id(verb, suffix),
            "parameters": parameters(verb),
            "responses": {
                "200": {"description": "OK", "content": {"application/json": {"schema": answer}}},
                "401": {"description": "Unauthorized"},
            },
            "tags": [self.tag()],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": self.group, "kind": self.kind, "version": self.version},
        });
        let body = match method {
            "post" | "put" => Some(json!({"*/*": {"schema": reference(self.type_name)}})),
            "patch" => {
                let patch = reference("io.k8s.apimachinery.pkg.apis.meta.v1.Patch");
                let strategic = self.type_name.starts_with("io.k8s.");
                let kinds = PATCHES.iter().filter(|p| strategic || !p.contains("strategic"));
                Some(kinds.map(|p| ((*p).to_owned(), json!({"schema": patch.clone()}))).collect())
            }
            "delete" => {
                Some(json!({"*/*": {"schema": reference("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")}}))
            }
            _ => None,
        };
        if let (Some(content), Some(members)) = (body, operation.as_object_mut()) {
            members.insert("requestBody".to_owned(), json!({"content": content}));
        }
        operation
    }

    fn tag(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { self.group.trim_end_matches(".k8s.io") };
        format!("{}_{}", group.replace('.', "_"), self.version)
    }

    fn operation_id(&self, verb: &str, suffix: &str) -> String {
        let verb = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let tag: String = self.tag().split('_').map(capital).collect();
        let scope = if self.namespaced && suffix != "AllNamespaces" { "Namespaced" } else { "" };
        let suffix = if suffix == "AllNamespaces" { "ForAllNamespaces".to_owned() } else { capital(suffix) };
        format!("{verb}{tag}{scope}{}{suffix}", self.kind)
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

fn parameters(verb: &str) -> Vec<Value> {
    let mut out = vec![query("pretty", "string")];
    match verb {
        "create" | "update" => {
            out.extend(["dryRun", "fieldManager", "fieldValidation"].map(|n| query(n, "string")));
        }
        "patch" => {
            out.extend(["dryRun", "fieldManager", "fieldValidation"].map(|n| query(n, "string")));
            out.push(query("force", "boolean"));
        }
        "delete" => {
            out.extend(["dryRun", "propagationPolicy"].map(|n| query(n, "string")));
            out.push(query("gracePeriodSeconds", "integer"));
            out.push(query("orphanDependents", "boolean"));
        }
        "list" | "deletecollection" => {
            let texts = ["continue", "fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"];
            out.extend(texts.map(|n| query(n, "string")));
            out.extend(["limit", "timeoutSeconds"].map(|n| query(n, "integer")));
            out.extend(["allowWatchBookmarks", "sendInitialEvents", "watch"].map(|n| query(n, "boolean")));
        }
        _ => {}
    }
    out
}
