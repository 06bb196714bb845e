//! Telling the API server what was decided: a binding, or why there is none.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status, Time};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::events::From;
use crate::shared::Shared;

/// What came of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The pod is this node's.
    Ours,
    /// It is gone, or another's.
    Lost,
}

/// Binds `pod` to this node, trying until it is certain which way it went.
pub(crate) async fn bind(shared: &Shared, pod: &Pod) -> Bound {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let api = shared.pod_api(&namespace);
    let node = &shared.config.name;
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: meta.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        },
    };
    let mut wait = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let answer: Result<Status, _> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        match answer {
            Ok(_) => {
                tracing::debug!(pod = name, took = ?began.elapsed(), "pod bound");
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                shared.recorder.emit(From::Scheduler, pod, None, false, "Scheduled", &message);
                return Bound::Ours;
            }
            Err(kube::Error::Api(error)) if error.code == 404 => return Bound::Lost,
            // Perhaps an earlier attempt went through and only its answer was lost.
            Err(kube::Error::Api(error)) if error.code == 409 => match api.get_opt(&name).await {
                Ok(Some(now)) if now.metadata.uid == meta.uid => match now.spec.and_then(|spec| spec.node_name) {
                    Some(at) if at == *node => return Bound::Ours,
                    Some(_) => return Bound::Lost,
                    None if now.metadata.deletion_timestamp.is_some() => return Bound::Lost,
                    None => {}
                },
                Ok(_) => return Bound::Lost,
                Err(error) => tracing::debug!(%error, "binding: cannot look"),
            },
            Err(error) => tracing::warn!(%error, pod = name, "pod not bound; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

/// Tells why `pod` has no node.
pub(crate) async fn unschedulable(shared: &Shared, pod: &Pod, message: &str) {
    shared.recorder.emit(From::Scheduler, pod, None, true, "FailedScheduling", message);
    let meta = &pod.metadata;
    let before = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let before = before.into_iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let since = before.and_then(|condition| condition.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or_else(|| Time(Timestamp::now()))),
        observed_generation: meta.generation,
        ..PodCondition::default()
    };
    let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}});
    let params = PatchParams { field_manager: Some("kube-scheduler".to_owned()), ..PatchParams::default() };
    let api = shared.pod_api(meta.namespace.as_deref().unwrap_or_default());
    let written = api.patch_status(meta.name.as_deref().unwrap_or_default(), &params, &Patch::Strategic(patch)).await;
    if let Err(error) = written {
        tracing::debug!(%error, pod = meta.name, "why a pod has no node could not be written");
    }
}
