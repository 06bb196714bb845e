//! [`Known`]: a Job as the controller keeps it for as long as the Job exists.

use std::ops::Deref;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

/// A Job whose template is put away as text: decoded it is most of a Job, and only a new Pod asks for it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What decisions are made from. Of the template it has the restart policy only.
    pub(super) job: Job,
    template: Box<[u8]>,
}

impl Known {
    /// Puts `job` away.
    ///
    /// # Errors
    /// The template cannot be written as JSON.
    pub(super) fn new(mut job: Job) -> Result<Self, kube::Error> {
        job.metadata.managed_fields = None;
        let template = match &mut job.spec {
            None => Box::default(),
            Some(spec) => {
                let restart_policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.clone());
                let bare = PodSpec { restart_policy, ..PodSpec::default() };
                let bare = PodTemplateSpec { metadata: None, spec: Some(bare) };
                let template = std::mem::replace(&mut spec.template, bare);
                serde_json::to_vec(&template).map_err(kube::Error::SerdeError)?.into_boxed_slice()
            }
        };
        // A copy: lists that were read have room for more than is in them.
        Ok(Self { job: job.clone(), template })
    }

    /// The template, whole.
    ///
    /// # Errors
    /// What was written cannot be read, which would be a defect.
    pub(super) fn template(&self) -> Result<PodTemplateSpec, kube::Error> {
        if self.template.is_empty() {
            return Ok(PodTemplateSpec::default());
        }
        serde_json::from_slice(&self.template).map_err(kube::Error::SerdeError)
    }
}

impl Deref for Known {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

/// The API knows times to the second only. The start is kept as exactly as it was decided, so that a deadline of a few
/// seconds is not most of a second early.
pub(super) fn keep_start(known: &Job, job: &mut Job) {
    let exact = known.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    if let (Some(exact), Some(start)) = (exact, job.status.as_mut().and_then(|s| s.start_time.as_mut()))
        && exact.as_second() == start.0.as_second()
    {
        start.0 = exact;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_a_job_is_lost() {
        let whole: Job = serde_json::from_value(json!({
            "metadata": { "name": "j", "managedFields": [{ "manager": "m" }] },
            "spec": {
                "parallelism": 2,
                "template": {
                    "metadata": { "labels": { "a": "b" } },
                    "spec": { "containers": [{ "name": "c" }], "restartPolicy": "OnFailure" },
                },
            },
        }))
        .unwrap();
        let known = Known::new(whole.clone()).unwrap();
        assert_eq!(known.template().unwrap(), whole.spec.as_ref().unwrap().template);
        let spec = known.spec.as_ref().unwrap();
        assert_eq!(spec.parallelism, Some(2));
        assert_eq!(spec.template.spec.as_ref().unwrap().restart_policy.as_deref(), Some("OnFailure"));
        assert_eq!(known.metadata.managed_fields, None);
        assert_eq!(Known::new(Job::default()).unwrap().template().unwrap(), PodTemplateSpec::default());
    }
}
