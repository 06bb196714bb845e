//! `pods/NAME/eviction`: a deletion that is asked for politely. There are no disruption budgets here, so it is granted.
//!
//! Before the pod is deleted, its status tells why: the condition `DisruptionTarget`.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Response, StatusCode};
use kubetask_store::{Entry, Expect};
use serde_json::json;

use super::update::ATTEMPTS;
use super::write::{self, Refused};
use super::{Call, delete, get, subresource};
use crate::object;
use crate::registry::{self, Resource};
use crate::reply;
use crate::request::options::{DeleteOptions, WriteOptions};
use crate::request::{Output, Target, body};
use crate::status::{Failure, Result};

pub(crate) async fn handle(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let pods = registry::builtin("", "v1", "pods").ok_or_else(Failure::unknown_resource)?;
    let asked = WriteOptions::parse("CreateOptions", &call.query, call.user_agent(), false)?;
    let media = body::media(&call.parts.headers)?;
    let raw = call.read_body().await?;
    let eviction = body::decode(raw, media).map_err(Failure::bad_request)?.value;
    if object::meta(&eviction, "name") != target.name {
        return Err(Failure::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = &eviction["deleteOptions"];
    let mut options = DeleteOptions::parse(options.is_object().then_some(options), &call.query)?;
    options.dry_run |= asked.dry_run;
    let mut entry = get::find(call, &pods, target)?;
    if !options.dry_run {
        entry = tell(call, &pods, target, &options).await?;
        // The change was ours.
        options.resource_version = options.resource_version.map(|_| entry.revision.to_string());
    }
    delete::evicted(call, &pods, &target.name, entry, &options).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::value(StatusCode::CREATED, &status, Output::JSON))
}

/// Writes into the pod's status that it is evicted.
async fn tell(call: &Call, pods: &Arc<Resource>, target: &Target, options: &DeleteOptions) -> Result<Arc<Entry>> {
    for _ in 0..ATTEMPTS {
        let entry = get::find(call, pods, target)?;
        let mut pod = object::decode(&entry);
        delete::check_preconditions(pods, &target.name, &pod, options)?;
        subresource::put_condition(
            &mut pod,
            json!({
                "type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
            }),
        );
        object::metadata_mut(&mut pod).remove("resourceVersion");
        let unsealed = write::seal(pods, pod);
        match write::put(call, pods, &entry.key, &target.name, Expect::Revision(entry.revision), unsealed).await {
            Ok(told) => return Ok(told),
            Err(Refused::Raced) => {}
            Err(refused) => return Err(refused.into_failure(pods, &target.name)),
        }
    }
    Err(Failure::modified(pods.gr(), &target.name))
}
