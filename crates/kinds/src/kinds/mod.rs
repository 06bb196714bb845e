//! What is particular about each kind: defaults, strategy, validation, columns. One file a kind or family of kinds.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod crd;
pub(crate) mod cron_job;
pub(crate) mod edit;
pub(crate) mod event;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod pod_template;
pub(crate) mod priority_class;
pub(crate) mod rbac;
pub(crate) mod resources;
pub(crate) mod review;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod storage;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kind::Part;

/// Update of a kind whose only rule is about finalizers.
pub(crate) fn finalizers_only(new: &Value, _: &Value, _: Part, errors: &mut Vec<Error>) {
    finalizers(new, errors);
}

/// Creation of a kind whose only rule is about finalizers.
pub(crate) fn finalizers_on_create(new: &Value, errors: &mut Vec<Error>) {
    finalizers(new, errors);
}

/// The rule of built-in kinds about finalizers.
pub(crate) fn finalizers(object: &Value, errors: &mut Vec<Error>) {
    let value = &object["metadata"]["finalizers"];
    if !value.is_null() {
        crate::meta::validate_builtin_finalizers(value, &Path::new("metadata").child("finalizers"), errors);
    }
}

/// A status update keeps the spec, any other update keeps the status.
pub(crate) fn split_status(new: &mut Value, old: &Value, part: Part) {
    edit::copy(new, old, if part == Part::Status { "spec" } else { "status" });
}

/// The same, and the generation counts changes of the spec.
pub(crate) fn split_status_with_generation(new: &mut Value, old: &Value, part: Part) {
    split_status(new, old, part);
    let changed = new["spec"] != old["spec"];
    edit::bump_generation(new, old, changed);
}
