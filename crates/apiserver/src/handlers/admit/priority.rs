//! PriorityClasses: a pod's priority is that of its class, and one class at most is everybody's.

use kubetask_store::ListOptions;
use serde_json::{Value, json};

use super::super::Call;
use crate::object;
use crate::registry::{self, Resource};
use crate::status::{Failure, Result};

/// Classes that every cluster has, whether or not they are stored here.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPTS: &str = "PreemptLowerPriority";

fn classes(call: &Call) -> Vec<Value> {
    let Some(classes) = registry::builtin("scheduling.k8s.io", "v1", "priorityclasses") else { return Vec::new() };
    let Ok(snapshot) = call.server.store.list(&classes.bucket, &ListOptions::default()) else { return Vec::new() };
    snapshot.entries.iter().map(|entry| classes.value(entry)).collect()
}

/// The class of pods that name none.
fn everybodys(classes: &[Value]) -> Option<&Value> {
    let default = classes.iter().filter(|class| class["globalDefault"] == true);
    default.min_by_key(|class| class["value"].as_i64())
}

/// Gives a new pod the priority of its class.
pub(super) fn of_pod(call: &Call, resource: &Resource, pod: &mut Value) -> Result<()> {
    let name = object::meta(pod, "name").to_owned();
    let refuse = |why: String| Err(Failure::forbidden(resource.gr(), &name, &why));
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
    let classes = classes(call);
    let asked = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let found = match asked.as_str() {
        "" => everybodys(&classes),
        asked => classes.iter().find(|class| object::meta(class, "name") == asked),
    };
    let system = || SYSTEM.iter().find(|(name, _)| *name == asked).map(|(_, value)| *value);
    let (priority, policy) = match (found, system()) {
        (Some(class), _) => (class["value"].as_i64().unwrap_or_default(), class["preemptionPolicy"].as_str()),
        (None, Some(value)) => (value, None),
        (None, None) if asked.is_empty() => (0, None),
        (None, None) => return refuse(format!("no PriorityClass with name {asked} was found")),
    };
    let policy = policy.unwrap_or(PREEMPTS);
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return refuse(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let (true, Some(class)) = (asked.is_empty(), found) {
        spec["priorityClassName"] = json!(object::meta(class, "name"));
    }
    spec["priority"] = priority.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

/// A second class for everybody is refused.
pub(super) fn class(call: &Call, resource: &Resource, class: &Value) -> Result<()> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    match everybodys(&classes(call)) {
        Some(other) => {
            let other = object::meta(other, "name");
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(Failure::forbidden(resource.gr(), object::meta(class, "name"), &why))
        }
        None => Ok(()),
    }
}
