//! The quality-of-service class that a pod's resources give it.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let containers: Vec<&Container> = spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let value = |container: &Container, limits: bool, name: &str| {
        let resources = container.resources.as_ref()?;
        let list = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
        list?.get(name).and_then(quantity::milli).filter(|value| *value > 0)
    };
    let names = ["cpu", "memory"];
    let any = containers.iter().any(|container| {
        names.iter().any(|name| value(container, true, name).is_some() || value(container, false, name).is_some())
    });
    let full = containers.iter().all(|container| {
        names.iter().all(|name| {
            let limit = value(container, true, name);
            limit.is_some() && value(container, false, name).is_none_or(|request| Some(request) == limit)
        })
    });
    match (any, full) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(resources: &[Value], expect: &str) {
        let containers: Vec<Value> =
            resources.iter().map(|resources| json!({"name": "c", "resources": resources})).collect();
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).unwrap();
        assert_eq!(class(&pod), expect, "{resources:?}");
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        check(&[json!({})], "BestEffort");
        check(std::slice::from_ref(&full), "Guaranteed");
        check(&[full.clone(), json!({})], "Burstable");
        check(&[json!({"limits": {"cpu": "1", "memory": "1Gi"}})], "Guaranteed");
        check(&[json!({"limits": {"cpu": "1"}})], "Burstable");
        check(&[json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}})], "Burstable");
        check(&[json!({"requests": {"cpu": "0"}})], "BestEffort");
    }
}
