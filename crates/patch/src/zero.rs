//! What an empty object of a built-in kind looks like.
//!
//! Kubernetes compares a created object with the zero value of its Go type, in which structs are there, only empty.
//! That is why nobody owns `.spec` of a Pod as a whole, while somebody owns `.spec` of a custom resource.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// The empty object of the kind of `object`; `None` for custom resources, which start from nothing.
#[must_use]
pub fn of(object: &Value) -> Option<&'static Value> {
    let version = object.get("apiVersion")?.as_str()?;
    let kind = object.get("kind")?.as_str()?;
    ZEROS.get(version)?.get(kind)
}

type Zeros = BTreeMap<&'static str, BTreeMap<&'static str, Value>>;

static ZEROS: LazyLock<Zeros> = LazyLock::new(|| {
    let template = || json!({"metadata": {}, "spec": {"containers": null}});
    let job = || json!({"template": template()});
    let names = || json!({"plural": "", "kind": ""});
    let role_ref = || json!({"roleRef": {"apiGroup": "", "kind": "", "name": ""}});
    let table: [(&str, &str, Value); 34] = [
        ("v1", "Pod", json!({"spec": {"containers": null}, "status": {}})),
        ("v1", "PodTemplate", json!({"template": template()})),
        ("v1", "ConfigMap", json!({})),
        ("v1", "Secret", json!({})),
        ("v1", "ServiceAccount", json!({})),
        ("v1", "Namespace", json!({"spec": {}, "status": {}})),
        (
            "v1",
            "Node",
            json!({"spec": {}, "status": {
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
                "nodeInfo": {
                    "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "",
                    "osImage": "", "systemUUID": "",
                },
            }}),
        ),
        (
            "v1",
            "Event",
            json!({
                "eventTime": null, "firstTimestamp": null, "involvedObject": {}, "lastTimestamp": null,
                "reportingComponent": "", "reportingInstance": "", "source": {},
            }),
        ),
        (
            "events.k8s.io/v1",
            "Event",
            json!({
                "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null, "deprecatedSource": {},
                "eventTime": null, "regarding": {},
            }),
        ),
        ("v1", "PersistentVolumeClaim", json!({"spec": {"resources": {}}, "status": {}})),
        ("v1", "PersistentVolume", json!({"spec": {}, "status": {}})),
        ("v1", "ResourceQuota", json!({"spec": {}, "status": {}})),
        ("v1", "LimitRange", json!({"spec": {"limits": null}})),
        ("v1", "Service", json!({"spec": {}, "status": {"loadBalancer": {}}})),
        ("v1", "Endpoints", json!({})),
        ("v1", "ReplicationController", json!({"spec": {}, "status": {"replicas": 0}})),
        ("batch/v1", "Job", json!({"spec": job(), "status": {}})),
        (
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "", "jobTemplate": {"metadata": {}, "spec": job()}}, "status": {}}),
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": null, "strategy": {}, "template": template()}, "status": {}}),
        ),
        (
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"selector": null, "template": template()}, "status": {"replicas": 0}}),
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({
                "spec": {"selector": null, "serviceName": "", "template": template(), "updateStrategy": {}},
                "status": {"availableReplicas": 0, "replicas": 0},
            }),
        ),
        (
            "apps/v1",
            "DaemonSet",
            json!({
                "spec": {"selector": null, "template": template(), "updateStrategy": {}},
                "status": {
                    "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
                },
            }),
        ),
        ("coordination.k8s.io/v1", "Lease", json!({"spec": {}})),
        ("rbac.authorization.k8s.io/v1", "Role", json!({"rules": null})),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"rules": null})),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", role_ref()),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", role_ref()),
        ("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}}})),
        ("networking.k8s.io/v1", "Ingress", json!({"spec": {}, "status": {"loadBalancer": {}}})),
        ("policy/v1", "PodDisruptionBudget", json!({"spec": {}, "status": {}})),
        ("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 0})),
        ("storage.k8s.io/v1", "StorageClass", json!({"provisioner": ""})),
        ("node.k8s.io/v1", "RuntimeClass", json!({"handler": ""})),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({
                "spec": {"group": "", "names": names(), "scope": "", "versions": null},
                "status": {"acceptedNames": names(), "conditions": null, "storedVersions": null},
            }),
        ),
    ];
    let mut out = Zeros::new();
    for (version, kind, mut zero) in table {
        if let Some(zero) = zero.as_object_mut() {
            zero.insert("metadata".to_owned(), json!({}));
        }
        out.entry(version).or_default().insert(kind, zero);
    }
    out
});
