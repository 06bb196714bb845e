//! Labels and annotations: the words by which objects are found. They stand here and nowhere else.

/// The Task an object was made for.
pub const TASK: &str = "kubetask.io/task";
/// The CronTask a Task was made by.
pub const CRONTASK: &str = "kubetask.io/crontask";
/// The BatchRun a Task was made by.
pub const BATCHRUN: &str = "kubetask.io/batchrun";
/// Annotation: the index of a Task in its BatchRun.
pub const BATCH_INDEX: &str = "kubetask.io/batch-index";
/// The Agent that carries a Task out.
pub const AGENT: &str = "kubetask.io/agent";

/// `app.kubernetes.io/name`, always [`APP`].
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/instance`: the Task's name.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/component`: what the object is for.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// `app.kubernetes.io/managed-by`, always [`APP`].
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`APP_NAME`] and [`APP_MANAGED_BY`].
pub const APP: &str = "kubetask";
/// The field manager of everything the operator writes.
pub const FIELD_MANAGER: &str = "kubetask";

/// Annotation with the full name where a label holds a shortened one; the label's key plus this.
pub const FULL_NAME_SUFFIX: &str = "-name";
/// Annotation on a CronTask: any new value runs it now.
pub const TRIGGER: &str = "kubetask.io/trigger";
/// Annotation on a BatchRun: "true" creates no further Tasks.
pub const PAUSE: &str = "kubetask.io/pause";
/// Annotation on a BatchRun: any new value runs again what failed.
pub const RETRY: &str = "kubetask.io/retry";
/// Annotation on a Task: the minute it was scheduled for, RFC 3339.
pub const SCHEDULED_AT: &str = "kubetask.io/scheduled-at";
/// Annotation on a Task: "true" lets it be deleted although it is not in the archive.
pub const SKIP_ARCHIVE: &str = "kubetask.io/skip-archive";
/// Annotation on a Task: the W3C trace context that it is part of (`traceparent`).
pub const TRACEPARENT: &str = "kubetask.io/traceparent";
/// Annotation on a Job: the hash of what it was made from.
pub const SPEC_HASH: &str = "kubetask.io/spec-hash";
/// Annotation on a Task and its Job: where the agent's Job is, when its Agent names another cluster.
pub const CLUSTER: &str = "kubetask.io/cluster";
/// Annotation on a Pod, with any value: when its agent has ended, the container stays for somebody to look around, and its
/// startup probe passes.
pub const HUMAN: &str = "kubetask.io/human-in-the-loop";
/// Annotation on a Pod: the engine with which the embedded node runs it (local, docker, kubernetes).
pub const ENGINE: &str = "node.kubetask.io/engine";
/// Kueue's queue label, copied from the Task to its Job.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
