//! Pods that nobody controls and that a Job's selector selects become the Job's: that is how a Job which was deleted
//! without its Pods goes on when it is created again with the same selector. And the other way round: a Pod whose labels
//! are changed so that the selector does not select it any more is let go, and replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch};
use serde_json::{Value, json};

use super::Controller;
use super::conditions;
use crate::error::{Answer, Result, Step};
use crate::pods::{Facts, TRACKING};
use crate::requests;

/// Whether the Job would take the Pod.
pub(super) fn wants(job: &Job, pod: &Facts) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let at_work = job.metadata.deletion_timestamp.is_none() && conditions::finished(&status).is_none();
    let same_namespace = job.metadata.namespace.as_deref() == Some(pod.namespace.as_str());
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    match (&pod.loose_labels, selector) {
        (Some(labels), Some(selector)) => {
            at_work && same_namespace && pod.deleting.is_none() && selects(selector, labels)
        }
        _ => false,
    }
}

/// Whether the Job would let go a Pod that it controls.
pub(super) fn frees(job: &Job, pod: &Facts) -> bool {
    let at_work = job.metadata.deletion_timestamp.is_none()
        && job.status.as_ref().is_none_or(|status| conditions::finished(status).is_none());
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    match (&pod.own_labels, selector) {
        (Some(labels), Some(selector)) => at_work && !selects(selector, labels),
        _ => false,
    }
}

/// An empty selector selects nothing here: a Job never takes all Pods of a namespace.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    let any = selector.match_labels.as_ref().is_some_and(|wanted| !wanted.is_empty())
        || selector.match_expressions.as_ref().is_some_and(|expressions| !expressions.is_empty());
    any && wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            let have = labels.get(&expression.key);
            match expression.operator.as_str() {
                "In" => have.is_some_and(|value| values.contains(value)),
                "NotIn" => have.is_none_or(|value| !values.contains(value)),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}

impl Controller {
    /// Jobs that would take a Pod which nobody controls.
    pub(super) fn takers(&self, pod: &Facts) -> Vec<String> {
        let Some(labels) = &pod.loose_labels else { return Vec::new() };
        let jobs = self.jobs();
        let may_want = jobs.iter().filter(|(_, known)| known.may_select(labels));
        // One that cannot be read is looked at all the same, and says so there.
        may_want
            .filter(|(_, known)| known.job().map_or(true, |job| wants(&job, pod)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Takes all Pods that the Job wants, and lets those go that it does not select any more.
    pub(super) async fn claim(&self, job: &Job) -> Result<()> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        for pod in self.pods.of_job(uid).into_iter().filter(|pod| frees(job, pod)) {
            let body = json!({"metadata": {
                "uid": pod.uid,
                "ownerReferences": [{"$patch": "delete", "uid": uid}],
                "$deleteFromPrimitiveList/finalizers": [TRACKING],
            }});
            self.change_pod(&pod, body, "release pod").await?;
        }
        let wanted: Vec<Arc<Facts>> = self.pods.loose(namespace).into_iter().filter(|pod| wants(job, pod)).collect();
        for pod in wanted {
            let owner = json!({
                "apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid,
                "controller": true, "blockOwnerDeletion": true,
            });
            let body = json!({"metadata": {"uid": pod.uid, "ownerReferences": [owner], "finalizers": [TRACKING]}});
            self.change_pod(&pod, body, "adopt pod").await?;
        }
        Ok(())
    }

    async fn change_pod(&self, pod: &Facts, body: Value, step: &'static str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace);
        match api.patch(&pod.name, &requests::patch(), &Patch::Strategic(body)).await.unless_missing() {
            Ok(Some(changed)) => self.pods.changed(&changed),
            Ok(None) => self.pods.vanished(pod),
            Err(error) => return Err(error).step(step, pod.key()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(extra: Value) -> Job {
        let mut job = json!({"metadata": {"name": "j", "namespace": "ns", "uid": "u"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {}}});
        json_patch(&mut job, &extra);
        serde_json::from_value(job).unwrap()
    }

    fn json_patch(value: &mut Value, extra: &Value) {
        for (name, member) in extra.as_object().into_iter().flatten() {
            match member {
                Value::Object(_) if value[name].is_object() => json_patch(&mut value[name], member),
                other => value[name] = other.clone(),
            }
        }
    }

    fn loose(labels: &[(&str, &str)]) -> Facts {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Facts { namespace: "ns".to_owned(), loose_labels: Some(labels), ..Facts::default() }
    }

    #[test]
    fn jobs_free_what_they_do_not_select() {
        let of = |labels: &[(&str, &str)]| Facts { own_labels: loose(labels).loose_labels, ..Facts::default() };
        let plain = job(json!({}));
        assert!(frees(&plain, &of(&[("app", "b")])));
        assert!(frees(&plain, &of(&[])));
        assert!(!frees(&plain, &of(&[("app", "a"), ("more", "b")])));
        assert!(!frees(&plain, &Facts::default()), "labelled with the uid of its job");
        let deleted = job(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert!(!frees(&deleted, &of(&[])));
        let finished = job(json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}));
        assert!(!frees(&finished, &of(&[])));
    }

    #[test]
    fn jobs_want_what_they_select() {
        let plain = job(json!({}));
        assert!(wants(&plain, &loose(&[("app", "a"), ("more", "b")])));
        assert!(!wants(&plain, &loose(&[("app", "b")])));
        assert!(!wants(&plain, &Facts { namespace: "other".to_owned(), ..loose(&[("app", "a")]) }));
        let controlled = Facts { loose_labels: None, ..loose(&[("app", "a")]) };
        assert!(!wants(&plain, &controlled));
        let nothing = job(json!({"spec": {"selector": {"matchLabels": null}}}));
        assert!(!wants(&nothing, &loose(&[("app", "a")])));
        let expression = json!([{"key": "tier", "operator": "NotIn", "values": ["x"]}]);
        let picky = job(json!({"spec": {"selector": {"matchExpressions": expression}}}));
        assert!(wants(&picky, &loose(&[("app", "a")])));
        assert!(!wants(&picky, &loose(&[("app", "a"), ("tier", "x")])));
        let finished = job(json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}));
        assert!(!wants(&finished, &loose(&[("app", "a")])));
    }
}
