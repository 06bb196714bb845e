//! ResourceQuota: a new object must fit into what the quotas of its namespace leave.
//!
//! What is used is counted from the stored objects at the moment of the decision, under a lock that is held until the new
//! object is stored, so that two creates never share the last free place.

use kubetask_kinds::quantity::Quantity;
use kubetask_store::ListOptions;
use serde_json::Value;

use super::super::Call;
use super::limits::pod_total;
use crate::object;
use crate::registry::Resource;
use crate::request::Target;
use crate::status::{Failure, Result};

/// Held until the object that was admitted is stored.
pub(crate) type Reservation = Option<tokio::sync::OwnedMutexGuard<()>>;

/// Core resources that quotas also know by their bare name.
const COUNTED: [&str; 6] = ["configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services"];

/// Checks a new object against every quota of its namespace.
pub(super) async fn reserve(call: &Call, resource: &Resource, target: &Target, object: &Value) -> Result<Reservation> {
    let prefix = format!("{}/", target.namespace);
    let options = || ListOptions { prefix: &prefix, ..ListOptions::default() };
    let store = &call.server.store;
    let any = store.list("resourcequotas", &ListOptions { limit: 1, ..options() }).is_ok_and(|s| !s.entries.is_empty());
    if !any {
        return Ok(None);
    }
    let guard = call.server.quota.clone().lock_owned().await;
    let Ok(quotas) = store.list("resourcequotas", &options()) else { return Ok(None) };
    let Ok(stored) = store.list(&resource.bucket, &options()) else { return Ok(None) };
    let stored: Vec<Value> = stored.entries.iter().map(|entry| resource.value(entry)).collect();
    for quota in quotas.entries.iter().map(|entry| object::decode(entry)) {
        let spec = &quota["spec"];
        if in_scopes(spec, resource, object) {
            let stored: Vec<&Value> = stored.iter().filter(|o| in_scopes(spec, resource, o)).collect();
            check(resource, &quota, object, &stored)?;
        }
    }
    Ok(Some(guard))
}

fn check(resource: &Resource, quota: &Value, new: &Value, stored: &[&Value]) -> Result<()> {
    let name = object::meta(quota, "name");
    let refuse = |why: String| Err(Failure::forbidden(resource.gr(), object::meta(new, "name"), &why));
    let (mut requested, mut used, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    for (constraint, hard) in quota["spec"]["hard"].as_object().into_iter().flatten() {
        let Some(hard) = quantity(hard) else { continue };
        let Some(adds) = usage(resource, constraint, new) else {
            if is_compute(resource, constraint) {
                return refuse(format!(
                    "failed quota: {name}: must specify {constraint} for: {}",
                    lacking(constraint, new)
                ));
            }
            continue;
        };
        let zero = adds.is_negative() || adds.nano() == 0;
        if zero {
            continue;
        }
        let have = stored.iter().filter_map(|o| usage(resource, constraint, o)).reduce(Quantity::plus);
        let total = have.map_or(adds, |have| have.plus(adds));
        if total > hard {
            let have = have.map_or_else(|| "0".to_owned(), |have| have.to_string());
            requested.push(format!("{constraint}={adds}"));
            used.push(format!("{constraint}={have}"));
            limited.push(format!("{constraint}={hard}"));
        }
    }
    if requested.is_empty() {
        return Ok(());
    }
    refuse(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        requested.join(","),
        used.join(","),
        limited.join(",")
    ))
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// How much of a constraint an object uses; `None` when the constraint is not about it, or when it does not say.
fn usage(resource: &Resource, constraint: &str, object: &Value) -> Option<Quantity> {
    let one = || "1".parse().ok();
    if let Some(counted) = constraint.strip_prefix("count/") {
        return if counted == resource.gr().to_string() { one() } else { None };
    }
    if resource.is_core("persistentvolumeclaims") && constraint == "requests.storage" {
        return quantity(&object["spec"]["resources"]["requests"]["storage"]);
    }
    if resource.is_core("pods") {
        let finished = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if finished {
            return "0".parse().ok();
        }
        if constraint != "pods" {
            let (which, name) = compute(constraint)?;
            return quantity(&pod_total(object, which)[name]);
        }
    }
    let counted = resource.group.is_empty() && COUNTED.contains(&constraint) && resource.plural == constraint;
    if counted { one() } else { None }
}

/// `requests.cpu` → (`requests`, `cpu`); a bare name means requests.
fn compute(constraint: &str) -> Option<(&'static str, &str)> {
    if let Some(name) = constraint.strip_prefix("limits.") {
        return Some(("limits", name));
    }
    let name = constraint.strip_prefix("requests.").unwrap_or(constraint);
    (matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.contains('/')).then_some(("requests", name))
}

/// Whether every container must say how much it takes.
fn is_compute(resource: &Resource, constraint: &str) -> bool {
    resource.is_core("pods")
        && !constraint.starts_with("count/")
        && compute(constraint).is_some_and(|(_, name)| matches!(name, "cpu" | "memory"))
}

fn lacking(constraint: &str, pod: &Value) -> String {
    let Some((which, name)) = compute(constraint) else { return String::new() };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        containers.filter(|c| c["resources"][which][name].is_null()).filter_map(|c| c["name"].as_str()).collect();
    names.join(",")
}

/// Whether a quota is about an object at all.
fn in_scopes(spec: &Value, resource: &Resource, object: &Value) -> bool {
    let named = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let selected = selected.filter(|e| e["operator"] == "Exists").filter_map(|e| e["scopeName"].as_str());
    named.chain(selected).all(|scope| {
        if !resource.is_core("pods") {
            return false;
        }
        let terminating = object["spec"]["activeDeadlineSeconds"].is_number();
        let containers = object["spec"]["containers"].as_array().into_iter().flatten();
        let best_effort = containers.map(|c| &c["resources"]).all(|r| empty(&r["requests"]) && empty(&r["limits"]));
        match scope {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => best_effort,
            "NotBestEffort" => !best_effort,
            "PriorityClass" => object["spec"]["priorityClassName"].as_str().is_some_and(|c| !c.is_empty()),
            _ => false,
        }
    })
}

fn empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty)
}
