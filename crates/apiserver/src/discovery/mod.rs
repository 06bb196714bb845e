//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form, and OpenAPI.

mod aggregated;
mod legacy;
pub(crate) mod openapi;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::handlers::Call;
use crate::registry::{self, Snapshot};
use crate::reply;
use crate::request::Output;
use crate::request::negotiate::{Offers, negotiate};
use crate::status::{Failure, Result};

pub(crate) use openapi::Cache;

/// Media type of aggregated discovery.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers below `/api` and `/apis` where no resource is named.
pub(crate) fn handle(call: &Call, segments: &[&str]) -> Result<Response<Body>> {
    let snapshot = call.server.registry.snapshot();
    crate::handlers::get_only(call, |call| {
        let document = match segments {
            [root @ ("api" | "apis")] if wants_aggregated(call) => {
                let document = aggregated::document(&snapshot, *root == "api");
                return Ok(reply::bytes(StatusCode::OK, AGGREGATED, document.to_string() + "\n"));
            }
            ["api"] => legacy::versions(call.parts.headers.get(http::header::HOST)),
            ["apis"] => legacy::groups(&snapshot),
            ["api", version] => legacy::resources(&snapshot, "", version).ok_or_else(Failure::unknown_resource)?,
            ["apis", group] => legacy::group(&snapshot, group).ok_or_else(Failure::page_not_found)?,
            ["apis", group, version] => {
                let known = registry::builtin_groups().iter().any(|(g, _)| g == group);
                let missing = if known { Failure::unknown_resource } else { Failure::page_not_found };
                legacy::resources(&snapshot, group, version).ok_or_else(missing)?
            }
            _ => return Err(Failure::page_not_found()),
        };
        answer(call, &document)
    })
}

fn answer(call: &Call, document: &Value) -> Result<Response<Body>> {
    let offers = Offers { transforms: false, custom: false, watch: false };
    // Discovery is answered in JSON whatever else the client would rather have.
    let output = negotiate(&call.parts.headers, &call.query, offers).unwrap_or(Output::JSON);
    Ok(reply::value(StatusCode::OK, document, output))
}

/// Whether the first clause that we know asks for aggregated discovery.
fn wants_aggregated(call: &Call) -> bool {
    let accept = call.parts.headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let params: Vec<&str> = parts.collect();
        let has = |param: &str| params.contains(&param);
        let aggregated = has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList");
        match media {
            "application/json" if aggregated => return true,
            "application/json" | "*/*" | "application/*" if params.iter().all(|p| !p.starts_with("as=")) => {
                return false;
            }
            _ => {}
        }
    }
    false
}

/// All groups and their versions, preferred first.
pub(crate) fn groups(snapshot: &Snapshot) -> Vec<(String, Vec<String>)> {
    let owned = |versions: Vec<&str>| versions.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut out: Vec<(String, Vec<String>)> =
        registry::builtin_groups().into_iter().map(|(group, versions)| (group.to_owned(), owned(versions))).collect();
    for (group, versions) in snapshot.groups() {
        let versions = owned(versions.into_iter().map(|(version, _)| version).collect());
        match out.iter_mut().find(|(known, _)| known == group) {
            Some((_, known)) => known.extend(versions),
            None => out.push((group.to_owned(), versions)),
        }
    }
    out
}
