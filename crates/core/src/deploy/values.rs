//! What a platform team chooses of an installation: the values of the Helm chart and of `kubetask install` alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::task::OWN_IMAGE_REPOSITORY;

/// All choices. The descriptions become comments in `values.yaml` and rows of the chart's README.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Values {
    /// Image of the operator and of the init containers that fetch contexts.
    pub image: Image,
    /// Names of Secrets with credentials for the image, as `{name: …}`.
    pub image_pull_secrets: Vec<NameRef>,
    /// Operators that run; one leads, the others take over when it is gone.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: u32,
    /// Look after this namespace only, with a Role instead of a ClusterRole; all namespaces when empty.
    pub watch_namespace: String,
    /// Image of Agents that name none; KubeTask's own default when empty.
    pub default_agent_image: String,
    /// More arguments for `kubetask controller`.
    pub extra_args: Vec<String>,
    /// More environment variables for the operator, as in a container.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub extra_env: Vec<Value>,
    /// Requests and limits of the operator.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub resources: Value,
    /// More labels for the operator's pods.
    pub pod_labels: std::collections::BTreeMap<String, String>,
    /// Annotations of the operator's pods.
    pub pod_annotations: std::collections::BTreeMap<String, String>,
    /// Nodes on which the operator may run.
    pub node_selector: std::collections::BTreeMap<String, String>,
    /// Taints that the operator tolerates.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub tolerations: Vec<Value>,
    /// Affinity of the operator's pods.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub affinity: Value,
    /// Priority class of the operator's pods.
    pub priority_class_name: String,
    /// The operator's service account.
    pub service_account: ServiceAccount,
    /// Rights.
    pub rbac: Rbac,
    /// Where agents run.
    pub agents: Agents,
    /// Who may talk to whom.
    pub network_policy: NetworkPolicy,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// Whether the last operator is spared when nodes are drained.
    pub pod_disruption_budget: Enabled,
    /// The namespace of the installation.
    pub namespace: Namespace,
    /// The definitions of the six kinds.
    pub crds: Crds,
}

impl Values {
    /// The defaults with these choices over them, as Helm does it: maps are merged, everything else is replaced, and
    /// null takes a default away.
    ///
    /// # Errors
    /// When a choice is none that is known, or of the wrong type; it tells which.
    pub fn chosen(choices: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        let mut all = serde_path_to_error::serialize(&Self::default(), serde_json::value::Serializer)?;
        merge(&mut all, choices);
        serde_path_to_error::deserialize(all)
    }
}

/// Puts a value over another.
pub fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, over) => *into = over,
    }
}

/// The JSON schema of [`Values`], for editors and for Helm.
pub fn values_schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft07().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Values>().to_value();
    // Helm hands it to every chart that is part of another.
    schema["properties"]["global"] = json!({"description": "Values of a chart around this one.", "type": "object"});
    schema
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    /// Registry and repository.
    pub repository: String,
    /// Tag; the version of KubeTask when empty.
    pub tag: String,
    /// Digest, `sha256:…`; takes precedence over the tag.
    #[schemars(regex(pattern = "^(sha256:[0-9a-f]{64})?$"))]
    pub digest: String,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Never.
    Never,
}

/// An object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRef {
    /// Its name.
    pub name: String,
}

/// The operator's service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAccount {
    /// Whether to create it; otherwise it must be there.
    pub create: bool,
    /// Its name.
    pub name: String,
    /// Annotations, e.g. of a cloud's workload identity for the archive.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rbac {
    /// Whether to create the operator's roles and bindings.
    pub create: bool,
    /// Whether the cluster's roles `admin`, `edit` and `view` get KubeTask's kinds too.
    pub aggregate: bool,
}

/// Where agents run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agents {
    /// Namespaces that get the agents' service account and network policies; the installation's own when empty.
    pub namespaces: Vec<String>,
    /// Name of the service account, which has no rights.
    pub service_account: String,
}

/// Who may talk to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// Whether to create policies: nobody reaches agents, and agents reach DNS and the internet only.
    pub enabled: bool,
    /// What agents do not reach: private networks (the cluster's own among them) and metadata addresses.
    pub agent_egress_except: Vec<String>,
    /// Egress rules for agents on top, e.g. to a Git server inside.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub agent_egress_extra: Vec<Value>,
    /// Who may read the metrics, as peers of a policy; everybody in the cluster when empty.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub metrics_from: Vec<Value>,
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether to create a Service for the metrics port.
    pub service: bool,
    /// Whether to create a ServiceMonitor, for the Prometheus operator.
    pub service_monitor: bool,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Enabled {
    /// On or off.
    pub enabled: bool,
}

/// The namespace of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Namespace {
    /// Whether to create it. Helm has `--create-namespace` for it.
    pub create: bool,
    /// The Pod Security standard that the created namespace enforces.
    pub pod_security: PodSecurity,
}

/// A Pod Security standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// Anything.
    Privileged,
    /// What is known to be harmful is refused.
    Baseline,
    /// Hardened.
    Restricted,
}

/// The definitions of the six kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Crds {
    /// Whether to install and upgrade them.
    pub install: bool,
    /// Whether they, and with them all Tasks, stay when the release is uninstalled.
    pub keep: bool,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            image: Image::default(),
            image_pull_secrets: Vec::new(),
            replicas: 2,
            watch_namespace: String::new(),
            default_agent_image: String::new(),
            extra_args: Vec::new(),
            extra_env: Vec::new(),
            resources: json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}),
            pod_labels: Default::default(),
            pod_annotations: Default::default(),
            node_selector: Default::default(),
            tolerations: Vec::new(),
            affinity: json!({}),
            priority_class_name: String::new(),
            service_account: ServiceAccount::default(),
            rbac: Rbac::default(),
            agents: Agents::default(),
            network_policy: NetworkPolicy::default(),
            metrics: Metrics::default(),
            pod_disruption_budget: Enabled::default(),
            namespace: Namespace::default(),
            crds: Crds::default(),
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self {
            repository: format!("ghcr.io/{OWN_IMAGE_REPOSITORY}"),
            tag: String::new(),
            digest: String::new(),
            pull_policy: PullPolicy::IfNotPresent,
        }
    }
}

impl Image {
    /// What a container's `image` says.
    pub fn reference(&self, version: &str) -> String {
        match (self.digest.as_str(), self.tag.as_str()) {
            ("", "") => format!("{}:{version}", self.repository),
            ("", tag) => format!("{}:{tag}", self.repository),
            (digest, _) => format!("{}@{digest}", self.repository),
        }
    }
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self { create: true, name: "kubetask-controller".to_owned(), annotations: Default::default() }
    }
}

impl Default for Rbac {
    fn default() -> Self {
        Self { create: true, aggregate: true }
    }
}

impl Default for Agents {
    fn default() -> Self {
        Self { namespaces: Vec::new(), service_account: "kubetask-agent".to_owned() }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        let except = [
            "10.0.0.0/8",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ];
        Self {
            enabled: true,
            agent_egress_except: except.map(str::to_owned).to_vec(),
            agent_egress_extra: Vec::new(),
            metrics_from: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { service: true, service_monitor: false }
    }
}

impl Default for Enabled {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self { create: false, pod_security: PodSecurity::Restricted }
    }
}

impl Default for Crds {
    fn default() -> Self {
        Self { install: true, keep: true }
    }
}
