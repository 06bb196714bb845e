//! The downward API: fields of a pod and resources of its containers as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// What of the node shows through the downward API.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// Name of the Node.
    pub(crate) name: String,
    /// Its address, which is also every pod's: pods share the host's network.
    pub(crate) address: String,
    /// What the node offers to pods; stands in for limits that are not set.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
}

/// The value of a `fieldRef` in an environment variable or a volume.
pub(crate) fn field(pod: &Pod, node: &NodeFacts, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(entries.and_then(|entries| entries.get(key)).cloned().unwrap_or_default());
    }
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.as_ref())),
        "metadata.annotations" => Some(lines(meta.annotations.as_ref())),
        "spec.nodeName" => Some(node.name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "spec.restartPolicy" => spec.and_then(|spec| spec.restart_policy.clone()),
        "status.hostIP" | "status.podIP" | "status.hostIPs" | "status.podIPs" => Some(node.address.clone()),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(text.unwrap_or_default())
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(entries: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        entries.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// A string in double quotes, escaped as Go's `%q` does, which is what programs that read these files expect.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`. `own` is the container it stands in; a volume must name one.
pub(crate) fn resource(
    pod: &Pod,
    node: &NodeFacts,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => {
            let spec = pod.spec.as_ref();
            let all =
                spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
            all.into_iter()
                .find(|container| container.name == name)
                .ok_or_else(|| format!("container {name} not found"))?
        }
        None => own.ok_or_else(|| "containerName is required for a resourceFieldRef in a volume".to_owned())?,
    };
    let (side, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let requests = || resources.and_then(|resources| resources.requests.as_ref()?.get(name));
    let limits = || resources.and_then(|resources| resources.limits.as_ref()?.get(name));
    let value = match side {
        "limits" => limits().or_else(|| node.allocatable.get(name)),
        "requests" => requests().or_else(limits),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let milli = value.and_then(quantity::milli).unwrap_or(0);
    Ok(quantity::divided(milli, selector.divisor.as_ref()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u",
                "labels": {"app": "x", "zone": "y"}, "annotations": {"note": "a \"q\"\n\u{1}ü"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "main", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "bare"}]}
        }))
        .unwrap_or_default()
    }

    fn node() -> NodeFacts {
        let allocatable = [("cpu".to_owned(), Quantity("4".to_owned()))].into();
        NodeFacts { name: "node".to_owned(), address: "127.0.0.1".to_owned(), allocatable }
    }

    #[track_caller]
    fn check(path: &str, expect: Result<&str, &str>) {
        let got = field(&pod(), &node(), path);
        assert_eq!(got.as_deref().map_err(String::as_str), expect, "{path}");
    }

    #[test]
    fn fields() {
        check("metadata.name", Ok("p"));
        check("metadata.uid", Ok("u"));
        check("metadata.labels", Ok("app=\"x\"\nzone=\"y\""));
        check("metadata.annotations", Ok("note=\"a \\\"q\\\"\\n\\x01ü\""));
        check("metadata.labels['zone']", Ok("y"));
        check("metadata.labels['none']", Ok(""));
        check("spec.nodeName", Ok("node"));
        check("status.podIP", Ok("127.0.0.1"));
        check("spec.serviceAccountName", Ok("sa"));
        check("metadata.owner", Err("unsupported fieldPath: metadata.owner"));
        check("spec['x']", Err("unsupported fieldPath: spec['x']"));
    }

    #[track_caller]
    fn check_resource(resource_name: &str, container: &str, divisor: Option<&str>, expect: Result<&str, &str>) {
        let selector = ResourceFieldSelector {
            container_name: Some(container.to_owned()),
            divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
            resource: resource_name.to_owned(),
        };
        let got = resource(&pod(), &node(), &selector, None);
        assert_eq!(got.as_deref().map_err(String::as_str), expect, "{resource_name} of {container}");
    }

    #[test]
    fn resources() {
        check_resource("limits.cpu", "main", Some("1m"), Ok("500"));
        check_resource("limits.cpu", "main", None, Ok("1"));
        check_resource("limits.memory", "main", None, Ok("67108864"));
        check_resource("requests.cpu", "main", Some("1m"), Ok("250"));
        check_resource("requests.memory", "main", Some("1Mi"), Ok("64"));
        check_resource("limits.cpu", "bare", None, Ok("4"));
        check_resource("requests.cpu", "bare", None, Ok("0"));
        check_resource("limits.cpu", "ghost", None, Err("container ghost not found"));
        check_resource("cpu", "main", None, Err("unsupported container resource : cpu"));
    }
}
