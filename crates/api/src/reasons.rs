//! Reasons of conditions and events: stable CamelCase words, each with one meaning.

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $word;)+
        /// Every reason with its meaning, for the documentation.
        pub const ALL: &[(&str, &str)] = &[$(($word, concat!($($doc),+))),+];
    };
}

words! {
    /// The spec is sound and its Agent is there.
    ACCEPTED = "Accepted";
    /// The Agent that is named does not exist yet.
    AGENT_NOT_FOUND = "AgentNotFound";
    /// The service account of the Agent does not exist yet.
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound";
    /// No Agent named default exists; the built-in one is used.
    BUILT_IN_AGENT = "BuiltInAgent";
    /// The Task or its Agent asks for something impossible.
    INVALID_SPEC = "InvalidSpec";
    /// Everything the contexts refer to is there.
    RESOLVED = "Resolved";
    /// A ConfigMap that is referred to does not exist yet.
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound";
    /// A Secret that is referred to does not exist yet.
    SECRET_NOT_FOUND = "SecretNotFound";
    /// A ConfigMap or Secret lacks the key that is referred to.
    KEY_NOT_FOUND = "KeyNotFound";
    /// The contexts together are more than Kubernetes can store in one object.
    TOO_LARGE = "TooLarge";
    /// An object of the Task's name belongs to somebody else.
    NAME_TAKEN = "NameTaken";
    /// Nothing holds the Task back.
    ADMITTED = "Admitted";
    /// The Agent runs as many Tasks as it may.
    AGENT_BUSY = "AgentBusy";
    /// spec.suspend is set.
    SUSPENDED = "Suspended";
    /// The Job exists, its Pod is not there yet.
    JOB_CREATED = "JobCreated";
    /// No node takes the Pod.
    UNSCHEDULABLE = "Unschedulable";
    /// The Pod is being prepared.
    PREPARING = "Preparing";
    /// The image cannot be pulled.
    IMAGE_PULL = "ImagePull";
    /// The container cannot be created as configured.
    CONTAINER_CONFIG = "ContainerConfig";
    /// Contexts or tools are being fetched.
    INITIALIZING = "Initializing";
    /// The agent runs.
    RUNNING = "Running";
    /// The agent failed and will be run again.
    RETRYING = "Retrying";
    /// The agent ended.
    FINISHED = "Finished";
    /// The agent ended with exit code 0.
    COMPLETED = "Completed";
    /// The agent ended; its container stays for a while, for somebody to look around.
    WAITING_FOR_HUMAN = "WaitingForHuman";
    /// The agent ended with another exit code.
    EXIT_CODE = "ExitCode";
    /// The agent ran longer than timeoutSeconds.
    DEADLINE_EXCEEDED = "DeadlineExceeded";
    /// spec.stop ended the agent.
    STOPPED = "Stopped";
    /// The agent used more memory than its limit.
    OUT_OF_MEMORY = "OutOfMemory";
    /// A repository, file or tool could not be fetched.
    CONTEXT_FETCH = "ContextFetch";
    /// The Job was deleted while it ran.
    JOB_LOST = "JobLost";
    /// The Pod was deleted while it ran.
    POD_LOST = "PodLost";
    /// The Pod was evicted from its node.
    EVICTED = "Evicted";
    /// The Job failed for a reason Kubernetes gives.
    JOB_FAILED = "JobFailed";
    /// The Pod may not be created: quota, a missing service account, or an admission policy.
    POD_REJECTED = "PodRejected";
    /// The Job may not be created: quota or an admission policy.
    JOB_REJECTED = "JobRejected";
    /// The other cluster does not answer.
    CLUSTER_UNAVAILABLE = "ClusterUnavailable";
    /// All an Agent needs is there.
    READY = "Ready";
    /// A CronTask created a Task.
    TASK_CREATED = "TaskCreated";
    /// A CronTask's or BatchRun's Task may not be created: quota, an admission policy, or a name that is taken.
    TASK_REJECTED = "TaskRejected";
    /// A CronTask's schedule or time zone cannot be understood.
    INVALID_SCHEDULE = "InvalidSchedule";
    /// A run was skipped because the previous one still runs.
    SKIPPED = "Skipped";
    /// Runs were missed.
    MISSED_SCHEDULE = "MissedSchedule";
    /// The Batch that is named does not exist yet.
    BATCH_NOT_FOUND = "BatchNotFound";
    /// At least one Task of a BatchRun failed.
    TASKS_FAILED = "TasksFailed";
    /// The Task, its result and its log are in the archive.
    ARCHIVED = "Archived";
    /// The Task could not be written to the archive; this is tried again, and it is not deleted before.
    ARCHIVE_FAILED = "ArchiveFailed";
    /// A webhook could not be told of an event and is not tried any more.
    NOTIFICATION_DROPPED = "NotificationDropped";
    /// The Task's retention ended; it is deleted.
    EXPIRED = "Expired";
}
