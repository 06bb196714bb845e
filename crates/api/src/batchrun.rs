//! [`BatchRun`]: one execution of a [`crate::Batch`].

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat `priority` and `type_`")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchSpec;
use crate::crontask::TemplateMeta;

/// Which batch to run, and how many Tasks at a time.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "BatchRun",
    plural = "batchruns",
    shortname = "br",
    namespaced,
    status = "BatchRunStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    doc = "A BatchRun creates one Task for each target of a Batch and sums up how they fare.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.progress.total"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.progress.running"),
    printcolumn(name = "Completed", type_ = "integer", json_path = ".status.progress.completed"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.progress.failed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Batch", type_ = "string", json_path = ".spec.batchRef", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.batchRef) != has(self.batchSpec)", "message": "set exactly one of batchRef and batchSpec"},
    {"rule": "has(self.batchRef) == has(oldSelf.batchRef) && (!has(self.batchRef) || self.batchRef == oldSelf.batchRef)",
     "message": "batchRef cannot be changed; create another BatchRun"},
]))]
pub struct BatchRunSpec {
    /// The Batch to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub batch_ref: Option<String>,
    /// The batch itself, in place of `batchRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_spec: Option<BatchSpec>,
    /// How many Tasks run at a time; all when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallelism: Option<i32>,
    /// Labels and annotations of the Tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_template: Option<BatchTaskTemplate>,
}

/// What the created Tasks carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchTaskTemplate {
    /// Labels and annotations of the Tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
}

/// Where a BatchRun is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BatchPhase {
    /// No Task was created yet.
    #[default]
    Pending,
    /// The annotation kubetask.io/pause is set: no further Tasks are created.
    Paused,
    /// Tasks are being created or run.
    Running,
    /// Every Task completed.
    Completed,
    /// Every Task ended and at least one failed.
    Failed,
}

/// How many Tasks are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchProgress {
    /// Targets.
    pub total: i32,
    /// Not started or not created.
    pub pending: i32,
    /// Running.
    pub running: i32,
    /// Completed.
    pub completed: i32,
    /// Failed.
    pub failed: i32,
}

/// How a BatchRun fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchRunStatus {
    /// Pending, Paused, Running, Completed or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BatchPhase>,
    /// How many Tasks are where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<BatchProgress>,
    /// When the first Task was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last Task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Names of Tasks that failed; the first ones only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failed_tasks: Vec<String>,
    /// Indexes of Tasks that completed, such as "0-3,7". They are not run again when their Tasks are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_indexes: Option<String>,
    /// Indexes of Tasks that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    /// The value of the annotation kubetask.io/retry that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_retry: Option<String>,
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Complete, Failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
