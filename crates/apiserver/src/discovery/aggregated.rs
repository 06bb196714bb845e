//! Aggregated discovery: everything in one document.

use serde_json::{Map, Value, json};

use super::legacy::subresources;
use crate::registry::{self, Resource, Snapshot};

/// `/api` (core only) or `/apis` (all groups) as `APIGroupDiscoveryList`.
pub(super) fn document(snapshot: &Snapshot, core: bool) -> Value {
    let custom: Vec<_> = snapshot.groups().collect();
    let items: Vec<Value> = super::groups(snapshot)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let builtin = registry::builtins().iter().filter(|r| r.group == group && r.version == *version);
                    let custom = custom
                        .iter()
                        .filter(|(g, _)| *g == group)
                        .flat_map(|(_, versions)| versions.iter().filter(|(v, _)| v == version))
                        .flat_map(|(_, resources)| resources.iter().copied());
                    let resources: Vec<Value> = builtin.chain(custom).map(|r| describe(r)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn describe(resource: &Resource) -> Value {
    // Built-in kinds are described relative to their list, custom ones in full.
    let (group, version) =
        if resource.is_custom() { (resource.group.as_str(), resource.version.as_str()) } else { ("", "") };
    let mut out = Map::new();
    out.insert("resource".into(), resource.plural.as_str().into());
    out.insert("responseKind".into(), json!({"group": group, "version": version, "kind": resource.kind}));
    out.insert("scope".into(), if resource.namespaced { "Namespaced" } else { "Cluster" }.into());
    out.insert("singularResource".into(), resource.singular.as_str().into());
    out.insert("verbs".into(), resource.verbs.clone().into());
    if !resource.short_names.is_empty() {
        out.insert("shortNames".into(), resource.short_names.clone().into());
    }
    if !resource.categories.is_empty() {
        out.insert("categories".into(), resource.categories.clone().into());
    }
    let subs: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|sub| {
            let group = sub.group.unwrap_or_else(|| group.to_owned());
            let version = sub.version.unwrap_or_else(|| version.to_owned());
            let kind = json!({"group": group, "version": version, "kind": sub.kind});
            json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
        })
        .collect();
    if !subs.is_empty() {
        out.insert("subresources".into(), subs.into());
    }
    Value::Object(out)
}
