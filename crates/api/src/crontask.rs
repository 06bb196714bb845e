//! [`CronTask`]: Tasks on a schedule.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat `priority` and `type_`")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::TaskSpec;

/// When to do what.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "CronTask",
    plural = "crontasks",
    shortname = "ct",
    namespaced,
    status = "CronTaskStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    doc = "A CronTask creates Tasks on a schedule.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Timezone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last Schedule", type_ = "date", json_path = ".status.lastScheduleTime"),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", priority = 1),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.concurrencyPolicy", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Scheduled\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CronTaskSpec {
    /// A cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.
    #[schemars(schema_with = "crate::schema::schedule")]
    pub schedule: String,
    /// The IANA time zone of the schedule, such as Europe/Berlin; UTC when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// What to do when the previous Task still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Forbid"))]
    pub concurrency_policy: Option<ConcurrencyPolicy>,
    /// Stops scheduling; Tasks that run go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub suspend: Option<bool>,
    /// How late a run may start, in seconds; later ones count as missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub starting_deadline_seconds: Option<i64>,
    /// What to do about runs that were missed while nobody was looking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Once"))]
    pub catch_up: Option<CatchUp>,
    /// How many completed Tasks are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 3))]
    pub successful_tasks_history_limit: Option<i32>,
    /// How many failed Tasks are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 1))]
    pub failed_tasks_history_limit: Option<i32>,
    /// The Tasks that are created.
    pub task_template: TaskTemplateSpec,
}

/// What to do when the previous Task still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Run both.
    Allow,
    /// Skip the new one.
    #[default]
    Forbid,
    /// Stop the old one, start the new one.
    Replace,
}

/// What to do about missed runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CatchUp {
    /// Forget them.
    Skip,
    /// Run the latest of them.
    #[default]
    Once,
    /// Run all of them, up to a bound.
    All,
}

/// A Task to be created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskTemplateSpec {
    /// Labels and annotations of the Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Its spec.
    pub spec: TaskSpec,
}

/// Labels and annotations for what is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub annotations: BTreeMap<String, String>,
}

/// What a CronTask did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CronTaskStatus {
    /// Tasks that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub active: Vec<ObjectReference>,
    /// The scheduled time of the latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a Task last completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// When the next run is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The value of the annotation kubetask.io/trigger that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_trigger: Option<String>,
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Scheduled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
