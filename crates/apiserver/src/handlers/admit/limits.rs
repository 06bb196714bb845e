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
                request_bounds(&item, "PersistentVolumeClaim", &object["spec"]["resources"]["requests"], &mut problems);
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

fn parse(value: &Value) -> Option<Quantity> {
    value.as_str().and_then(|text| text.parse::<Quantity>().ok())
}

/// The members of `item[name]` that are quantities, with their text.
fn limits_of<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, Quantity, &'a str)> {
    let members = item[name].as_object().into_iter().flatten();
    members.filter_map(|(name, bound)| Some((name, parse(bound)?, bound.as_str()?)))
}

fn bounds(item: &Value, what: &str, requests: &Value, limits: &Value, problems: &mut Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (name, min, shown) in limits_of(item, "min") {
        let start = format!("minimum {name} usage per {what} is {shown}");
        let (request, limit) = (&requests[name], &limits[name]);
        match (parse(request), parse(limit)) {
            (None, _) => problems.push(format!("{start}.  No request is specified")),
            (_, Some(amount)) if amount < min => problems.push(format!("{start}, but limit is {}", text(limit))),
            (Some(amount), _) if amount < min => problems.push(format!("{start}, but request is {}", text(request))),
            _ => {}
        }
    }
    for (name, max, shown) in limits_of(item, "max") {
        let start = format!("maximum {name} usage per {what} is {shown}");
        let (request, limit) = (&requests[name], &limits[name]);
        match (parse(limit), parse(request)) {
            (None, _) => problems.push(format!("{start}.  No limit is specified")),
            (Some(amount), _) if amount > max => problems.push(format!("{start}, but limit is {}", text(limit))),
            (_, Some(amount)) if amount > max => problems.push(format!("{start}, but request is {}", text(request))),
            _ => {}
        }
    }
    for (name, most, shown) in limits_of(item, "maxLimitRequestRatio") {
        let start = format!("{name} max limit to request ratio per {what} is {shown}");
        match (parse(&requests[name]), parse(&limits[name])) {
            (Some(request), _) if request.nano() == 0 => {
                problems.push(format!("{start}, but no request is specified or request is 0"));
            }
            (None, _) => problems.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => problems.push(format!("{start}, but no limit is specified or limit is 0")),
            (_, Some(limit)) if limit.nano() == 0 => {
                problems.push(format!("{start}, but no limit is specified or limit is 0"));
            }
            (Some(request), Some(limit)) => {
                #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with six digits")]
                let (ratio, most) = (limit.nano() as f64 / request.nano() as f64, most.nano() as f64 / 1e9);
                if ratio > most {
                    problems.push(format!("{start}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

/// Bounds on what has requests only.
fn request_bounds(item: &Value, what: &str, requests: &Value, problems: &mut Vec<String>) {
    for (which, word) in [("min", "minimum"), ("max", "maximum")] {
        for (name, bound, shown) in limits_of(item, which) {
            let start = format!("{word} {name} usage per {what} is {shown}");
            match parse(&requests[name]) {
                None => problems.push(format!("{start}.  No request is specified")),
                Some(amount) if (which == "min" && amount < bound) || (which == "max" && amount > bound) => {
                    let given = requests[name].as_str().unwrap_or_default();
                    problems.push(format!("{start}, but request is {given}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// What a pod takes: the sum over its containers and those init containers that stay, or the largest of the init
/// containers before them, whichever is more.
pub(super) fn pod_total(pod: &Value, which: &str) -> Value {
    let mut total: Map<String, Value> = Map::new();
    let list = |name: &str| pod["spec"][name].as_array().map(Vec::as_slice).unwrap_or_default();
    let stays = |container: &&Value| container["restartPolicy"] == json!("Always");
    let add = |total: &mut Map<String, Value>, container: &Value| {
        for (name, value) in container["resources"][which].as_object().into_iter().flatten() {
            let Some(more) = parse(value) else { continue };
            let sum = total.get(name).and_then(parse).map_or(more, |have| have.plus(more));
            total.insert(name.clone(), sum.to_string().into());
        }
    };
    for container in list("containers").iter().chain(list("initContainers").iter().filter(stays)) {
        add(&mut total, container);
    }
    let mut before: Map<String, Value> = Map::new();
    for container in list("initContainers") {
        if stays(&container) {
            add(&mut before, container);
            continue;
        }
        let mut alone = before.clone();
        add(&mut alone, container);
        for (name, value) in alone {
            if parse(&value) > total.get(&name).and_then(parse) {
                total.insert(name, value);
            }
        }
    }
    for (name, value) in pod["spec"]["overhead"].as_object().into_iter().flatten() {
        if let (Some(have), Some(more)) = (total.get(name).and_then(parse), parse(value)) {
            total.insert(name.clone(), have.plus(more).to_string().into());
        }
    }
    Value::Object(total)
}
