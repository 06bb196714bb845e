//! Why a Task does not go on, as data. Conditions, Events, `describe` and the progress line all come from here.

use std::fmt;

use kubetask_api::{conditions, reasons};

/// Why a Task does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The Agent that is named does not exist.
    AgentMissing {
        /// Its name.
        name: String,
    },
    /// The Agent's service account does not exist.
    ServiceAccountMissing {
        /// Its name.
        name: String,
        /// The Agent that wants it.
        agent: String,
    },
    /// Task and Agent together ask for something impossible.
    Invalid {
        /// What, and what to do.
        what: String,
    },
    /// A ConfigMap does not exist.
    ConfigMapMissing {
        /// Its name.
        name: String,
    },
    /// A Secret does not exist.
    SecretMissing {
        /// Its name.
        name: String,
    },
    /// A ConfigMap or Secret lacks a key.
    KeyMissing {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The files do not fit into one object.
    TooLarge {
        /// All files together, in bytes.
        total: usize,
        /// The largest of them.
        path: String,
        /// Its size in bytes.
        size: usize,
        /// Where its largest part comes from.
        source: String,
    },
    /// spec.suspend is set.
    Suspended,
    /// The Job waits for Kueue to admit it.
    KueueQueue {
        /// The queue.
        queue: String,
    },
    /// The Agent runs as many Tasks as it may.
    AgentBusy {
        /// The Agent.
        agent: String,
        /// Its limit.
        limit: usize,
        /// The Task's place in the queue, from 1.
        position: usize,
    },
    /// The API server refused the Job for good.
    JobRefused {
        /// What it said.
        said: String,
    },
    /// The API server refused the Pod.
    PodRefused {
        /// What it said.
        said: String,
    },
    /// The Job exists; its Pod is being prepared, and all is well.
    Starting,
    /// No node takes the Pod.
    Unschedulable {
        /// What the scheduler said.
        said: String,
    },
    /// An image cannot be pulled.
    ImagePull {
        /// The image.
        image: String,
        /// What the node said.
        said: String,
    },
    /// A container cannot be created.
    ContainerConfig {
        /// What the node said.
        said: String,
    },
    /// The other cluster that the Agent names cannot be used.
    ClusterUnavailable {
        /// What users know it by.
        cluster: String,
        /// Why.
        said: String,
    },
    /// The other cluster does not take the Job.
    ClusterRefused {
        /// What it said.
        said: String,
    },
    /// The agent failed and will be run again.
    Retrying {
        /// Which attempt comes next, from 2.
        attempt: i32,
    },
}

impl Waiting {
    /// The condition that is False because of it.
    pub fn condition(&self) -> &'static str {
        match self {
            Self::AgentMissing { .. } | Self::ServiceAccountMissing { .. } | Self::Invalid { .. } => {
                conditions::ACCEPTED
            }
            Self::ConfigMapMissing { .. }
            | Self::SecretMissing { .. }
            | Self::KeyMissing { .. }
            | Self::TooLarge { .. } => conditions::CONTEXTS_RESOLVED,
            Self::Suspended
            | Self::KueueQueue { .. }
            | Self::AgentBusy { .. }
            | Self::ClusterUnavailable { .. }
            | Self::JobRefused { .. } => conditions::ADMITTED,
            Self::PodRefused { .. }
            | Self::Starting
            | Self::Unschedulable { .. }
            | Self::ImagePull { .. }
            | Self::ContainerConfig { .. }
            | Self::ClusterRefused { .. }
            | Self::Retrying { .. } => conditions::RUNNING,
        }
    }

    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AgentMissing { .. } => reasons::AGENT_NOT_FOUND,
            Self::ServiceAccountMissing { .. } => reasons::SERVICE_ACCOUNT_NOT_FOUND,
            Self::Invalid { .. } => reasons::INVALID_SPEC,
            Self::ConfigMapMissing { .. } => reasons::CONFIG_MAP_NOT_FOUND,
            Self::SecretMissing { .. } => reasons::SECRET_NOT_FOUND,
            Self::KeyMissing { .. } => reasons::KEY_NOT_FOUND,
            Self::TooLarge { .. } => reasons::TOO_LARGE,
            Self::Suspended | Self::KueueQueue { .. } => reasons::SUSPENDED,
            Self::AgentBusy { .. } => reasons::AGENT_BUSY,
            Self::JobRefused { .. } => reasons::JOB_REJECTED,
            Self::PodRefused { .. } => reasons::POD_REJECTED,
            Self::Starting => reasons::JOB_CREATED,
            Self::Unschedulable { .. } => reasons::UNSCHEDULABLE,
            Self::ImagePull { .. } => reasons::IMAGE_PULL,
            Self::ContainerConfig { .. } => reasons::CONTAINER_CONFIG,
            Self::ClusterUnavailable { .. } => reasons::CLUSTER_UNAVAILABLE,
            Self::ClusterRefused { .. } => reasons::JOB_REJECTED,
            Self::Retrying { .. } => reasons::RETRYING,
        }
    }

    /// Whether somebody has to do something about it.
    pub fn is_trouble(&self) -> bool {
        !matches!(
            self,
            Self::Suspended | Self::KueueQueue { .. } | Self::AgentBusy { .. } | Self::Starting | Self::Retrying { .. }
        )
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentMissing { name } => {
                write!(f, "Agent \"{name}\" does not exist; the Task goes on when it is created")
            }
            Self::ServiceAccountMissing { name, agent } => write!(
                f,
                "service account \"{name}\" of Agent \"{agent}\" does not exist; create it, or name another in the \
                 Agent's serviceAccountName"
            ),
            Self::Invalid { what } => f.write_str(what),
            Self::ConfigMapMissing { name } => {
                write!(f, "ConfigMap \"{name}\" does not exist; the Task goes on when it is created")
            }
            Self::SecretMissing { name } => {
                write!(f, "Secret \"{name}\" does not exist; the Task goes on when it is created")
            }
            Self::KeyMissing { kind, name, key } => {
                write!(f, "{kind} \"{name}\" has no key \"{key}\"; the Task goes on when it is added")
            }
            Self::TooLarge { total, path, size, source } => write!(
                f,
                "the files are {} KiB together, and one object holds at most 1024 KiB; the largest is {path} with {} \
                 KiB, mostly from {source}: mount it with dirPath, or fetch it with a RemoteFile or Repository context",
                total.div_ceil(1024),
                size.div_ceil(1024)
            ),
            Self::Suspended => f.write_str("suspended; set spec.suspend to false to go on"),
            Self::KueueQueue { queue } => write!(f, "waits in the Kueue queue \"{queue}\""),
            Self::AgentBusy { agent, limit, position } => {
                let tasks = if *limit == 1 { "Task" } else { "Tasks" };
                write!(
                    f,
                    "Agent \"{agent}\" runs {limit} {tasks} at a time; this one is number {position} in its queue"
                )
            }
            Self::JobRefused { said } => write!(f, "the Job was refused: {said}; it is tried again every half minute"),
            Self::PodRefused { said } => write!(
                f,
                "the Pod was refused: {said}; the Task goes on when the quota, policy or service account allows it"
            ),
            Self::Starting => f.write_str("the Pod is being prepared"),
            Self::Unschedulable { said } => write!(
                f,
                "no node takes the Pod: {said}; add a node, or lower the Agent's resources, or change its scheduling"
            ),
            Self::ImagePull { image, said } => write!(
                f,
                "cannot pull image {image}: {said}; check the Agent's agentImage, imagePullSecrets and the registry"
            ),
            Self::ContainerConfig { said } => write!(
                f,
                "the container cannot be created: {said}; check the Agent's credentials, env, command and securityContext"
            ),
            Self::ClusterUnavailable { cluster, said } => {
                write!(f, "the cluster of {cluster} cannot be used: {said}; the Task goes on when it answers")
            }
            Self::ClusterRefused { said } => write!(f, "the other cluster does not take the Job: {said}"),
            Self::Retrying { attempt } => write!(f, "the agent failed; attempt {attempt} follows"),
        }
    }
}
