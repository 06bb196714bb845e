//! Carries a step out, and enters what the server answers into the picture.

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PropagationPolicy};
use serde_json::{Map, Value, json};

use super::known::keep_start;
use super::plan::{Plan, Slot};
use super::{Controller, template};
use crate::error::{Answer, Result, Step, is_conflict, is_terminating};
use crate::events::{About, Note};
use crate::pods::{Facts, TRACKING};
use crate::requests;

/// Requests for one Job at the same time.
const PARALLEL: usize = 32;

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// There was nothing to do.
    Nothing,
    /// Done; the picture has changed.
    Something,
    /// Somebody else changed the Job; a newer one will come.
    Outdated,
    /// The Job or its namespace is going away.
    Pointless,
}

impl Controller {
    pub(super) async fn act(&self, key: &str, job: &Job, plan: &Plan) -> Result<Done> {
        if !plan.create.is_empty() || !plan.remove.is_empty() {
            for result in at_once(plan.remove.iter().map(|removal| self.remove(job, removal)).collect()).await {
                result?;
            }
            return self.create(job, &plan.create).await;
        }
        if let Some(status) = &plan.status {
            match self.write_status(key, job, status).await? {
                Done::Something => {}
                other => return Ok(other),
            }
            for notice in &plan.notices {
                self.tell(job, notice.warning, &notice.reason, notice.message.clone());
            }
        }
        for result in at_once(plan.release.iter().map(|pod| self.release(pod)).collect()).await {
            result?;
        }
        let done = plan.status.is_some() || !plan.release.is_empty();
        Ok(if done { Done::Something } else { Done::Nothing })
    }

    /// Creates Pods: one, then two, then four…, so that a Job that cannot have any does not ask for hundreds.
    async fn create(&self, job: &Job, slots: &[Slot]) -> Result<Done> {
        let mut rest = slots;
        let mut batch = 1;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            for result in at_once(now.iter().map(|slot| self.create_one(job, *slot)).collect()).await {
                match result {
                    Ok(()) => {}
                    Err(error) if is_terminating(&error.source) => return Ok(Done::Pointless),
                    Err(error) => {
                        self.tell(job, true, "FailedCreate", format!("Error creating: {}", reason(&error.source)));
                        return Err(error);
                    }
                }
            }
            rest = later;
            batch = (batch * 2).min(PARALLEL);
        }
        Ok(Done::Something)
    }

    async fn create_one(&self, job: &Job, slot: Slot) -> Result<()> {
        let created = self.api(job).create(&requests::post(), &template::pod(job, slot)).await;
        let created = created.step("create a pod of job", requests::key(job))?;
        self.pods.created(&created);
        let name = created.metadata.name.unwrap_or_default();
        self.tell(job, false, "SuccessfulCreate", format!("Created pod: {name}"));
        Ok(())
    }

    async fn remove(&self, job: &Job, removal: &super::plan::Removal) -> Result<()> {
        let pod = &removal.pod;
        if removal.uncounted && pod.is_tracked() {
            self.release(pod).await?;
        }
        let parameters = requests::delete(&pod.uid, PropagationPolicy::Background);
        let deleted = match self.api(job).delete(&pod.name, &parameters).await.unless_missing() {
            // Another Pod of that name: ours is gone.
            Err(e) if is_conflict(&e) => None,
            other => other.step("delete pod", pod.key())?,
        };
        match deleted.and_then(|answer| answer.left()) {
            Some(left) if left.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty()) => self.pods.changed(&left),
            Some(left) if left.metadata.deletion_grace_period_seconds.is_some_and(|s| s > 0) => {
                self.pods.changed(&left)
            }
            _ => self.pods.vanished(pod),
        }
        self.tell(job, false, "SuccessfulDelete", format!("Deleted pod: {}", pod.name));
        Ok(())
    }

    /// Takes the finalizer off a Pod.
    pub(super) async fn release(&self, pod: &Facts) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace);
        // Only ours, whatever others do meanwhile, and only of this Pod.
        let body = json!({ "metadata": { "uid": pod.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING] } });
        match api.patch(&pod.name, &requests::patch(), &Patch::Strategic(body)).await.unless_missing() {
            Ok(Some(changed)) => {
                let unheld = changed.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
                if unheld && changed.metadata.deletion_grace_period_seconds == Some(0) {
                    self.pods.vanished(pod);
                } else {
                    self.pods.changed(&changed);
                }
            }
            Ok(None) => self.pods.vanished(pod),
            Err(e) => return Err(e).step("release pod", pod.key()),
        }
        Ok(())
    }

    async fn write_status(&self, key: &str, job: &Job, status: &JobStatus) -> Result<Done> {
        let json = |status: &JobStatus| serde_json::to_value(status).map_err(kube::Error::SerdeError);
        let old = json(&job.status.clone().unwrap_or_default()).step("encode the status of job", key)?;
        let new = json(status).step("encode the status of job", key)?;
        let body = json!({
            "metadata": { "uid": job.metadata.uid, "resourceVersion": job.metadata.resource_version },
            "status": difference(&old, &new),
        });
        let api: Api<Job> =
            Api::namespaced(self.context.client.clone(), job.metadata.namespace.as_deref().unwrap_or_default());
        let name = job.metadata.name.as_deref().unwrap_or_default();
        match api.patch_status(name, &requests::patch(), &Patch::Merge(body)).await.unless_missing() {
            Ok(Some(mut written)) => {
                keep_start(status.start_time.as_ref().map(|start| start.0), &mut written);
                self.remember(written, false);
                Ok(Done::Something)
            }
            Ok(None) => Ok(Done::Pointless),
            Err(e) if is_conflict(&e) => Ok(Done::Outdated),
            Err(e) => Err(e).step("write the status of job", key),
        }
    }

    pub(super) async fn delete_job(&self, key: &str, job: &Job) -> Result<()> {
        let api: Api<Job> =
            Api::namespaced(self.context.client.clone(), job.metadata.namespace.as_deref().unwrap_or_default());
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let parameters = requests::delete(uid, PropagationPolicy::Foreground);
        match api.delete(job.metadata.name.as_deref().unwrap_or_default(), &parameters).await.unless_missing() {
            Err(e) if is_conflict(&e) => Ok(()),
            other => other.map(drop).step("delete finished job", key),
        }
    }

    fn api(&self, job: &Job) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), job.metadata.namespace.as_deref().unwrap_or_default())
    }

    fn tell(&self, job: &Job, warning: bool, reason: &str, message: String) {
        let about = About {
            api_version: "batch/v1",
            kind: "Job",
            namespace: job.metadata.namespace.clone().unwrap_or_default(),
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
        };
        self.events.send(Note { about, warning, reason: reason.to_owned(), message });
    }
}

async fn at_once<F: Future<Output = Result<()>>>(requests: Vec<F>) -> Vec<Result<()>> {
    stream::iter(requests).buffer_unordered(PARALLEL).collect().await
}

/// The server's message, without our wrapping.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The merge patch that turns one JSON document into another.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(key.clone(), difference(before, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_smallest_merge_patch() {
        let check = |old: Value, new: Value, patch: Value| assert_eq!(difference(&old, &new), patch);
        check(json!({ "a": 1 }), json!({ "a": 1 }), json!({}));
        check(json!({ "a": 1, "b": 2 }), json!({ "b": 3, "c": 4 }), json!({ "a": null, "b": 3, "c": 4 }));
        check(
            json!({ "u": { "failed": ["x"], "succeeded": ["y"] } }),
            json!({ "u": { "failed": ["x", "z"] } }),
            json!({ "u": { "failed": ["x", "z"], "succeeded": null } }),
        );
        check(json!({}), json!({ "u": {} }), json!({ "u": {} }));
    }
}
