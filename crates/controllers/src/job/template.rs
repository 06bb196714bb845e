//! The Pod that a Job's template makes.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::plan::Slot;
use crate::pods::{INDEX, INDEX_FAILURES, TRACKING};

/// The environment variable that tells a container its index.
const INDEX_ENV: &str = "JOB_COMPLETION_INDEX";
/// A generated name may be this long without the generated part.
const NAME: usize = 58;
/// A host name may be this long.
const HOST_NAME: usize = 63;

/// Makes the Pod for a slot out of the Job's template.
pub(super) fn pod(job: &Job, slot: Slot) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    let mut spec = template.spec.unwrap_or_default();
    let mut labels: BTreeMap<_, _> = from.labels.unwrap_or_default();
    let mut annotations: BTreeMap<_, _> = from.annotations.unwrap_or_default();
    let mut finalizers = from.finalizers.unwrap_or_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let mut prefix = name.clone();
    if let Some(index) = slot.index {
        labels.insert(INDEX.to_owned(), index.to_string());
        annotations.insert(INDEX.to_owned(), index.to_string());
        let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        containers.for_each(add_index);
        let host = format!("{name}-{index}");
        if host.len() <= HOST_NAME {
            spec.hostname.get_or_insert(host);
        }
        prefix = format!("{}-{index}", shorten(&name, NAME - 1 - index.to_string().len()));
    }
    if let Some(failures) = slot.failures {
        annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
    }
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", shorten(&prefix, NAME))),
            namespace: job.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            finalizers: Some(finalizers),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name,
                uid: job.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn shorten(name: &str, longest: usize) -> &str {
    // Names are ASCII; anything else stays as it is and the server refuses it.
    name.get(..longest).unwrap_or(name)
}

fn add_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|var| var.name == INDEX_ENV) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    env.push(EnvVar {
        name: INDEX_ENV.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(name: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": "u" },
            "spec": { "template": {
                "metadata": { "labels": { "job-name": name } },
                "spec": {
                    "initContainers": [{ "name": "i" }],
                    "containers": [{ "name": "c", "env": [{ "name": "A", "value": "b" }] }],
                    "restartPolicy": "Never",
                },
            } },
        }))
        .unwrap()
    }

    #[test]
    fn a_plain_pod() {
        let pod = pod(&job("j"), Slot { index: None, failures: None });
        insta::assert_json_snapshot!(pod, @r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "finalizers": [
              "batch.kubernetes.io/job-tracking"
            ],
            "generateName": "j-",
            "labels": {
              "job-name": "j"
            },
            "namespace": "ns",
            "ownerReferences": [
              {
                "apiVersion": "batch/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Job",
                "name": "j",
                "uid": "u"
              }
            ]
          },
          "spec": {
            "containers": [
              {
                "env": [
                  {
                    "name": "A",
                    "value": "b"
                  }
                ],
                "name": "c"
              }
            ],
            "initContainers": [
              {
                "name": "i"
              }
            ],
            "restartPolicy": "Never"
          }
        }
        "#);
    }

    #[test]
    fn an_indexed_pod() {
        let made = pod(&job("j"), Slot { index: Some(3), failures: Some(2) });
        let meta = &made.metadata;
        assert_eq!(meta.generate_name.as_deref(), Some("j-3-"));
        assert_eq!(meta.labels.as_ref().and_then(|l| l.get(INDEX)).map(String::as_str), Some("3"));
        let annotations = meta.annotations.clone().unwrap();
        assert_eq!((annotations[INDEX].as_str(), annotations[INDEX_FAILURES].as_str()), ("3", "2"));
        let spec = made.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("j-3"));
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let env = container.env.as_ref().and_then(|e| e.last()).unwrap();
            let path = env.value_from.as_ref().and_then(|v| v.field_ref.as_ref()).map(|f| f.field_path.as_str());
            assert_eq!(
                (env.name.as_str(), path),
                (INDEX_ENV, Some("metadata.labels['batch.kubernetes.io/job-completion-index']"))
            );
        }
    }

    #[test]
    fn long_names_leave_room_for_the_generated_part() {
        let long = "j".repeat(63);
        let made = pod(&job(&long), Slot { index: None, failures: None });
        assert_eq!(made.metadata.generate_name, Some(format!("{}-", "j".repeat(58))));
        let made = pod(&job(&long), Slot { index: Some(12), failures: None });
        assert_eq!(made.metadata.generate_name, Some(format!("{}-12-", "j".repeat(55))));
        assert_eq!(made.spec.and_then(|s| s.hostname), None);
    }
}
