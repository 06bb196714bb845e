//! [`Batch`]: the same work for many targets, as a template for [`crate::BatchRun`]s.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;

/// What to do, and for which targets.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "Batch",
    plural = "batches",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    doc = "A Batch describes the same work for many targets; a BatchRun carries it out.",
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agentRef"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BatchSpec {
    /// Contexts of every Task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub common_context: Vec<Context>,
    /// One entry a Task: the contexts in which it differs, after the common ones.
    #[schemars(length(min = 1, max = 1024), inner(length(max = 8)))]
    pub variable_contexts: Vec<Vec<Context>>,
    /// The Agent of every Task, as in a Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub agent_ref: Option<String>,
}
