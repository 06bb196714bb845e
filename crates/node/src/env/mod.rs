//! What a container's environment and command become: every source of `env` and `envFrom`, and `$(NAME)` references.
//!
//! Main function: [`resolve`]. Pure: ConfigMaps and Secrets were fetched before.

pub(crate) mod downward;
pub(crate) mod expand;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use crate::objects::Fetched;
use downward::NodeFacts;
use expand::expand;

/// What a container is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The environment, sorted by name.
    pub(crate) env: Vec<(String, String)>,
    /// `command` with references replaced.
    pub(crate) command: Vec<String>,
    /// `args` with references replaced.
    pub(crate) args: Vec<String>,
}

/// The environment and command of a container.
///
/// # Errors
/// The kubelet's words for what is missing; the container then waits with `CreateContainerConfigError`.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    fetched: &Fetched,
    node: &NodeFacts,
) -> Result<Resolved, String> {
    let mut env = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &source.config_map_ref {
            match fetched.config_map(&source.name) {
                Ok(map) => {
                    env.extend(map.data.iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), value.clone())))
                }
                Err(missing) if source.optional != Some(true) => return Err(missing),
                Err(_) => {}
            }
        }
        if let Some(source) = &source.secret_ref {
            match fetched.secret(&source.name) {
                Ok(secret) => env.extend(
                    secret.data.iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), lossy(&value.0))),
                ),
                Err(missing) if source.optional != Some(true) => return Err(missing),
                Err(_) => {}
            }
        }
    }
    env.retain(|name, _| is_env_name(name));
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| env.get(name).cloned())),
            (_, Some(source)) => from_source(pod, container, source, fetched, node)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(var.name.clone(), value);
        }
    }
    let words = |words: &Option<Vec<String>>| {
        words.iter().flatten().map(|word| expand(word, |name| env.get(name).cloned())).collect::<Vec<_>>()
    };
    let (command, args) = (words(&container.command), words(&container.args));
    Ok(Resolved { command, args, env: env.into_iter().collect() })
}

/// The value of one `valueFrom`; `None` where an optional one is absent: the variable is then not set at all.
fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    fetched: &Fetched,
    node: &NodeFacts,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.field_ref {
        return downward::field(pod, node, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return downward::resource(pod, node, reference, Some(container)).map(Some);
    }
    let (value, optional) = if let Some(reference) = &source.config_map_key_ref {
        let (name, key) = (&reference.name, &reference.key);
        let value = fetched.config_map(name).and_then(|map| {
            let value = map.data.as_ref().and_then(|data| data.get(key)).cloned();
            value.ok_or_else(|| format!("couldn't find key {key} in ConfigMap {namespace}/{name}"))
        });
        (value, reference.optional)
    } else if let Some(reference) = &source.secret_key_ref {
        let (name, key) = (&reference.name, &reference.key);
        let value = fetched.secret(name).and_then(|secret| {
            let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|value| lossy(&value.0));
            value.ok_or_else(|| format!("couldn't find key {key} in Secret {namespace}/{name}"))
        });
        (value, reference.optional)
    } else {
        (Err("environment variables from files are not supported by this node".to_owned()), None)
    };
    match value {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional == Some(true) => Ok(None),
        Err(missing) => Err(missing),
    }
}

/// An environment holds text; bytes that are not UTF-8 cannot be passed on as they are.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names that a process environment can hold (what Kubernetes allows since 1.30).
fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=')
}

#[cfg(test)]
mod tests;
