//! Network policies: nobody reaches the pods of KubeTask, and agents reach the internet without the cluster's inside.

use kubetask_api::labels;
use serde_json::{Value, json};

use super::{CONTROLLER, METRICS_PORT, Release, Values, agent_namespaces};

/// The policies of all namespaces concerned.
pub(super) fn policies(values: &Values, release: &Release) -> Vec<Value> {
    let mut all = vec![controller(values, release)];
    for namespace in agent_namespaces(values, release) {
        all.push(agents(values, release, namespace));
    }
    all
}

fn policy(metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

/// Only the metrics of the operator can be reached. It itself reaches what it needs: API server, archive, webhooks.
fn controller(values: &Values, release: &Release) -> Value {
    let mut rule = json!({"ports": [{"port": METRICS_PORT, "protocol": "TCP"}]});
    if !values.network_policy.metrics_from.is_empty() {
        rule["from"] = json!(values.network_policy.metrics_from);
    }
    policy(
        release.metadata(CONTROLLER, "controller"),
        json!({
            "podSelector": {"matchLabels": release.selector("controller")},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        }),
    )
}

/// Nobody reaches agents. They reach DNS, and every address that is not excepted.
fn agents(values: &Values, release: &Release, namespace: &str) -> Value {
    let dns_ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]);
    let mut egress = vec![json!({
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            },
            // The node-local DNS cache, where there is one.
            {"ipBlock": {"cidr": "169.254.20.10/32"}},
        ],
        "ports": dns_ports,
    })];
    let (v6, v4): (Vec<&String>, Vec<&String>) =
        values.network_policy.agent_egress_except.iter().partition(|cidr| cidr.contains(':'));
    let block = |cidr: &str, except: &[&String]| {
        let mut block = json!({"cidr": cidr});
        if !except.is_empty() {
            block["except"] = json!(except);
        }
        json!({"ipBlock": block})
    };
    egress.push(json!({"to": [block("0.0.0.0/0", &v4), block("::/0", &v6)]}));
    egress.extend(values.network_policy.agent_egress_extra.iter().cloned());
    policy(
        release.metadata_in(namespace, "kubetask-agents", "agent"),
        json!({
            // The labels that the operator puts on every agent's pod.
            "podSelector": {"matchLabels": {labels::APP_COMPONENT: "agent", labels::APP_MANAGED_BY: labels::APP}},
            "policyTypes": ["Egress", "Ingress"],
            "egress": egress,
        }),
    )
}
