//! [`Agent`]: how Tasks are carried out.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat `priority` and `type_`")]

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{
    Affinity, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::task::HumanInTheLoop;

/// How to carry Tasks out: image, permissions, tools.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubetask.io",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "kubetask",
    doc = "An Agent says how Tasks are carried out: image, permissions, tools and limits.",
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.agentImage",
        description = "The agent's container image"
    ),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.activeTasks",
        description = "Tasks it carries out now"
    ),
    printcolumn(
        name = "Queued",
        type_ = "integer",
        json_path = ".status.queuedTasks",
        description = "Tasks that wait for it"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether all it needs is there"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "ServiceAccount", type_ = "string", json_path = ".spec.serviceAccountName", priority = 1),
    printcolumn(
        name = "Runtime",
        type_ = "string",
        json_path = ".spec.runtime",
        priority = 1,
        description = "Where the embedded node runs it"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.humanInTheLoop) || !self.humanInTheLoop.enabled || (has(self.command) && size(self.command) > 0)",
     "message": "humanInTheLoop requires command"},
]))]
pub struct AgentSpec {
    /// The agent's container image; a built-in default when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub agent_image: Option<String>,
    /// What to run in it, as an argument vector; the image's own entrypoint when unset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 131072)))]
    pub command: Vec<String>,
    /// Keeps the container alive after the agent ended. Requires `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human_in_the_loop: Option<HumanInTheLoop>,
    /// Contexts of every Task of this Agent, before the Task's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub default_contexts: Vec<Context>,
    /// Secrets as environment variables or files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub credentials: Vec<Credential>,
    /// Labels added to the pods, for network policies and monitoring.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub pod_labels: BTreeMap<String, String>,
    /// Where the pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<PodScheduling>,
    /// The service account of the pods.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// An image whose /tools is copied to a volume shared with the agent; /tools/bin is put on its PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub tools_image: Option<String>,
    /// Further environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Requests and limits of the agent's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How many Tasks run at a time; the others queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent_tasks: Option<i32>,
    /// The volume at /workspace; an emptyDir when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// Secrets for pulling the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// When to pull the images: Always, IfNotPresent or Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// The RuntimeClass of the pods (gVisor, Kata).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The pods' security context, in place of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// The agent container's security context, in place of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Mounts the service account's token in the agent. Off unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// What the embedded node runs the agent with. Clusters ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Runs the Jobs on another cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterTarget>,
}

/// A Secret, or one key of it, given to the agent.
///
/// With `key` it becomes the environment variable `env`, the file `mountPath`, or both. Without `key` the whole Secret
/// becomes environment variables, or the directory `mountPath`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.env) || has(self.secretRef.key)", "message": "env needs secretRef.key (without a key the whole Secret becomes environment variables)"},
    {"rule": "!has(self.secretRef.key) || has(self.env) || has(self.mountPath)", "message": "say what becomes of secretRef.key: set env, mountPath or both"},
    {"rule": "!has(self.fileMode) || has(self.mountPath)", "message": "fileMode needs mountPath"},
]))]
pub struct Credential {
    /// A name for people and messages.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Secret.
    pub secret_ref: CredentialSecret,
    /// The environment variable that gets the key's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub env: Option<String>,
    /// The file (with `key`) or directory (without) that gets the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::path")]
    pub mount_path: Option<String>,
    /// Permissions of the file; 0600 when unset. YAML's 0400 is octal, as kubectl reads it: the API receives 256. In
    /// JSON write the decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub file_mode: Option<i32>,
}

/// A Secret and, optionally, one of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key; the whole Secret when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Where pods may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodScheduling {
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Affinity rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// The volume at /workspace; at most one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.hostPath)].filter(x, x).size() == 1",
     "message": "set exactly one of emptyDir, persistentVolumeClaim and hostPath"},
]))]
pub struct Workspace {
    /// An empty directory that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// A directory of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathVolumeSource>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// The word as it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What the embedded node runs an agent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Runtime {
    /// A sandboxed process.
    Local,
    /// Docker or Podman.
    Docker,
    /// A Pod of the cluster that the node has a kubeconfig for.
    Kubernetes,
}

impl Runtime {
    /// The engine's name as the node knows it.
    pub fn engine(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// Another cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.context) != has(self.kubeconfigSecretRef)", "message": "set exactly one of context and kubeconfigSecretRef"},
]))]
pub struct ClusterTarget {
    /// A context of the operator's kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub context: Option<String>,
    /// A Secret whose key `kubeconfig` (or the one named) holds a kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<CredentialSecret>,
    /// The namespace there; the Task's own when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl fmt::Display for ClusterTarget {
    /// What users know it by: its context, or the Secret with its kubeconfig.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.context, &self.kubeconfig_secret_ref) {
            (Some(context), _) => write!(f, "context {context}"),
            (None, Some(secret)) => write!(f, "Secret {}", secret.name),
            (None, None) => f.write_str("no cluster"),
        }
    }
}

/// What an Agent is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Tasks with a Job that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_tasks: Option<i32>,
    /// Tasks that wait for this Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_tasks: Option<i32>,
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, with what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
