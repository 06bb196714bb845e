//! The operator's Deployment, and what stands around it.

use serde_json::{Value, json};

use super::{CONTROLLER, METRICS_PORT, Release, Values};

/// The Deployment, the metrics' Service, and the disruption budget.
pub(super) fn objects(values: &Values, release: &Release) -> Vec<Value> {
    let mut all = vec![deployment(values, release)];
    let selector = release.selector("controller");
    if values.metrics.service {
        all.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": release.metadata("kubetask-metrics", "controller"),
            "spec": {
                "selector": selector,
                "ports": [{"name": "metrics", "port": METRICS_PORT, "protocol": "TCP", "targetPort": "metrics"}],
            },
        }));
    }
    if values.metrics.service_monitor {
        all.push(json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
            "metadata": release.metadata(CONTROLLER, "controller"),
            "spec": {"selector": {"matchLabels": selector}, "endpoints": [{"port": "metrics"}]},
        }));
    }
    if values.pod_disruption_budget.enabled {
        all.push(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": release.metadata(CONTROLLER, "controller"),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}},
        }));
    }
    all
}

/// The arguments of the operator.
fn args(values: &Values, release: &Release) -> Vec<String> {
    let mut args = vec![
        "controller".to_owned(),
        "--leader-elect".to_owned(),
        format!("--metrics-bind-address=:{METRICS_PORT}"),
        format!("--health-probe-bind-address=:{METRICS_PORT}"),
        format!("--image={}", values.image.reference(&release.version)),
    ];
    if !values.default_agent_image.is_empty() {
        args.push(format!("--default-agent-image={}", values.default_agent_image));
    }
    if !values.watch_namespace.is_empty() {
        args.push(format!("--watch-namespace={}", values.watch_namespace));
    }
    args.extend(values.extra_args.iter().cloned());
    args
}

fn deployment(values: &Values, release: &Release) -> Value {
    let selector = release.selector("controller");
    let mut pod_labels = json!(values.pod_labels);
    if let (Some(all), Some(own)) = (pod_labels.as_object_mut(), release.labels("controller").as_object()) {
        all.extend(own.clone());
    }
    let mut metadata = json!({"labels": pod_labels});
    if !values.pod_annotations.is_empty() {
        metadata["annotations"] = json!(values.pod_annotations);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": release.metadata(CONTROLLER, "controller"),
        "spec": {
            "replicas": values.replicas,
            "selector": {"matchLabels": selector},
            "template": {"metadata": metadata, "spec": pod(values, release)},
        },
    })
}

fn pod(values: &Values, release: &Release) -> Value {
    let mut spec = json!({
        "serviceAccountName": values.service_account.name,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        // Long enough to finish what is being reconciled and to give the Lease back.
        "terminationGracePeriodSeconds": 30,
        "containers": [container(values, release)],
        // The archive and the client want a place for temporary files; the root is read-only.
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": release.selector("controller")},
        }],
    });
    let mut set = |field: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !empty {
            spec[field] = value;
        }
    };
    set("imagePullSecrets", json!(values.image_pull_secrets));
    set("nodeSelector", json!(values.node_selector));
    set("tolerations", json!(values.tolerations));
    set("affinity", values.affinity.clone());
    set("priorityClassName", json!(values.priority_class_name));
    spec
}

fn container(values: &Values, release: &Release) -> Value {
    let mut env = vec![
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
    ];
    env.extend(values.extra_env.iter().cloned());
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "metrics"}, "periodSeconds": period, "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": "controller",
        "image": values.image.reference(&release.version),
        "imagePullPolicy": serde_json::to_value(values.image.pull_policy).unwrap_or_default(),
        "args": args(values, release),
        "env": env,
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        // The first list of many thousand Tasks takes its time.
        "startupProbe": probe("/healthz", 2, 60),
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 5, 3),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    if values.resources.as_object().is_some_and(|r| !r.is_empty()) {
        container["resources"] = values.resources.clone();
    }
    container
}
