//! Defaults of pods and pod templates, and what the default admission plugins add to a new pod.

use serde_json::{Value, json};

use crate::kinds::edit::{copy, default, ensure, has, items, items_mut, object, set, text};

/// Defaults of a `Pod`.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = ensure(pod, "spec") else { return };
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    default(spec, "enableServiceLinks", true);
    if spec["hostNetwork"] == true {
        for list in ["initContainers", "containers"] {
            items_mut(spec, list).for_each(host_ports);
        }
    }
    pod_spec(spec);
}

/// A limit without a request is its own request.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = ensure(container, "resources") else { return };
    let Some(limits) = resources["limits"].as_object().filter(|l| !l.is_empty()).cloned() else { return };
    let Some(requests) = ensure(resources, "requests") else { return };
    for (name, limit) in limits {
        default(requests, &name, limit);
    }
}

/// Defaults of a pod template.
pub(crate) fn template(template: &mut Value) {
    if let Some(spec) = ensure(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "securityContext", object());
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    service_account_alias(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for item in items_mut(spec, list) {
            container(item);
        }
    }
    for item in items_mut(spec, "volumes") {
        volume(item);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always written.
fn service_account_alias(spec: &mut Value) {
    if text(spec, "serviceAccountName").is_empty() && has(spec, "serviceAccount") {
        let alias = spec["serviceAccount"].clone();
        set(spec, "serviceAccountName", alias);
    }
    if has(spec, "serviceAccountName") {
        let name = spec["serviceAccountName"].clone();
        set(spec, "serviceAccount", name);
    }
}

/// In the network of the host a port is the host's. Templates are left as they are.
fn host_ports(container: &mut Value) {
    for port in items_mut(container, "ports").filter(|port| has(port, "containerPort")) {
        let number = port["containerPort"].clone();
        default(port, "hostPort", number);
    }
}

fn container(container: &mut Value) {
    if !has(container, "imagePullPolicy") {
        let policy = if is_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
        set(container, "imagePullPolicy", policy);
    }
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    for port in items_mut(container, "ports") {
        default(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        let Some(source) = variable.get_mut("valueFrom") else { continue };
        if let Some(field) = source.get_mut("fieldRef") {
            default(field, "apiVersion", "v1");
        }
        if let Some(resource) = source.get_mut("resourceFieldRef") {
            default(resource, "divisor", "0");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(name).filter(|p| p.is_object()) else { continue };
        default(probe, "timeoutSeconds", 1);
        default(probe, "periodSeconds", 10);
        default(probe, "successThreshold", 1);
        default(probe, "failureThreshold", 3);
        handler(probe);
        if let Some(grpc) = probe.get_mut("grpc") {
            default(grpc, "service", "");
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get_mut(name) {
                handler(hook);
            }
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        default(get, "path", "/");
        default(get, "scheme", "HTTP");
    }
}

/// Whether an image reference names the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest" || tag.is_empty())
}

fn volume(volume: &mut Value) {
    let Some(members) = volume.as_object() else { return };
    if members.keys().all(|k| k == "name") {
        set(volume, "emptyDir", object());
        return;
    }
    for (source, mode) in
        [("secret", true), ("configMap", true), ("downwardAPI", true), ("projected", true), ("hostPath", false)]
    {
        let Some(source_value) = volume.get_mut(source).filter(|s| s.is_object()) else { continue };
        if mode {
            default(source_value, "defaultMode", 0o644);
        } else {
            default(source_value, "type", "");
        }
        downward(source_value);
        for projection in items_mut(source_value, "sources") {
            if let Some(api) = projection.get_mut("downwardAPI") {
                downward(api);
            }
            if let Some(token) = projection.get_mut("serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
        }
    }
    if let Some(image) = volume.get_mut("image").filter(|i| i.is_object()) {
        let policy = if is_latest(text(image, "reference")) { "Always" } else { "IfNotPresent" };
        default(image, "pullPolicy", policy);
    }
    if let Some(claim) = volume.get_mut("ephemeral").and_then(|e| e.get_mut("volumeClaimTemplate"))
        && let Some(spec) = claim.get_mut("spec")
    {
        default(spec, "volumeMode", "Filesystem");
    }
}

fn downward(source: &mut Value) {
    for item in items_mut(source, "items") {
        if let Some(field) = item.get_mut("fieldRef") {
            default(field, "apiVersion", "v1");
        }
        if let Some(resource) = item.get_mut("resourceFieldRef") {
            default(resource, "divisor", "0");
        }
    }
}

/// What Kubernetes' default admission plugins set on a new pod: service account, priority, tolerations.
pub(crate) fn admit(pod: &mut Value) {
    let Some(spec) = ensure(pod, "spec") else { return };
    if text(spec, "serviceAccountName").is_empty() {
        set(spec, "serviceAccountName", "default");
    }
    let name = spec["serviceAccountName"].clone();
    set(spec, "serviceAccount", name);
    let priority = match text(spec, "priorityClassName") {
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        _ => 0,
    };
    default(spec, "priority", priority);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = items(spec, "tolerations").iter().any(|t| {
            let effect = text(t, "effect");
            let all_keys = text(t, "key").is_empty() && text(t, "operator") == "Exists";
            (text(t, "key") == key || all_keys) && (effect.is_empty() || effect == "NoExecute")
        });
        if tolerated {
            continue;
        }
        default(spec, "tolerations", Value::Array(Vec::new()));
        if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// What the ServiceAccount admission plugin adds to a new pod once it has found the account: image pull secrets, and
/// the token volume unless pod or account forbid it. `suffix` makes the volume's name unique, e.g. `x7k2p`.
pub fn admit_service_account(pod: &mut Value, account: &Value, suffix: &str) {
    const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let Some(spec) = ensure(pod, "spec") else { return };
    if items(spec, "imagePullSecrets").is_empty() && !items(account, "imagePullSecrets").is_empty() {
        copy(spec, account, "imagePullSecrets");
    }
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if !wanted {
        return;
    }
    let volume = format!("kube-api-access-{suffix}");
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if items(container, "volumeMounts").iter().any(|m| text(m, "mountPath") == MOUNT) {
                continue;
            }
            default(container, "volumeMounts", Value::Array(Vec::new()));
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
                mounted = true;
            }
        }
    }
    if !mounted {
        return;
    }
    default(spec, "volumes", Value::Array(Vec::new()));
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 0o644,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [
                        {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                    ]}},
                ],
            },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::is_latest;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, latest) in [
            ("x", true),
            ("example.test/x", true),
            ("example.test:5000/x", true),
            ("x:latest", true),
            ("x:1", false),
            ("example.test:5000/x:1", false),
            ("x@sha256:0", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
