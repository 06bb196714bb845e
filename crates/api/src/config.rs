//! [`KubeTaskConfig`]: what holds for all Tasks of a namespace.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat `priority` and `type_`")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::SecretName;

/// Settings of a namespace. Only the one named `default` is read.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "KubeTaskConfig",
    plural = "kubetaskconfigs",
    shortname = "ktc",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    doc = "KubeTaskConfig holds the settings of a namespace. Only the one named default is read.",
    printcolumn(
        name = "TTL",
        type_ = "integer",
        json_path = ".spec.taskLifecycle.ttlSecondsAfterFinished",
        description = "Seconds for which finished Tasks are kept"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Archive", type_ = "string", json_path = ".spec.archive.url", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct KubeTaskConfigSpec {
    /// How long finished Tasks are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_lifecycle: Option<TaskLifecycle>,
    /// Where Tasks are written before they are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Who is told what happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
}

/// How long finished Tasks are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskLifecycle {
    /// Seconds after which a finished Task is deleted; 0 keeps it forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 604800))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// How many finished Tasks are kept at most, the newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<KeepLast>,
}

/// Retention by count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeepLast {
    /// Completed Tasks that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub completed: Option<i32>,
    /// Failed Tasks that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed: Option<i32>,
}

/// Where Tasks, their results and logs are written before deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory.
    #[schemars(length(max = 2048), regex(pattern = r"^(s3|gs|az|file)://[^\s]+$"))]
    pub url: String,
    /// A Secret with the credentials, as environment variables of the store's own tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
}

/// A webhook that is called when something happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.webhookURL) != has(self.secretRef)", "message": "set exactly one of webhookURL and secretRef"},
]))]
pub struct Notifications {
    /// Where to POST, over http or https.
    #[serde(rename = "webhookURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub webhook_url: Option<String>,
    /// A Secret with `url` and, if the calls shall be signed, `signingKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// What is told; completed and failed when unset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<NotificationEvent>,
}

impl NotificationEvent {
    /// The word as it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::WaitingForHuman => "WaitingForHuman",
        }
    }
}

/// Something worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NotificationEvent {
    /// A Task started.
    Started,
    /// A Task completed.
    Completed,
    /// A Task failed.
    Failed,
    /// A Task's agent ended and waits for a person.
    WaitingForHuman,
}
