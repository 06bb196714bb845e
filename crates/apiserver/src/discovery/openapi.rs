//! OpenAPI: the v3 index with content hashes, the v3 documents, and the v2 document that is made of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use http::{Response, StatusCode};
use kubetask_kinds::openapi::{Custom, custom_document, document, gnostic, swagger};
use serde_json::{Map, Value, json};

use crate::handlers::Call;
use crate::registry::{self, Resource, Snapshot};
use crate::reply;
use crate::status::{Failure, Result};

/// Encoded documents by path and content hash.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<String, (String, Bytes)>>);

impl Cache {
    fn get(&self, path: &str, hash: &str, make: impl FnOnce() -> Bytes) -> Bytes {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, bytes)) = lock().get(path)
            && known == hash
        {
            return bytes.clone();
        }
        let bytes = make();
        lock().insert(path.to_owned(), (hash.to_owned(), bytes.clone()));
        bytes
    }
}

/// Answers below `/openapi`.
pub(crate) fn handle(call: &Call, segments: &[&str]) -> Result<Response<Body>> {
    crate::handlers::get_only(call, |call| {
        let snapshot = call.server.registry.snapshot();
        match segments {
            ["openapi", "v2"] => Ok(v2(call, &snapshot)),
            ["openapi", "v3"] => Ok(index(&snapshot)),
            ["openapi", "v3", "api", version] => Ok(serve(call, &snapshot, "", version)),
            ["openapi", "v3", "apis", group, version] => Ok(serve(call, &snapshot, group, version)),
            _ => Err(Failure::page_not_found()),
        }
    })
}

const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The one document of all groups, as JSON or in the protobuf form of Go's clients.
fn v2(call: &Call, snapshot: &Snapshot) -> Response<Body> {
    let accept = call.parts.headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let protobuf = accept.contains("spec.v2") && accept.contains("protobuf");
    let groups = super::groups(snapshot);
    let versions = || groups.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let hash = versions().map(|(group, version)| hash(snapshot, group, version)).collect::<String>();
    let documents = || swagger(versions().map(|(group, version)| value(snapshot, group, version)));
    let (media, body) = if protobuf {
        (GNOSTIC, call.server.documents.get("v2 protobuf", &hash, || gnostic(&documents()).into()))
    } else {
        ("application/json", call.server.documents.get("v2", &hash, || documents().to_string().into()))
    };
    reply::bytes(StatusCode::OK, media, body)
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.2"})
}

fn index(snapshot: &Snapshot) -> Response<Body> {
    let mut paths = Map::new();
    for (group, versions) in super::groups(snapshot) {
        for version in versions {
            let path = path(&group, &version);
            let url = format!("/openapi/v3/{path}?hash={}", hash(snapshot, &group, &version));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    // The real server does not set the type of this one document, and Go guesses.
    reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", json!({"paths": paths}).to_string())
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Changes when the document does: with the program for built-in kinds, with the definitions for custom ones.
fn hash(snapshot: &Snapshot, group: &str, version: &str) -> String {
    let mut text = format!("{} {group}/{version}", env!("CARGO_PKG_VERSION"));
    for resource in custom(snapshot, group, version) {
        text.push_str(&format!(" {} {}", resource.plural, resource.schema_since));
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

fn custom<'a>(snapshot: &'a Snapshot, group: &'a str, version: &'a str) -> Vec<&'a Arc<Resource>> {
    snapshot
        .groups()
        .filter(|(g, _)| *g == group)
        .flat_map(|(_, versions)| versions)
        .filter(|(v, _)| *v == version)
        .flat_map(|(_, resources)| resources)
        .collect()
}

fn serve(call: &Call, snapshot: &Snapshot, group: &str, version: &str) -> Response<Body> {
    let known = registry::builtin_groups().iter().any(|(g, v)| *g == group && v.contains(&version));
    if !known && !snapshot.has_version(group, version) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let hash = hash(snapshot, group, version);
    let path = path(group, version);
    let asked = call.query.get("hash");
    if !asked.is_empty() && asked != hash {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")) {
            response.headers_mut().insert(LOCATION, location);
        }
        return response;
    }
    let etag = format!("\"{hash}\"");
    let unchanged = call.parts.headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == etag.as_bytes());
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let body = call.server.documents.get(&path, &hash, || make(snapshot, group, version));
        reply::bytes(StatusCode::OK, "application/json", body)
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    let caching = if asked.is_empty() { "no-cache, private" } else { "public, immutable" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

fn make(snapshot: &Snapshot, group: &str, version: &str) -> Bytes {
    value(snapshot, group, version).to_string().into()
}

fn value(snapshot: &Snapshot, group: &str, version: &str) -> Value {
    let resources = custom(snapshot, group, version);
    if resources.is_empty() {
        document(group, version).unwrap_or_else(|| json!({"openapi": "3.0.0", "info": info(), "paths": {}}))
    } else {
        let kinds: Vec<Custom<'_>> = resources
            .iter()
            .filter_map(|resource| {
                let version = resource.custom()?;
                Some(Custom {
                    kind: &resource.kind,
                    list_kind: &resource.list_kind,
                    plural: &resource.plural,
                    namespaced: resource.namespaced,
                    status: version.status,
                    scale: version.scale.is_some(),
                    schema: Some(version.raw_schema()).filter(|s| s.is_object()),
                    selectable_fields: &version.selectable_fields,
                })
            })
            .collect();
        custom_document(group, version, &kinds)
    }
}
