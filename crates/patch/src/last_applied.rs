//! Objects that client-side `kubectl apply` made: their last-applied annotation is kept in step with server-side
//! apply, and lets kubectl take its own fields over without conflicts.

use kubetask_schema::model::Schema;
use serde_json::Value;

use crate::compare::compare;
use crate::field_set::field_set;
use crate::set::Set;
use crate::types::Ty;

/// The manager that this is done for.
pub(crate) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Limit of all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The text of the annotation.
fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields which client-side apply set and nobody has changed since: those may be taken over by force.
pub(crate) fn takeable(live: &Value, schema: &Schema, api_version: &str) -> Option<Set> {
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    let ty = Ty::root(schema);
    let mut set = field_set(ty, &applied);
    let difference = compare(ty, &applied, live);
    set.subtract(&difference.changed);
    set.subtract(&difference.removed);
    Some(set)
}

/// Sets the annotation of an object that has one to what has been applied.
pub(crate) fn update(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    // Kubernetes' encoder ends the text with a newline.
    let text = format!("{config}\n");
    let Some(annotations) =
        object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")).and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(text));
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}
