//! The older form of discovery: `APIGroupList`, `APIGroup`, `APIResourceList`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde_json::{Map, Value, json};

use crate::registry::{self, Resource, Snapshot, Source};

/// `/api`
pub(super) fn versions(host: Option<&HeaderValue>) -> Value {
    let address = host.and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

/// `/apis`
pub(super) fn groups(snapshot: &Snapshot) -> Value {
    let groups: Vec<Value> = super::groups(snapshot)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| api_group(&group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`
pub(super) fn group(snapshot: &Snapshot, name: &str) -> Option<Value> {
    let (_, versions) = super::groups(snapshot).into_iter().find(|(group, _)| group == name && !name.is_empty())?;
    let mut out = api_group(name, &versions);
    out["kind"] = "APIGroup".into();
    out["apiVersion"] = "v1".into();
    Some(out)
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

/// `/api/v1` and `/apis/GROUP/VERSION`
pub(super) fn resources(snapshot: &Snapshot, group: &str, version: &str) -> Option<Value> {
    let mut out = Vec::new();
    for resource in registry::builtins().iter().filter(|r| r.group == group && r.version == version) {
        describe(resource, &mut out);
    }
    for (_, versions) in snapshot.groups().filter(|(g, _)| *g == group) {
        for resource in versions.into_iter().filter(|(v, _)| *v == version).flat_map(|(_, resources)| resources) {
            describe(resource, &mut out);
        }
    }
    if out.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": out});
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn describe(resource: &Resource, out: &mut Vec<Value>) {
    let mut entry = Map::new();
    entry.insert("name".into(), resource.plural.as_str().into());
    entry.insert("singularName".into(), resource.singular.as_str().into());
    entry.insert("namespaced".into(), resource.namespaced.into());
    entry.insert("kind".into(), resource.kind.as_str().into());
    entry.insert("verbs".into(), resource.verbs.clone().into());
    if !resource.short_names.is_empty() {
        entry.insert("shortNames".into(), resource.short_names.clone().into());
    }
    if !resource.categories.is_empty() {
        entry.insert("categories".into(), resource.categories.clone().into());
    }
    let hash = storage_version_hash(resource);
    if !hash.is_empty() {
        entry.insert("storageVersionHash".into(), hash.into());
    }
    out.push(Value::Object(entry));
    for sub in subresources(resource) {
        let mut entry = json!({"name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
            "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs});
        if let Some(group) = &sub.group {
            entry["group"] = group.as_str().into();
        }
        if let Some(version) = &sub.version {
            entry["version"] = version.as_str().into();
        }
        out.push(entry);
    }
}

/// One subresource for discovery.
pub(super) struct Subresource {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) group: Option<String>,
    pub(super) version: Option<String>,
    pub(super) verbs: Vec<&'static str>,
}

/// The subresources of a resource.
pub(super) fn subresources(resource: &Resource) -> Vec<Subresource> {
    const VERBS: [&str; 3] = ["get", "patch", "update"];
    match &resource.source {
        Source::Builtin(kind) => kind
            .subresources
            .iter()
            .map(|sub| Subresource {
                name: sub.name.into(),
                kind: sub.kind.into(),
                group: sub.group.map(str::to_owned),
                version: sub.version.map(str::to_owned),
                verbs: sub.verbs.to_vec(),
            })
            .collect(),
        Source::Custom(version) => {
            let status = version.status.then(|| Subresource {
                name: "status".into(),
                kind: resource.kind.clone(),
                group: None,
                version: None,
                verbs: VERBS.to_vec(),
            });
            let scale = version.scale.is_some().then(|| Subresource {
                name: "scale".into(),
                kind: "Scale".into(),
                group: Some("autoscaling".into()),
                version: Some("v1".into()),
                verbs: VERBS.to_vec(),
            });
            status.into_iter().chain(scale).collect()
        }
    }
}

fn storage_version_hash(resource: &Resource) -> String {
    match &resource.source {
        Source::Builtin(kind) => kind.storage_version_hash.to_owned(),
        Source::Custom(_) => {
            let text = format!("{}/{}/{}", resource.group, resource.storage_version(), resource.kind);
            let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            STANDARD.encode(digest.as_ref().get(..8).unwrap_or_default())
        }
    }
}
