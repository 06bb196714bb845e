//! What shall be done for one Task: plain data, nothing left to choose.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kubetask_api::TaskStatus;

use super::waiting::Waiting;
use crate::cluster::Recorded;

/// What shall be done for one Task, in this order: actions, status, events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to write, in order. Every one is harmless when done twice. If one is refused, stop, and plan again with
    /// [`super::Seen::refused`].
    pub actions: Vec<Action>,
    /// The whole new status; `None` when it is as it should be.
    pub status: Option<TaskStatus>,
    /// When to plan again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// Why the Task does not go on; empty when it runs or ended.
    pub why: Vec<Waiting>,
    /// What to tell as Kubernetes Events. Only ever together with a new status, so nothing is told twice.
    pub events: Vec<EventNote>,
    /// The Task ought to have a Job which the cache does not show: ask the API server, then plan again with
    /// [`super::JobSeen::Found`] or [`super::JobSeen::Gone`].
    pub verify_job: bool,
    /// The Task has ended and is to be written to the archive, beside everything else.
    pub archive: bool,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_quiet(&self) -> bool {
        self.actions.is_empty() && self.status.is_none() && self.events.is_empty() && !self.verify_job
    }
}

/// One write. All names are fixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create it; where it exists and belongs to this Task, replace its data.
    PutConfigMap(Box<ConfigMap>),
    /// Create it; where it exists and belongs to this Task, replace its data.
    PutSecret(Box<Secret>),
    /// Create it; where it exists and belongs to this Task, all is well.
    CreateJob(Box<Job>),
    /// Merge-patch the Job's `spec.suspend`.
    SuspendJob {
        /// The Job's name.
        name: String,
        /// The new value.
        suspend: bool,
    },
    /// Merge-patch the Pod's `spec.activeDeadlineSeconds` to 1: the node ends it gracefully and keeps its log, which
    /// deleting it would not.
    StopPod {
        /// The Pod's name.
        name: String,
        /// Its UID, as the patch's precondition.
        uid: String,
    },
    /// Merge-patch the Task: the finalizer [`crate::cluster::FINALIZER`], and where its Job is going to be.
    HoldForCluster {
        /// The value of the annotation [`kubetask_api::labels::CLUSTER`].
        record: String,
    },
    /// Delete the Job on the other cluster, then take the finalizer away. Where nobody knows the cluster any more, only
    /// the latter.
    ReleaseCluster {
        /// Where the Job is.
        record: Option<Box<Recorded>>,
    },
    /// Delete the Task, with its UID as precondition; Job, Pod and files follow by their owner references.
    DeleteTask {
        /// The Task's name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// An Event about the Task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Warning or Normal.
    pub warning: bool,
    /// One of [`kubetask_api::reasons`].
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}
