//! What a relay is told: plain data.

use k8s_openapi::api::batch::v1::Job;
use kubetask_api::{Task, TaskSpec};
use serde::{Deserialize, Serialize};

/// The environment variable with the [`Spec`], as JSON.
pub const SPEC_ENV: &str = "KUBETASK_RELAY";
/// Where the relay finds the kubeconfig of the other cluster.
pub const CLUSTER_DIR: &str = "/kubetask/cluster";
/// The kubeconfig's file name there, and its key in a Secret that names no other.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Where the relay finds the Secrets to copy, a directory each.
pub const SECRETS_DIR: &str = "/kubetask/relay/secrets";
/// Where the relay finds the ConfigMaps to copy, a directory each.
pub const CONFIG_MAPS_DIR: &str = "/kubetask/relay/configmaps";
/// The init container that makes the Job there and waits until its agent starts.
pub const SUBMIT: &str = "submit";
/// Annotation of everything on the other cluster: the UID of the Task at home that it belongs to.
pub const OWNER: &str = "kubetask.io/task-uid";

/// What a relay makes on the other cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// What users know the cluster by: its context, or the Secret with its kubeconfig.
    pub cluster: String,
    /// The context to use; the kubeconfig's current one when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The Task's name at home.
    pub task: String,
    /// The Task's namespace at home.
    pub namespace: String,
    /// The Task's UID.
    pub uid: String,
    /// The Job, with name, namespace and everything.
    pub job: Job,
    /// ConfigMaps that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_maps: Vec<Copied>,
    /// Secrets that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Copied>,
}

impl Spec {
    /// The Task at home, as far as the words about its end depend on it.
    pub fn task(&self) -> Task {
        let mut task = Task::new(&self.task, TaskSpec::default());
        task.metadata.namespace = Some(self.namespace.clone());
        task.metadata.uid = Some(self.uid.clone());
        task.spec.timeout_seconds = self.job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        task
    }
}

/// An object that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Its name at home, and the name of the directory with its keys.
    pub from: String,
    /// Its name there.
    pub to: String,
    /// The Secret's type, where it is not `Opaque`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}
