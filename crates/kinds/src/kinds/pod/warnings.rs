//! What is accepted in a pod spec but does nothing, or not what it seems.

use serde_json::Value;

use crate::kinds::edit::{has, items, text};
use crate::quantity::Quantity;

/// Labels of nodes that have other names now.
const OLD_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Appends what is to be said of a pod spec at `path`.
pub(crate) fn of_spec(spec: &Value, path: &str, out: &mut Vec<String>) {
    for (label, since, now) in OLD_LABELS {
        if has(&spec["nodeSelector"], label) {
            out.push(format!("{path}.nodeSelector[{label}]: deprecated since {since}; use \"{now}\" instead"));
        }
    }
    for (i, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            out.push(format!("{path}.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
    for (i, volume) in items(spec, "volumes").iter().enumerate() {
        if has(volume, "gitRepo") {
            out.push(format!("{path}.volumes[{i}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"));
        }
    }
    for list in ["initContainers", "containers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            let path = format!("{path}.{list}[{i}]");
            amounts(container, &path, out);
            environment(container, &path, out);
        }
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n < 0) {
        out.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    ports(spec, path, out);
}

fn amounts(container: &Value, path: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for kind in ["limits", "requests"] {
            let amount = text(&container["resources"][kind], name);
            if let Ok(quantity) = amount.parse::<Quantity>()
                && !quantity.is_whole()
            {
                out.push(format!(
                    "{path}.resources.{kind}[{name}]: fractional byte value {amount:?} is invalid, must be an integer"
                ));
            }
        }
    }
}

fn environment(container: &Value, path: &str, out: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for (j, variable) in items(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        // One that takes up what was there before is meant.
        let extends = !has(variable, "valueFrom") && text(variable, "value").contains(&format!("$({name})"));
        if !extends {
            out.push(format!(
                "{path}.env[{j}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// Ports that several containers, or one of them twice, claim.
fn ports(spec: &Value, path: &str, out: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    for list in ["initContainers", "containers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            for (j, port) in items(container, "ports").iter().enumerate() {
                let at = format!("{path}.{list}[{i}].ports[{j}]");
                let same = |other: &Value| ["containerPort", "protocol"].iter().all(|name| port[*name] == other[*name]);
                for (other_at, other) in seen.iter().filter(|(_, other)| same(other)) {
                    let number = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
                    let (host, other_host) = (text(port, "hostIP"), text(other, "hostIP"));
                    let what = if host == other_host && number(port) == number(other) {
                        "duplicate"
                    } else if number(port) == 0 || number(other) == 0 {
                        "overlapping"
                    } else if number(port) == number(other) && (host.is_empty() != other_host.is_empty()) {
                        "dangerously ambiguous"
                    } else {
                        continue;
                    };
                    out.push(format!("{at}: {what} port definition with {other_at}"));
                }
                seen.push((at, port));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_is_odd() {
        let mut out = Vec::new();
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [
                {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}],
                 "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "name": "b"}],
                 "resources": {"limits": {"ephemeral-storage": "1500m"}}},
                {"ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 81}]}]});
        of_spec(&spec, "spec", &mut out);
        assert_eq!(
            out,
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].resources.limits[ephemeral-storage]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[1]",
            ]
        );
    }
}
