//! Tables: what `kubectl get -o wide` prints.

use serde_json::{Value, json};

use crate::pipeline::kind;

/// Headings and cells of one object.
fn table(name: &str, mut object: Value) -> String {
    let kind = kind(name);
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    let row = kind.row(&object, "2026-01-03T01:00:00Z".parse().unwrap());
    let cell = |c: &Value| c.as_str().map_or_else(|| c.to_string(), str::to_owned);
    let lines: Vec<String> = kind
        .columns()
        .iter()
        .zip(&row.cells)
        .map(|(column, value)| {
            let wide = if column.priority > 0 { " (wide)" } else { "" };
            format!("{}{wide}: {}", column.name.to_uppercase(), cell(value))
        })
        .collect();
    lines.join("\n")
}

#[test]
fn rows() {
    let all = [
        (
            "pods",
            json!({
                "spec": {"nodeName": "one", "containers": [{"name": "a"}, {"name": "b"}]},
                "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [
                    {"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-03T00:59:00Z"}}},
                    {"name": "b", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}},
                ]},
            }),
        ),
        (
            "batch/jobs",
            json!({
                "spec": {"completions": 3, "parallelism": 2, "selector": {"matchLabels": {"u": "1"}},
                    "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:2"}]}}},
                "status": {"succeeded": 3, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:02:03Z",
                    "conditions": [{"type": "Complete", "status": "True"}]},
            }),
        ),
        (
            "batch/cronjobs",
            json!({"spec": {"schedule": "0 * * * *", "suspend": false,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}}}}),
        ),
        ("configmaps", json!({"data": {"a": ""}, "binaryData": {"b": ""}})),
        ("secrets", json!({"data": {"a": ""}, "type": "Opaque"})),
        ("namespaces", json!({"status": {"phase": "Active"}})),
        (
            "nodes",
            json!({
                "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "local://1"}},
            }),
        ),
        ("serviceaccounts", json!({})),
        (
            "events",
            json!({"type": "Normal", "reason": "Why", "message": "text\n", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "source": {"component": "c", "host": "h"}, "firstTimestamp": "2026-01-03T00:00:00Z", "lastTimestamp": "2026-01-03T00:58:00Z", "count": 4}),
        ),
        (
            "events.k8s.io/events",
            json!({"type": "Normal", "reason": "Why", "note": "text", "regarding": {"kind": "ConfigMap", "name": "x"},
            "reportingController": "example.test/ctl", "reportingInstance": "ctl-1", "eventTime": "2026-01-03T00:00:00.500000Z"}),
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
        ),
        (
            "persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}}, "status": {"phase": "Bound"}}),
        ),
        ("resourcequotas", json!({"status": {"hard": {"pods": "4", "limits.cpu": "2"}, "used": {"pods": "1"}}})),
        ("limitranges", json!({})),
        (
            "services",
            json!({"spec": {"type": "NodePort", "clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}}),
        ),
        (
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
        ),
        (
            "podtemplates",
            json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}),
        ),
        ("coordination.k8s.io/leases", json!({"spec": {"holderIdentity": "me"}})),
        ("rbac.authorization.k8s.io/roles", json!({})),
        (
            "rbac.authorization.k8s.io/clusterrolebindings",
            json!({"roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "namespace": "n", "name": "bot"}]}),
        ),
        (
            "networking.k8s.io/networkpolicies",
            json!({"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}}}),
        ),
        ("scheduling.k8s.io/priorityclasses", json!({"value": 10, "preemptionPolicy": "Never"})),
        ("apiextensions.k8s.io/customresourcedefinitions", json!({})),
    ];
    let text: Vec<String> =
        all.into_iter().map(|(name, object)| format!("# {name}\n{}", table(name, object))).collect();
    insta::assert_snapshot!(text.join("\n\n"));
}
