//! Names and amounts of resources: what containers, quotas and limits may speak of.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::NOT_NEGATIVE;
use crate::quantity::Quantity;

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Kinds of which quotas count the objects, by their bare names.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a quota can be about a resource of this name, which has no domain.
pub(crate) fn is_standard_for_quota(name: &str) -> bool {
    let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    COMPUTE.contains(&bare) || COUNTED.contains(&name) || name == "requests.storage" || huge
}

fn is_for_containers(name: &str) -> bool {
    COMPUTE.contains(&name) || name.starts_with("hugepages-")
}

/// Whether the name is in the domain of Kubernetes itself.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the name is of a device or the like, of which there are whole ones only.
fn is_extended(name: &str) -> bool {
    let quota = format!("requests.{name}");
    !is_native(name) && !name.starts_with("requests.") && crate::names::qualified_name(&quota).is_empty()
}

/// Whether containers may be promised more than there is.
pub(crate) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

/// A name: qualified, and if it has no domain one that is known.
fn check_name(name: &str, at: &Path, errors: &mut Vec<Error>) -> bool {
    let wrong = crate::names::qualified_name(name);
    if !wrong.is_empty() {
        errors.extend(wrong.into_iter().map(|m| Error::invalid(at, name, m)));
    } else if !name.contains('/') && !is_standard_for_quota(name) && name != "storage" {
        let text = "must be a standard resource type or fully qualified";
        errors.push(Error::invalid(at, name, text));
        return false;
    }
    true
}

/// The name of a resource of a container.
pub(crate) fn container_name(name: &str, at: &Path, errors: &mut Vec<Error>) {
    check_name(name, at, errors);
    if !name.contains('/') {
        if !is_for_containers(name) {
            errors.push(Error::invalid(at, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(at, name, "doesn't follow extended resource name standard"));
    }
}

/// The name of a resource of a quota.
pub(crate) fn quota_name(name: &str, at: &Path, errors: &mut Vec<Error>) {
    check_name(name, at, errors);
    if !name.contains('/') && !is_standard_for_quota(name) {
        errors.push(Error::invalid(at, name, "must be a standard resource for quota"));
    }
}

/// The name of a resource in a range of limits for objects of `kind`.
pub(crate) fn limited_name(kind: &str, name: &str, at: &Path, errors: &mut Vec<Error>) {
    if matches!(kind, "Pod" | "Container") {
        container_name(name, at, errors);
    } else {
        check_name(name, at, errors);
    }
}

/// An amount must not be negative, and what can only be counted must be whole.
pub(crate) fn amount(name: &str, value: &Value, at: &Path, errors: &mut Vec<Error>) {
    let Some(quantity) = value.as_str().and_then(|text| text.parse::<Quantity>().ok()) else { return };
    if quantity.is_negative() {
        errors.push(Error::invalid(at, quantity.to_string(), NOT_NEGATIVE));
    }
    if (COUNTED.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(at, quantity.to_string(), "must be an integer"));
    }
}
