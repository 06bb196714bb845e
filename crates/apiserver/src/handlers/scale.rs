//! `/scale` of custom resources: an `autoscaling/v1` Scale made from, and written to, the paths of the definition.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Response, StatusCode};
use kubetask_kinds::Part;
use kubetask_patch::{json, merge};
use serde_json::{Map, Value, json};

use super::update::{self, ATTEMPTS, Ownership, Step};
use super::write::Refused;
use super::{Call, get};
use crate::object;
use crate::print::jsonpath::Path;
use crate::registry::Resource;
use crate::registry::custom::Scale;
use crate::reply;
use crate::request::options::WriteOptions;
use crate::request::{Output, Target, body};
use crate::status::{Failure, GroupResource, Result};

pub(crate) async fn handle(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    method: &Method,
) -> Result<Response<Body>> {
    let Some(paths) = resource.custom().and_then(|version| version.scale.clone()) else {
        return Err(Failure::unknown_resource());
    };
    match *method {
        Method::GET | Method::HEAD => {
            let entry = get::find(call, resource, target)?;
            answer(&scale_of(&resource.value(&entry), &paths))
        }
        Method::PUT | Method::PATCH => change(call, resource, target, &paths, method).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

fn answer(scale: &Value) -> Result<Response<Body>> {
    Ok(reply::value(StatusCode::OK, scale, Output::JSON))
}

fn scale_of(object: &Value, paths: &Scale) -> Value {
    let read = |path: &str| Path::parse(path).and_then(|p| p.first(object).cloned()).unwrap_or(Value::Null);
    let number = |path: &str| read(path).as_i64().unwrap_or_default();
    let meta = &object["metadata"];
    let mut metadata = Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !meta[name].is_null() {
            metadata.insert(name.into(), meta[name].clone());
        }
    }
    let mut spec = Map::new();
    let replicas = number(&paths.spec_replicas);
    if replicas != 0 {
        spec.insert("replicas".into(), replicas.into());
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if let Some(selector) = paths.label_selector.as_deref().map(read).and_then(|v| v.as_str().map(str::to_owned)) {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

async fn change(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    paths: &Scale,
    method: &Method,
) -> Result<Response<Body>> {
    let kind = if method == Method::PUT { "UpdateOptions" } else { "PatchOptions" };
    let options = WriteOptions::parse(kind, &call.query, call.user_agent(), false)?;
    let content_type = body::content_type(&call.parts.headers).to_owned();
    let raw = call.read_body().await?;
    let media = if method == Method::PUT { body::media(&call.parts.headers)? } else { body::Media::Json };
    let document = body::decode(raw, media).map_err(Failure::bad_request)?.value;
    let key = object::key(resource.namespaced, &target.namespace, &target.name);
    for _ in 0..ATTEMPTS {
        let Some(live) = call.server.store.get(&resource.bucket, &key) else {
            return Err(Failure::not_found(resource.gr(), &target.name));
        };
        let live_value = resource.value(&live);
        let current = scale_of(&live_value, paths);
        let wanted = match (method, content_type.as_str()) {
            (&Method::PUT, _) => document.clone(),
            (_, "application/json-patch+json") => {
                json::apply(current, &document).map_err(|_| Failure::unprocessable())?
            }
            (_, "application/merge-patch+json" | "application/strategic-merge-patch+json") => {
                merge::apply(current, &document).map_err(|error| Failure::bad_request(error.to_string()))?
            }
            _ => return Err(Failure::unsupported_media_type("415: Unsupported Media Type", true)),
        };
        update::check_name(&wanted, target)?;
        let version = object::meta(&wanted, "resourceVersion");
        let pinned = !version.is_empty() && method == Method::PUT;
        if !version.is_empty() && version != object::meta(&live_value, "resourceVersion") {
            return Err(Failure::modified(resource.gr(), &target.name));
        }
        let replicas = replicas(&wanted)?;
        let mut object = live_value.clone();
        if let Some(path) = Path::parse(&paths.spec_replicas) {
            path.set(&mut object, replicas.into());
        }
        let step = Step { resource, target, part: Part::Main, options: &options, live: &live, live_value: &live_value };
        match update::finish(call, &step, object, Ownership::Track).await {
            Ok(super::create::Outcome::Stored(entry)) => return answer(&scale_of(&resource.value(&entry), paths)),
            Ok(super::create::Outcome::Dry(value)) => return answer(&scale_of(&value, paths)),
            Err(Refused::Raced) if !pinned => {}
            Err(refused) => return Err(refused.into_failure(resource, &target.name)),
        }
    }
    Err(Failure::modified(resource.gr(), &target.name))
}

fn replicas(scale: &Value) -> Result<i64> {
    let value = &scale["spec"]["replicas"];
    match value.as_i64() {
        Some(replicas) if replicas >= 0 => Ok(replicas),
        None if value.is_null() => Ok(0),
        Some(replicas) => {
            let path = kubetask_schema::field::Path::new("spec").child("replicas");
            let error = kubetask_schema::field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
            let gk = GroupResource { group: "autoscaling", resource: "Scale" };
            Err(Failure::invalid(gk, object::meta(scale, "name"), &[error]))
        }
        None => Err(Failure::bad_request(
            "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be a number",
        )),
    }
}
