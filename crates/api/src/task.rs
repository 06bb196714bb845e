//! [`Task`]: one execution of an agent.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat `priority` and `type_`")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::NotificationEvent;
use crate::context::Context;

/// What to do.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "Task",
    plural = "tasks",
    namespaced,
    status = "TaskStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    selectable = ".spec.agentRef",
    selectable = ".status.phase",
    doc = "A Task runs an agent once: what to do, and on what.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Pending, Running, Completed or Failed"
    ),
    printcolumn(
        name = "Agent",
        type_ = "string",
        json_path = ".status.agent",
        description = "The Agent that carries it out"
    ),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobName", description = "The Job it runs as"),
    printcolumn(
        name = "Started",
        type_ = "date",
        json_path = ".status.startTime",
        description = "When the agent started"
    ),
    printcolumn(
        name = "Finished",
        type_ = "date",
        json_path = ".status.completionTime",
        description = "When the agent ended"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Exit",
        type_ = "integer",
        json_path = ".status.exitCode",
        priority = 1,
        description = "The agent's exit code"
    ),
    printcolumn(
        name = "Queue",
        type_ = "integer",
        json_path = ".status.queuePosition",
        priority = 1,
        description = "Its place among the Tasks that wait for the same Agent"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.reason",
        priority = 1,
        description = "Why it is in this phase, in one word"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1,
        description = "Why it is in this phase"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.contexts) || has(self.prompt)", "message": "contexts is required (or set prompt)"},
]))]
pub struct TaskSpec {
    /// What the agent finds in its workspace. Required unless `prompt` is set.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub contexts: Vec<Context>,
    /// Short for an inline File context at /workspace/task.md, before the other contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1048576))]
    pub prompt: Option<String>,
    /// The Agent that carries the Task out. Unset means "default", and the built-in agent if there is no such Agent;
    /// an Agent that is named is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub agent_ref: Option<String>,
    /// Keeps the container alive after the agent ended; overrides the Agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human_in_the_loop: Option<HumanInTheLoop>,
    /// Ends the Task when it has run this long (the Job's activeDeadlineSeconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: Option<i64>,
    /// How often a failed agent is run again (the Job's backoffLimit). By default an agent never runs twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 0))]
    pub retries: Option<i32>,
    /// Order in the queue of an Agent with maxConcurrentTasks: higher first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub priority: Option<i32>,
    /// Waits (before the Job exists) or suspends the Job; false resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Ends the running agent gracefully. The Task becomes Failed, reason Stopped; its log stays readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
}

/// Keeps the container running after the agent ended, so that people can enter it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HumanInTheLoop {
    /// Whether to keep the container alive.
    pub enabled: bool,
    /// For how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 3600))]
    pub keep_alive_seconds: Option<i32>,
}

/// Where a Task is. Derived from its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TaskPhase {
    /// Not started: something is missing, it is queued, or its pod is being prepared.
    #[default]
    Pending,
    /// The agent runs.
    Running,
    /// The agent ended with exit code 0.
    Completed,
    /// The agent failed, was stopped, or could not be run.
    Failed,
}

impl TaskPhase {
    /// Whether nothing more will happen.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    /// The word as it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }
}

impl std::fmt::Display for TaskPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happened to a Task so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Pending, Running, Completed or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<TaskPhase>,
    /// Why it is in this phase: one stable word, the reason of the condition that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One line a person understands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// The Agent that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The Job it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The Pod of the latest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// When the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the agent ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The agent's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How many Pods were started for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What the agent wrote to its termination message, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub result: Option<String>,
    /// What the agent changed in the Repository contexts that collect it, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub changes: Vec<RepositoryChanges>,
    /// Its place among the Tasks that wait for the same Agent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i32>,
    /// What happened and has not been told to the namespace's webhook yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub pending_notifications: Vec<NotificationEvent>,
    /// The truth from which the phase is derived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What an agent changed in a repository, against what it had found. The patch itself is the log of the container `changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryChanges {
    /// Where the checkout is in the agent's container.
    #[schemars(length(max = 4096))]
    pub path: String,
    /// The commit that was checked out when the agent began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub commit: Option<String>,
    /// How many files differ.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub files: i64,
    /// How many lines were added.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub insertions: i64,
    /// How many lines were removed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deletions: i64,
    /// The size of the patch, in bytes.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Why there is no patch although something may have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

impl Task {
    /// The phase, Pending when nobody has looked at the Task yet.
    pub fn phase(&self) -> TaskPhase {
        self.status.as_ref().and_then(|s| s.phase).unwrap_or_default()
    }
}
