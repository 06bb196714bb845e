//! ResourceQuota: a new object must fit into what the quotas of its namespace leave.
//!
//! What is used is counted from the stored objects at the moment of the decision, under a lock that is held until the new
//! object is stored, so that two creates never share the last free place. `status.used` is for people: it is written
//! after every change in a namespace with quotas, and decides nothing.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kubetask_kinds::Part;
use kubetask_kinds::quantity::Quantity;
use kubetask_store::{Expect, ListOptions, Write};
use serde_json::{Value, json};

use super::super::{Call, write};
use super::limits::pod_total;
use crate::object;
use crate::registry::{self, Resource};
use crate::request::Target;
use crate::server::Inner;
use crate::status::{Failure, Result};

/// Held until the object that was admitted is stored.
pub(crate) type Reservation = Option<tokio::sync::OwnedMutexGuard<()>>;

/// Core resources that quotas also know by their bare name.
const COUNTED: [&str; 6] = ["configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services"];

/// Whether an update can take more of anything than it took before.
pub(super) fn grows(resource: &Resource, part: Part) -> bool {
    let spec = resource.is_core("persistentvolumeclaims") || resource.is_core("services");
    (part == Part::Main && spec) || (part == Part::Resize && resource.is_core("pods"))
}

/// Checks a new object, or what an update adds to an old one, against every quota of its namespace.
pub(super) async fn reserve(
    call: &Call,
    resource: &Resource,
    target: &Target,
    object: &Value,
    old: Option<&Value>,
) -> Result<Reservation> {
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
            check(resource, &quota, object, old.filter(|old| in_scopes(spec, resource, old)), &stored)?;
        }
    }
    Ok(Some(guard))
}

fn check(resource: &Resource, quota: &Value, new: &Value, old: Option<&Value>, stored: &[&Value]) -> Result<()> {
    let name = object::meta(quota, "name");
    let refuse = |why: String| Err(Failure::forbidden(resource.gr(), object::meta(new, "name"), &why));
    let constraints = quota["spec"]["hard"].as_object().into_iter().flatten().map(|(constraint, _)| constraint);
    let missing: Vec<String> = constraints
        .filter(|constraint| is_compute(resource, constraint))
        .filter_map(|constraint| Some(format!("{constraint} for: {}", lacking(constraint, new)?)))
        .collect();
    if !missing.is_empty() {
        return refuse(format!("failed quota: {name}: must specify {}", missing.join("; ")));
    }
    let (mut requested, mut used, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    for (constraint, hard) in quota["spec"]["hard"].as_object().into_iter().flatten() {
        let Some(hard) = quantity(hard) else { continue };
        let Some(takes) = usage(resource, constraint, new) else { continue };
        let took = old.and_then(|old| usage(resource, constraint, old));
        let adds = took.map_or(takes, |took| takes.minus(took));
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
    if resource.is_core("persistentvolumeclaims") {
        let counted = match constraint.split_once(CLASS) {
            Some((class, what)) if object["spec"]["storageClassName"] == class => what,
            Some(_) => return None,
            None => constraint,
        };
        return match counted {
            "requests.storage" => quantity(&object["spec"]["resources"]["requests"]["storage"]),
            "persistentvolumeclaims" => one(),
            _ => None,
        };
    }
    if resource.is_core("services") {
        let balanced = object["spec"]["type"] == "LoadBalancer";
        let counts = match constraint {
            "services" => true,
            "services.loadbalancers" => balanced,
            "services.nodeports" => return node_ports(object),
            _ => return None,
        };
        return if counts { one() } else { "0".parse().ok() };
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

/// Between the name of a storage class and what claims of that class take.
const CLASS: &str = ".storageclass.storage.k8s.io/";

/// How many ports of the node a service takes.
fn node_ports(service: &Value) -> Option<Quantity> {
    let ports = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    let taken = match service["spec"]["type"].as_str() {
        Some("NodePort") => ports,
        Some("LoadBalancer") if service["spec"]["allocateLoadBalancerNodePorts"] != false => ports,
        _ => 0,
    };
    taken.to_string().parse().ok()
}

/// `requests.cpu` → (`requests`, `cpu`); a bare name means requests.
fn compute(constraint: &str) -> Option<(&'static str, &str)> {
    if constraint.contains(CLASS) {
        return None;
    }
    if let Some(name) = constraint.strip_prefix("limits.") {
        return Some(("limits", name));
    }
    match constraint.strip_prefix("requests.") {
        Some("storage") => None,
        Some(name) => Some(("requests", name)),
        None => {
            let bare = matches!(constraint, "cpu" | "memory" | "ephemeral-storage");
            (bare || constraint.starts_with("hugepages-")).then_some(("requests", constraint))
        }
    }
}

/// Whether every container must say how much it takes.
fn is_compute(resource: &Resource, constraint: &str) -> bool {
    resource.is_core("pods")
        && !constraint.starts_with("count/")
        && compute(constraint).is_some_and(|(_, name)| matches!(name, "cpu" | "memory"))
}

/// The containers that do not say how much they take; `None` where all do.
fn lacking(constraint: &str, pod: &Value) -> Option<String> {
    let (which, name) = compute(constraint)?;
    let containers = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    let mut names: Vec<&str> = containers
        .flatten()
        .filter(|c| c["resources"][which][name].is_null())
        .filter_map(|c| c["name"].as_str())
        .collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(","))
}

/// Whether a quota is about an object at all.
fn in_scopes(spec: &Value, resource: &Resource, object: &Value) -> bool {
    let named = spec["scopes"].as_array().into_iter().flatten().map(|name| (name, &Value::Null));
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let selected = selected.map(|expression| (&expression["scopeName"], expression));
    named.chain(selected).all(|(name, expression)| {
        let name = name.as_str().unwrap_or_default();
        if resource.is_core("persistentvolumeclaims") && name == "VolumeAttributesClass" {
            return selects(expression, object["spec"]["volumeAttributesClassName"].as_str());
        }
        resource.is_core("pods") && in_scope(name, expression, object)
    })
}

fn in_scope(name: &str, expression: &Value, pod: &Value) -> bool {
    let terminating = pod["spec"]["activeDeadlineSeconds"].is_number();
    let best_effort = kubetask_kinds::qos_class(&pod["spec"]) == "BestEffort";
    match name {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => selects(expression, pod["spec"]["priorityClassName"].as_str()),
        "CrossNamespacePodAffinity" => crosses_namespaces(&pod["spec"]["affinity"]),
        _ => false,
    }
}

/// Whether an expression of a scope selector, or the bare name of a scope, means this class.
fn selects(expression: &Value, class: Option<&str>) -> bool {
    let class = class.filter(|class| !class.is_empty());
    let among = |class: &str| expression["values"].as_array().into_iter().flatten().any(|value| *value == class);
    match expression["operator"].as_str() {
        Some("In") => class.is_some_and(among),
        Some("NotIn") => !class.is_some_and(among),
        Some("DoesNotExist") => class.is_none(),
        _ => class.is_some(),
    }
}

/// Whether a term of (anti-)affinity names other namespaces.
fn crosses_namespaces(affinity: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let list = |name: &str| affinity[*kind][name].as_array().cloned().unwrap_or_default();
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.into_iter().map(|mut term| term["podAffinityTerm"].take());
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        let names = |term: &Value| term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
        preferred.chain(required).any(|term| names(&term) || !term["namespaceSelector"].is_null())
    })
}

/// The resource whose objects a constraint counts or adds up.
fn counted(server: &Inner, constraint: &str) -> Option<Arc<Resource>> {
    if let Some(name) = constraint.strip_prefix("count/") {
        let builtin = registry::builtins().iter().find(|resource| resource.gr().to_string() == name).cloned();
        let snapshot = server.registry.snapshot();
        let mut custom = snapshot.groups().flat_map(|(_, versions)| versions).flat_map(|(_, resources)| resources);
        return builtin.or_else(|| custom.find(|resource| resource.gr().to_string() == name).cloned());
    }
    let plural = if COUNTED.contains(&constraint) {
        constraint
    } else if constraint == "requests.storage" || constraint.contains(CLASS) {
        "persistentvolumeclaims"
    } else if constraint.starts_with("services.") {
        "services"
    } else {
        compute(constraint).map(|_| "pods")?
    };
    registry::builtin("", "v1", plural)
}

/// Counts what a namespace uses and writes it into the status of its quotas.
pub(crate) async fn count(server: &Arc<Inner>, namespace: &str) {
    const ATTEMPTS: usize = 3;
    let prefix = format!("{namespace}/");
    let options = || ListOptions { prefix: &prefix, ..ListOptions::default() };
    let Some(quotas) = registry::builtin("", "v1", "resourcequotas") else { return };
    for _ in 0..ATTEMPTS {
        let Ok(list) = server.store.list(&quotas.bucket, &options()) else { return };
        let mut raced = false;
        for entry in &list.entries {
            let live = object::decode(entry);
            if live["metadata"]["deletionTimestamp"].is_string() {
                continue;
            }
            let mut used = serde_json::Map::new();
            for (constraint, _) in live["spec"]["hard"].as_object().into_iter().flatten() {
                let Some(resource) = counted(server, constraint) else { continue };
                let Ok(stored) = server.store.list(&resource.bucket, &options()) else { continue };
                let values = stored.entries.iter().map(|entry| resource.value(entry));
                let values = values.filter(|value| in_scopes(&live["spec"], &resource, value));
                let total = values.filter_map(|value| usage(&resource, constraint, &value)).reduce(Quantity::plus);
                used.insert(constraint.clone(), total.map_or_else(|| "0".to_owned(), |total| total.to_string()).into());
            }
            let status = json!({"hard": live["spec"]["hard"], "used": used});
            if live["status"] == status {
                continue;
            }
            let mut object = live.clone();
            object["status"] = status;
            let now = object::now();
            write::track(&quotas, Some(&live), &mut object, Part::Status, "kube-controller-manager", &now);
            object::metadata_mut(&mut object).remove("resourceVersion");
            let unsealed = write::seal(&quotas, object);
            let key = entry.key.clone();
            let write = Write::put(quotas.bucket.clone(), &*key, Expect::Revision(entry.revision), move |revision| {
                unsealed.seal(revision)
            });
            raced |= server.store.write(write).await.is_err();
        }
        if !raced {
            return;
        }
    }
}

/// Something changed in a namespace: if it has quotas, they are counted again, soon and once for many changes.
pub(crate) fn changed(server: &Arc<Inner>, key: &str) {
    const SOON: Duration = Duration::from_millis(20);
    let Some((namespace, _)) = key.split_once('/') else { return };
    let prefix = format!("{namespace}/");
    let options = ListOptions { prefix: &prefix, limit: 1, ..ListOptions::default() };
    if server.store.list("resourcequotas", &options).map_or(true, |list| list.entries.is_empty()) {
        return;
    }
    let pending = || server.counting.lock().unwrap_or_else(PoisonError::into_inner);
    if pending().insert(namespace.to_owned()) {
        let (server, namespace) = (server.clone(), namespace.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(SOON).await;
            server.counting.lock().unwrap_or_else(PoisonError::into_inner).remove(&namespace);
            count(&server, &namespace).await;
        });
    }
}
