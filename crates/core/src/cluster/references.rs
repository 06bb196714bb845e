//! The ConfigMaps and Secrets that a pod refers to.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// What is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    /// A Secret with credentials for a registry.
    PullSecret,
}

/// Shows every name of a ConfigMap or Secret in a pod to `visit`, which may change it.
pub(super) fn visit(pod: &mut PodSpec, visit: &mut dyn FnMut(Kind, &mut String)) {
    for container in pod.init_containers.iter_mut().flatten().chain(&mut pod.containers) {
        environment(container, visit);
    }
    for volume in pod.volumes.iter_mut().flatten() {
        if let Some(source) = &mut volume.config_map {
            visit(Kind::ConfigMap, &mut source.name);
        }
        if let Some(name) = volume.secret.as_mut().and_then(|source| source.secret_name.as_mut()) {
            visit(Kind::Secret, name);
        }
        let projected = volume.projected.iter_mut().filter_map(|source| source.sources.as_mut()).flatten();
        for source in projected {
            if let Some(source) = &mut source.config_map {
                visit(Kind::ConfigMap, &mut source.name);
            }
            if let Some(source) = &mut source.secret {
                visit(Kind::Secret, &mut source.name);
            }
        }
    }
    for secret in pod.image_pull_secrets.iter_mut().flatten() {
        visit(Kind::PullSecret, &mut secret.name);
    }
}

fn environment(container: &mut Container, visit: &mut dyn FnMut(Kind, &mut String)) {
    for from in container.env_from.iter_mut().flatten() {
        if let Some(source) = &mut from.config_map_ref {
            visit(Kind::ConfigMap, &mut source.name);
        }
        if let Some(source) = &mut from.secret_ref {
            visit(Kind::Secret, &mut source.name);
        }
    }
    for source in container.env.iter_mut().flatten().filter_map(|variable| variable.value_from.as_mut()) {
        if let Some(source) = &mut source.config_map_key_ref {
            visit(Kind::ConfigMap, &mut source.name);
        }
        if let Some(source) = &mut source.secret_key_ref {
            visit(Kind::Secret, &mut source.name);
        }
    }
}
