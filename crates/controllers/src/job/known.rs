//! [`Known`]: a Job as the controller keeps it for as long as the Job exists.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;

use crate::requests;

/// A Job that is put away as text: decoded it is several times as large, and only a step of its own asks for it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) uid: Option<String>,
    pub(super) version: u64,
    /// Its start, as exactly as it is known.
    pub(super) started: Option<Timestamp>,
    /// Its selector is its author's, and not the one that names its uid.
    manual_selector: bool,
    text: Box<[u8]>,
}

impl Known {
    /// Puts `job` away, except for the managers of its fields.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn new(mut job: Job) -> Result<Self, kube::Error> {
        job.metadata.managed_fields = None;
        let text = serde_json::to_vec(&job).map_err(kube::Error::SerdeError)?;
        Ok(Self {
            version: requests::version(&job),
            started: started(&job),
            manual_selector: job.spec.is_some_and(|spec| spec.manual_selector == Some(true)),
            uid: job.metadata.uid,
            text: text.into_boxed_slice(),
        })
    }

    /// The Job.
    ///
    /// # Errors
    /// What was written cannot be read, which would be a defect.
    pub(super) fn job(&self) -> Result<Job, kube::Error> {
        let mut job = serde_json::from_slice(&self.text).map_err(kube::Error::SerdeError)?;
        keep_start(self.started, &mut job);
        Ok(job)
    }

    /// Whether its selector can select these labels, as far as that is known without reading it.
    pub(super) fn may_select(&self, labels: &BTreeMap<String, String>) -> bool {
        self.manual_selector || labels.values().any(|value| Some(value) == self.uid.as_ref())
    }
}

fn started(job: &Job) -> Option<Timestamp> {
    Some(job.status.as_ref()?.start_time.as_ref()?.0)
}

/// The API knows times to the second only. The start is kept as exactly as it was decided, so that a deadline of a few
/// seconds is not most of a second early.
pub(super) fn keep_start(exact: Option<Timestamp>, job: &mut Job) {
    let told = job.status.as_mut().and_then(|status| status.start_time.as_mut());
    if let (Some(exact), Some(told)) = (exact, told)
        && exact.as_second() == told.0.as_second()
    {
        told.0 = exact;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(value: Value) -> Job {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_of_a_job_is_lost() {
        let mut whole = job(json!({
            "metadata": { "name": "j", "uid": "u", "resourceVersion": "7", "managedFields": [{ "manager": "m" }] },
            "spec": {
                "parallelism": 2,
                "template": {
                    "metadata": { "labels": { "a": "b" } },
                    "spec": { "containers": [{ "name": "c" }], "restartPolicy": "OnFailure" },
                },
            },
            "status": { "startTime": "2030-01-01T00:00:05.7Z", "active": 1 },
        }));
        let known = Known::new(whole.clone()).unwrap();
        whole.metadata.managed_fields = None;
        assert_eq!(known.job().unwrap(), whole);
        assert_eq!((known.uid.as_deref(), known.version), (Some("u"), 7));
        assert_eq!(Known::new(Job::default()).unwrap().job().unwrap(), Job::default());
    }

    #[test]
    fn the_start_is_known_more_exactly_than_the_api_tells() {
        let check = |exact: &str, told: &str, kept: &str| {
            let mut job = job(json!({ "status": { "startTime": told }, "spec": { "template": {} } }));
            keep_start(Some(exact.parse().unwrap()), &mut job);
            assert_eq!(started(&job), Some(kept.parse().unwrap()));
        };
        check("2030-01-01T00:00:05.7Z", "2030-01-01T00:00:05Z", "2030-01-01T00:00:05.7Z");
        check("2030-01-01T00:00:05.7Z", "2030-01-01T00:00:09Z", "2030-01-01T00:00:09Z");
    }

    #[test]
    fn a_job_selects_its_own_pods_or_what_its_author_says() {
        let check = |manual: Value, label: &str, may: bool| {
            let spec = json!({ "manualSelector": manual, "template": {} });
            let known = Known::new(job(json!({ "metadata": { "uid": "u" }, "spec": spec }))).unwrap();
            assert_eq!(known.may_select(&BTreeMap::from([("controller-uid".to_owned(), label.to_owned())])), may);
        };
        check(Value::Null, "u", true);
        check(Value::Null, "v", false);
        check(json!(true), "v", true);
    }
}
