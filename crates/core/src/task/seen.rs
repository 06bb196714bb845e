//! The world as the operator saw it, for one Task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kubetask_api::{Agent, KubeTaskConfig};

use super::Waiting;

/// What is known of a Task's Job.
#[derive(Clone, Debug, Default)]
pub enum JobSeen {
    /// The cache does not have it. It may not have arrived yet.
    #[default]
    NotCached,
    /// The API server was asked: it does not exist.
    Gone,
    /// Here it is.
    Found(Arc<Job>),
}

impl JobSeen {
    /// The Job, where there is one.
    pub fn found(&self) -> Option<&Job> {
        match self {
            Self::Found(job) => Some(job),
            Self::NotCached | Self::Gone => None,
        }
    }
}

/// Whether the Agent has a place for the Task; see [`crate::queue`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It has.
    #[default]
    Free,
    /// It runs as many Tasks as it may.
    Queued {
        /// The Task's place among those that wait, from 1.
        position: usize,
        /// How many Tasks the Agent runs at a time.
        limit: usize,
        /// The Task before it, where there is one.
        behind: Option<String>,
    },
}

/// What is known of the other cluster that an Agent names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClusterSeen {
    /// Nobody asked: the Agent names none, or the Job is made already.
    #[default]
    NotAsked,
    /// It answers.
    Reached {
        /// The kubeconfig for it, where the Agent names a context of the operator's.
        kubeconfig: Option<String>,
    },
    /// It does not answer, or is not known.
    Trouble(Waiting),
}

/// The world as the operator saw it, for one Task.
///
/// Everything is from the Task's namespace. As long as the Task has no Job, `config_maps`, `secrets` and
/// `service_accounts` hold everything that [`super::references`](fn@super::references) names and that exists; afterwards they are not looked
/// at and may be empty.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Agent that the Task names, or `default`.
    pub agent: Option<Arc<Agent>>,
    /// ConfigMaps by name. The data is needed where the reference says `data`.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name. The data is needed where the reference says `data`.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Names of service accounts that exist; `None` when nobody looked, then they are taken to be there.
    pub service_accounts: Option<BTreeSet<String>>,
    /// The Job named [`super::job_name`].
    pub job: JobSeen,
    /// The Job's Pods, in any order.
    pub pods: Vec<Arc<Pod>>,
    /// The KubeTaskConfig `default`.
    pub config: Option<Arc<KubeTaskConfig>>,
    /// Of a finished Task: newer ones are as many as are kept ([`crate::retention::Kept`]).
    pub surplus: bool,
    /// The other cluster that the Agent names.
    pub cluster: ClusterSeen,
    /// Whether the Agent has a place.
    pub admission: Admission,
    /// What the API server said when it refused the Job (or its ConfigMap) for good: quota, admission, validation.
    pub refused: Option<String>,
    /// The message of the Job's latest Warning event `FailedCreate`, as long as it has no Pod.
    pub pod_refused: Option<String>,
}
