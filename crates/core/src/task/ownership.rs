//! Labels, annotations and owners of what is made for a Task.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubetask_api::{API_VERSION, Task, labels};

use crate::names;

/// The Task's name.
pub(super) fn name(task: &Task) -> &str {
    task.metadata.name.as_deref().unwrap_or_default()
}

/// The Task's UID.
pub(super) fn uid(task: &Task) -> &str {
    task.metadata.uid.as_deref().unwrap_or_default()
}

/// The Task's namespace.
pub(super) fn namespace(task: &Task) -> &str {
    task.metadata.namespace.as_deref().unwrap_or_default()
}

/// Labels of everything made for the Task.
pub(super) fn task_labels(task: &Task, component: &str) -> BTreeMap<String, String> {
    let task_name = names::label_value(name(task));
    let mut out = BTreeMap::from([
        (labels::APP_NAME.to_owned(), labels::APP.to_owned()),
        (labels::APP_INSTANCE.to_owned(), task_name.clone()),
        (labels::APP_COMPONENT.to_owned(), component.to_owned()),
        (labels::APP_MANAGED_BY.to_owned(), labels::APP.to_owned()),
        (labels::TASK.to_owned(), task_name),
    ]);
    for label in [labels::CRONTASK, labels::BATCHRUN] {
        if let Some(value) = task.metadata.labels.as_ref().and_then(|l| l.get(label)) {
            out.insert(label.to_owned(), value.clone());
        }
    }
    out
}

/// Annotations of everything made for the Task: the full names that did not fit into labels.
pub(super) fn task_annotations(task: &Task) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = names::full_name_annotation(labels::TASK, name(task)).into_iter().collect();
    for label in [labels::CRONTASK, labels::BATCHRUN] {
        let key = format!("{label}{}", labels::FULL_NAME_SUFFIX);
        if let Some(value) = task.metadata.annotations.as_ref().and_then(|a| a.get(&key)) {
            out.insert(key, value.clone());
        }
    }
    out
}

/// Metadata of an object that belongs to the Task.
pub(super) fn owned(task: &Task, name: String, component: &str) -> ObjectMeta {
    let annotations = task_annotations(task);
    ObjectMeta {
        name: Some(name),
        namespace: task.metadata.namespace.clone(),
        labels: Some(task_labels(task, component)),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "Task".to_owned(),
            name: self::name(task).to_owned(),
            uid: uid(task).to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// Whether the Task is the controller of an object.
pub fn is_owned(task: &Task, object: &ObjectMeta) -> bool {
    object
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == task.metadata.uid.as_deref())
}
