//! LimitRange: defaults for containers, and bounds on containers, pods and claims.

use kubetask_kinds::quantity::Quantity;
use kubetask_store::ListOptions;
use serde_json::{Map, Value, json};

use super::super::Call;
use crate::object;
use crate::registry::Resource;
use crate::request::Target;
use crate::status::{Failure, Result};

/// The items of all LimitRanges of a namespace.
fn items(call: &Call, namespace: &str) -> Vec<Value> {
    let prefix = format!("{namespace}/");
    let options = ListOptions { prefix: &prefix, ..ListOptions::default() };
    let Ok(snapshot) = call.server.store.list("limitranges", &options) else { return Vec::new() };
    let limits = |mut range: Value| match range["spec"]["limits"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    snapshot.entries.iter().flat_map(|entry| limits(object::decode(entry))).collect()
}

/// Fills in default requests and limits of containers.
pub(super) fn default(call: &Call, target: &Target, object: &mut Value) {
    let items = items(call, &target.namespace);
    for item in items.iter().filter(|item| item["type"] == json!("Container")) {
        for list in ["initContainers", "containers"] {
            let Some(containers) = object.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else {
                continue;
            };
            for container in containers.iter_mut().filter(|c| c.is_object()) {
                fill(container, "limits", &item["default"]);
                fill(container, "requests", &item["defaultRequest"]);
            }
        }
    }
}

fn fill(container: &mut Value, which: &str, defaults: &Value) {
    let Some(defaults) = defaults.as_object().filter(|d| !d.is_empty()) else { return };
    if !container["resources"].is_object() {
        container["resources"] = json!({});
    }
    let resources = &mut container["resources"];
    if !resources[which].is_object() {
        resources[which] = Value::Object(Map::new());
    }
    if let Value::Object(slot) = &mut resources[which] {
        for (name, value) in defaults {
            slot.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Refuses what is beyond the bounds.
pub(super) fn check(call: &Call, resource: &Resource, target: &Target, object: &Value) -> Result<()> {
    let pods = resource.is_core("pods");
    let claims = resource.is_core("persistentvolumeclaims");
    if !pods && !claims {
        return Ok(());
    }
    let mut problems = Vec::new();
    for item in items(call, &target.namespace) {
        match item["type"].as_str().unwrap_or_default() {
            "Container" if pods => {
                for list in ["containers", "initContainers"] {
                    for container in object["spec"][list].as_array().into_iter().flatten() {
                        bounds(
                            &item,
                            "Container",
                            &container["resources"]["requests"],
                            &container["resources"]["limits"],
                            &mut problems,
                        );
                    }
                }
            }
            "Pod" if pods => {
                let (requests, limits) = (pod_total(object, "requests"), pod_total(object, "limits"));
                bounds(&item, "Pod", &requests, &limits, &mut problems);
            }
            "PersistentVolumeClaim" if claims => {
                let requests = &object["spec"]["resources"]["requests"];
                bounds(&item, "PersistentVolumeClaim", requests, requests, &mut problems);
            }
            _ => {}
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::forbidden(resource.gr(), object::meta(object, "name"), one)),
        many => Err(Failure::forbidden(resource.gr(), object::meta(object, "name"), &format!("[{}]", many.join(", ")))),
    }
}

fn bounds(item: &Value, what: &str, requests: &Value, limits: &Value, problems: &mut Vec<String>) {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    for (name, bound) in item["min"].as_object().into_iter().flatten() {
        let bound_text = bound.as_str().unwrap_or_default();
        match (parse(&requests[name]), parse(bound)) {
            (Some(request), Some(min)) if request < min => problems.push(format!(
                "minimum {name} usage per {what} is {bound_text}, but request is {}",
                requests[name].as_str().unwrap_or_default()
            )),
            (None, Some(_)) => {
                problems.push(format!("minimum {name} usage per {what} is {bound_text}.  No request is specified"))
            }
            _ => {}
        }
    }
    for (name, bound) in item["max"].as_object().into_iter().flatten() {
        let bound_text = bound.as_str().unwrap_or_default();
        match (parse(&limits[name]), parse(bound)) {
            (Some(limit), Some(max)) if limit > max => problems.push(format!(
                "maximum {name} usage per {what} is {bound_text}, but limit is {}",
                limits[name].as_str().unwrap_or_default()
            )),
            (None, Some(_)) => {
                problems.push(format!("maximum {name} usage per {what} is {bound_text}.  No limit is specified"))
            }
            _ => {}
        }
    }
}

/// The sum over the containers of a pod.
pub(super) fn pod_total(pod: &Value, which: &str) -> Value {
    let mut total: Map<String, Value> = Map::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        for (name, value) in container["resources"][which].as_object().into_iter().flatten() {
            let Some(add) = value.as_str().and_then(|t| t.parse::<Quantity>().ok()) else { continue };
            let sum = match total.get(name).and_then(Value::as_str).and_then(|t| t.parse::<Quantity>().ok()) {
                Some(have) => have.plus(add),
                None => add,
            };
            total.insert(name.clone(), sum.to_string().into());
        }
    }
    Value::Object(total)
}
