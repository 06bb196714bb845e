//! `pods/NAME/binding`: a scheduler puts a pod on a node.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use kubetask_store::Expect;
use serde_json::{Value, json};

use super::update::ATTEMPTS;
use super::write::{self, Refused};
use super::{Call, get};
use crate::object;
use crate::registry;
use crate::reply;
use crate::request::options::WriteOptions;
use crate::request::{Output, Target, body};
use crate::status::{Failure, Result};

pub(crate) async fn bind(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let pods = registry::builtin("", "v1", "pods").ok_or_else(Failure::unknown_resource)?;
    let options = WriteOptions::parse("CreateOptions", &call.query, call.user_agent(), false)?;
    let media = body::media(&call.parts.headers)?;
    let raw = call.read_body().await?;
    let binding = body::decode(raw, media).map_err(Failure::bad_request)?.value;
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        return Err(Failure::bad_request("the target of a binding must name a node"));
    }
    for _ in 0..ATTEMPTS {
        let entry = get::find(call, &pods, target)?;
        let mut pod = object::decode(&entry);
        check(&pods, target, &pod, &binding)?;
        pod["spec"]["nodeName"] = node.as_str().into();
        if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
            for (name, value) in annotations {
                pod["metadata"]["annotations"][name] = value.clone();
            }
        }
        scheduled(&mut pod);
        if options.dry_run {
            break;
        }
        object::metadata_mut(&mut pod).remove("resourceVersion");
        let unsealed = write::seal(&pods, pod);
        let expect = Expect::Revision(entry.revision);
        match write::put(call, &pods, &entry.key, &target.name, expect, unsealed).await {
            Ok(_) => break,
            Err(Refused::Raced) => {}
            Err(refused) => return Err(refused.into_failure(&pods, &target.name)),
        }
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::value(StatusCode::CREATED, &status, Output::JSON))
}

fn check(pods: &crate::registry::Resource, target: &Target, pod: &Value, binding: &Value) -> Result<()> {
    let conflict = |why: String| Err(Failure::conflict(pods.gr(), &target.name, &why));
    let uid = object::meta(binding, "uid");
    if !uid.is_empty() && uid != object::meta(pod, "uid") {
        return conflict("the UID of the binding does not match the UID of the pod".to_owned());
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name));
    }
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !node.is_empty() {
        return conflict(format!("pod {} is already assigned to node \"{node}\"", target.name));
    }
    Ok(())
}

/// Sets the condition that a pod has a node.
fn scheduled(pod: &mut Value) {
    put_condition(pod, json!({"type": "PodScheduled", "status": "True"}));
}

/// Sets a condition of a pod, of now.
pub(super) fn put_condition(pod: &mut Value, mut condition: Value) {
    let generation = &pod["metadata"]["generation"];
    if !generation.is_null() {
        condition["observedGeneration"] = generation.clone();
    }
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = object::now().into();
    let conditions = &mut pod["status"]["conditions"];
    match conditions {
        Value::Array(list) => {
            list.retain(|c| c["type"] != condition["type"]);
            list.push(condition);
        }
        other => *other = json!([condition]),
    }
}
