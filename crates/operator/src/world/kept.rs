//! What is kept of a Job and of a Pod: what plans look at, as small as can be.
//!
//! There may be ten thousands of them. The API's own types are made for any object: a Job takes 2.6 KB before its first
//! label, of which a plan looks at a tenth.

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kubetask_api::labels;

use super::TaskKey;

/// A Job of a Task.
pub(super) struct KeptJob {
    uid: Option<String>,
    created: Option<Time>,
    deleted: Option<Time>,
    owner: Option<OwnerReference>,
    /// The annotation that names another cluster.
    cluster: Option<String>,
    suspend: Option<bool>,
    backoff_limit: Option<i32>,
    status: Option<Box<JobStatus>>,
}

impl KeptJob {
    pub(super) fn new(job: Job) -> Self {
        let metadata = job.metadata;
        let mut owners = metadata.owner_references.unwrap_or_default();
        let owner = owners.iter().position(is_task).map(|at| owners.swap_remove(at));
        let spec = job.spec.as_ref();
        Self {
            uid: metadata.uid,
            created: metadata.creation_timestamp,
            deleted: metadata.deletion_timestamp,
            owner,
            cluster: metadata.annotations.and_then(|mut all| all.remove(labels::CLUSTER)),
            suspend: spec.and_then(|spec| spec.suspend),
            backoff_limit: spec.and_then(|spec| spec.backoff_limit),
            status: job.status.map(Box::new),
        }
    }

    /// The Task that owns it.
    pub(super) fn owner(&self, namespace: &str) -> Option<TaskKey> {
        self.owner.as_ref().map(|owner| TaskKey::new(namespace, &owner.name))
    }

    /// As plans see it.
    pub(super) fn show(&self, namespace: &str, name: &str) -> Job {
        Job {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                uid: self.uid.clone(),
                creation_timestamp: self.created.clone(),
                deletion_timestamp: self.deleted.clone(),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                annotations: self.cluster.clone().map(|cluster| [(labels::CLUSTER.to_owned(), cluster)].into()),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec { suspend: self.suspend, backoff_limit: self.backoff_limit, ..JobSpec::default() }),
            status: self.status.as_deref().cloned(),
        }
    }
}

/// The Task that owns a Job.
pub(super) fn owner(job: &Job) -> Option<TaskKey> {
    let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
    let task = owners.iter().find(|owner| is_task(owner))?;
    Some(TaskKey::new(job.metadata.namespace.as_deref().unwrap_or_default(), &task.name))
}

fn is_task(owner: &OwnerReference) -> bool {
    owner.kind == "Task" && owner.api_version.starts_with("kubetask.io/")
}

/// A Pod of such a Job.
pub(super) struct KeptPod {
    pub(super) name: String,
    uid: Option<String>,
    created: Option<Time>,
    deleted: Option<Time>,
    grace: Option<i64>,
    /// The Task that a label or an annotation names, for when the Job is not known (yet).
    pub(super) labelled: Option<TaskKey>,
    deadline: Option<i64>,
    node: Option<String>,
    /// The annotation of a Pod whose container stays for a person.
    human: Option<Box<str>>,
    status: Option<Box<PodStatus>>,
}

impl KeptPod {
    pub(super) fn new(pod: Pod) -> Self {
        let labelled = label_owner(&pod);
        let (metadata, spec) = (pod.metadata, pod.spec.unwrap_or_default());
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid,
            created: metadata.creation_timestamp,
            deleted: metadata.deletion_timestamp,
            grace: metadata.deletion_grace_period_seconds,
            labelled,
            deadline: spec.active_deadline_seconds,
            node: spec.node_name,
            human: metadata.annotations.and_then(|mut all| all.remove(labels::HUMAN)).map(String::into_boxed_str),
            status: pod.status.map(|status| Box::new(strip(status))),
        }
    }

    /// Whether nothing of it runs any more.
    pub(super) fn is_finished(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// A Pod is deleted twice: by whoever wants it gone, and by its node, at once, when it has ended. When the first asked
    /// tells whether its agent ended because of that.
    pub(super) fn keep_first_deletion(&mut self, known: &Self) {
        if known.uid == self.uid && known.deleted.is_some() {
            self.deleted.clone_from(&known.deleted);
            self.grace = known.grace;
        }
    }

    /// As plans see it.
    pub(super) fn show(&self, namespace: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(self.name.clone()),
                uid: self.uid.clone(),
                creation_timestamp: self.created.clone(),
                deletion_timestamp: self.deleted.clone(),
                deletion_grace_period_seconds: self.grace,
                annotations: self.human.as_deref().map(|human| [(labels::HUMAN.to_owned(), human.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                active_deadline_seconds: self.deadline,
                node_name: self.node.clone(),
                ..PodSpec::default()
            }),
            status: self.status.as_deref().cloned(),
        }
    }
}

/// Of a Pod's status, what says how it goes; not where, nor what its containers are made of.
fn strip(status: PodStatus) -> PodStatus {
    let containers = |all: Option<Vec<_>>| {
        let mut all: Vec<k8s_openapi::api::core::v1::ContainerStatus> = all?;
        for container in &mut all {
            container.allocated_resources = None;
            container.allocated_resources_status = None;
            container.container_id = None;
            container.image_id = String::new();
            container.resources = None;
            container.user = None;
            container.volume_mounts = None;
        }
        Some(all)
    };
    PodStatus {
        conditions: status.conditions,
        container_statuses: containers(status.container_statuses),
        init_container_statuses: containers(status.init_container_statuses),
        message: status.message,
        phase: status.phase,
        reason: status.reason,
        start_time: status.start_time,
        ..PodStatus::default()
    }
}

/// The Task that a Pod's label or annotation names.
pub(super) fn label_owner(pod: &Pod) -> Option<TaskKey> {
    // A name too long for a label is shortened there, and whole in the annotation.
    let full = format!("{}{}", labels::TASK, labels::FULL_NAME_SUFFIX);
    let annotated = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(&full));
    let name = annotated.or_else(|| pod.metadata.labels.as_ref()?.get(labels::TASK))?;
    Some(TaskKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_plans_look_at_is_kept_and_little_else() {
        let owner =
            json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "name": "t", "uid": "u", "controller": true});
        let status = json!({"active": 1, "startTime": "2026-01-01T00:00:00Z"});
        let object = json!({
            "metadata": {"name": "j", "namespace": "n", "uid": "1", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"},
                "annotations": {labels::CLUSTER: "far", "other": "x"}, "ownerReferences": [owner]},
            "spec": {"suspend": true, "backoffLimit": 2, "template": {"metadata": {"labels": {"a": "b"}}}},
            "status": status,
        });
        let kept = KeptJob::new(serde_json::from_value(object).unwrap());
        assert_eq!(kept.owner("n"), Some(TaskKey::new("n", "t")));
        let shown = serde_json::to_value(kept.show("n", "j")).unwrap();
        assert_eq!(shown["status"], status);
        assert_eq!(shown["metadata"]["ownerReferences"], json!([owner]));
        assert_eq!(shown["metadata"]["annotations"], json!({labels::CLUSTER: "far"}));
        assert_eq!((&shown["spec"]["suspend"], &shown["spec"]["backoffLimit"]), (&json!(true), &json!(2)));
        assert_eq!(shown["metadata"].get("labels"), None);

        let container = json!({"name": "agent", "image": "i", "imageID": "sha", "containerID": "c", "ready": false,
            "restartCount": 1, "state": {"terminated": {"exitCode": 3}}});
        let object = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "2", "labels": {labels::TASK: "t"}, "annotations": {labels::HUMAN: "60", "other": "x"},
                "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30},
            "spec": {"nodeName": "node", "activeDeadlineSeconds": 5, "containers": []},
            "status": {"phase": "Failed", "reason": "Evicted", "podIP": "10.0.0.1", "containerStatuses": [container]},
        });
        let kept = KeptPod::new(serde_json::from_value(object).unwrap());
        assert_eq!(kept.labelled, Some(TaskKey::new("n", "t")));
        let shown: Value = serde_json::to_value(kept.show("n")).unwrap();
        assert_eq!(shown["metadata"]["deletionGracePeriodSeconds"], json!(30));
        assert_eq!(shown["metadata"]["annotations"], json!({labels::HUMAN: "60"}));
        assert_eq!((&shown["spec"]["nodeName"], &shown["spec"]["activeDeadlineSeconds"]), (&json!("node"), &json!(5)));
        assert_eq!((&shown["status"]["phase"], &shown["status"]["podIP"]), (&json!("Failed"), &Value::Null));
        assert_eq!(shown["status"]["containerStatuses"][0]["state"], container["state"]);
        assert_eq!(shown["status"]["containerStatuses"][0]["containerID"], Value::Null);
        assert!(size_of::<KeptJob>() + size_of::<KeptPod>() < 600);
    }
}
