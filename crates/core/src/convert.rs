//! The older API's WorkspaceConfig becomes an Agent.

use kubetask_api::API_VERSION;
use serde_json::{Map, Value, json};

/// Why an object cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// It is no object, or has no kind.
    #[error("not a Kubernetes object: kind is missing")]
    NoKind,
    /// A field has a form that is not known.
    #[error("{field}: {what}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong with it.
        what: String,
    },
}

/// A converted object, and what a person should look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The object.
    pub object: Value,
    /// Decisions that were made and may want another.
    pub notes: Vec<String>,
}

/// Fields of a WorkspaceConfig's spec that mean the same in an Agent's.
const SAME: &[&str] = &[
    "agentImage",
    "toolsImage",
    "command",
    "humanInTheLoop",
    "defaultContexts",
    "podLabels",
    "scheduling",
    "serviceAccountName",
];

/// Converts a WorkspaceConfig to an Agent; in Tasks, Batches and BatchRuns `workspaceConfigRef` becomes `agentRef`.
/// Everything else is given back as it is.
pub fn convert(object: &Value) -> Result<Converted, ConvertError> {
    let kind = object.get("kind").and_then(Value::as_str).ok_or(ConvertError::NoKind)?;
    match kind {
        "WorkspaceConfig" => workspace_config(object),
        "Task" | "Batch" => {
            let mut object = object.clone();
            let notes = object.get_mut("spec").map(rename_reference).unwrap_or_default();
            Ok(Converted { object, notes })
        }
        "BatchRun" | "CronTask" => {
            let mut object = object.clone();
            let path = if kind == "BatchRun" { "/spec/batchSpec" } else { "/spec/taskTemplate/spec" };
            let notes = object.pointer_mut(path).map(rename_reference).unwrap_or_default();
            Ok(Converted { object, notes })
        }
        _ => Ok(Converted { object: object.clone(), notes: Vec::new() }),
    }
}

fn rename_reference(spec: &mut Value) -> Vec<String> {
    let Some(map) = spec.as_object_mut() else { return Vec::new() };
    match map.remove("workspaceConfigRef") {
        Some(reference) if !map.contains_key("agentRef") => {
            map.insert("agentRef".to_owned(), reference);
            Vec::new()
        }
        Some(_) => vec!["workspaceConfigRef was dropped, because agentRef is set too".to_owned()],
        None => Vec::new(),
    }
}

fn workspace_config(object: &Value) -> Result<Converted, ConvertError> {
    let mut notes = Vec::new();
    let empty = Map::new();
    let old = match object.get("spec") {
        Some(Value::Object(spec)) => spec,
        None => &empty,
        Some(_) => return Err(ConvertError::Field { field: "spec".to_owned(), what: "must be a mapping".to_owned() }),
    };
    let mut spec = Map::new();
    for (field, value) in old {
        if SAME.contains(&field.as_str()) {
            spec.insert(field.clone(), value.clone());
        } else if field == "credentials" {
            spec.insert(field.clone(), credentials(value, &mut notes)?);
        } else {
            notes.push(format!("spec.{field} is not known and was left out"));
        }
    }
    if !spec.contains_key("serviceAccountName") {
        spec.insert("serviceAccountName".to_owned(), json!("default"));
        notes.push("serviceAccountName was set to \"default\"; an Agent must name one".to_owned());
    }
    let mut out = json!({"apiVersion": API_VERSION, "kind": "Agent", "spec": spec});
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = object.get("metadata").and_then(|m| m.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if let Value::Object(map) = &mut out {
        map.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Ok(Converted { object: out, notes })
}

fn credentials(value: &Value, notes: &mut Vec<String>) -> Result<Value, ConvertError> {
    let bad = |index: Option<usize>, what: &str| ConvertError::Field {
        field: index.map_or_else(|| "spec.credentials".to_owned(), |i| format!("spec.credentials[{i}]")),
        what: what.to_owned(),
    };
    let list = value.as_array().ok_or_else(|| bad(None, "must be a list"))?;
    let mut out = Vec::with_capacity(list.len());
    for (index, old) in list.iter().enumerate() {
        let secret = old.pointer("/secretRef/name").and_then(Value::as_str);
        let secret = secret.ok_or_else(|| bad(Some(index), "secretRef.name is required"))?;
        let mut key = old.pointer("/secretRef/key").and_then(Value::as_str).map(str::to_owned);
        // Older: `env: {name: TOKEN}` and `file: {path: …}`; newer: `env: TOKEN` and `mountPath: …`.
        let env = old.get("env").and_then(|e| e.as_str().or_else(|| e.get("name")?.as_str()));
        let path = old.get("mountPath").and_then(Value::as_str);
        let path = path.or_else(|| old.pointer("/file/path").and_then(Value::as_str));
        let mode = old.get("fileMode").or_else(|| old.pointer("/file/mode"));
        if let (Some(env), None) = (env, &key) {
            notes.push(format!(
                "spec.credentials[{index}]: the key of Secret \"{secret}\" was not named; \"{env}\" is assumed, as its \
                 variable is called"
            ));
            key = Some(env.to_owned());
        }
        let name = old.get("name").and_then(Value::as_str).map_or_else(|| format!("{secret}-{index}"), str::to_owned);
        let mut new = json!({"name": name, "secretRef": {"name": secret}});
        if let Some(key) = key {
            new["secretRef"]["key"] = json!(key);
        }
        if let Some(env) = env {
            new["env"] = json!(env);
        }
        if let Some(path) = path {
            new["mountPath"] = json!(path);
        }
        if let Some(mode) = mode {
            new["fileMode"] = mode.clone();
        }
        out.push(new);
    }
    Ok(Value::Array(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_older_api() {
        let old = json!({
            "apiVersion": "kubetask.io/v1alpha1", "kind": "WorkspaceConfig",
            "metadata": {"name": "default", "resourceVersion": "7"},
            "spec": {
                "agentImage": "quay.io/myorg/claude-agent:v2.0",
                "toolsImage": "quay.io/myorg/dev-tools:latest",
                "credentials": [{"secretRef": {"name": "github-token"}, "env": {"name": "GITHUB_TOKEN"}}],
                "scheduling": {"nodeSelector": {"workload-type": "ai-agent"}},
            },
        });
        let converted = convert(&old).unwrap();
        assert_eq!(
            converted.object,
            json!({
                "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
                "spec": {
                    "agentImage": "quay.io/myorg/claude-agent:v2.0",
                    "toolsImage": "quay.io/myorg/dev-tools:latest",
                    "credentials": [{"name": "github-token-0", "secretRef": {"name": "github-token", "key": "GITHUB_TOKEN"}, "env": "GITHUB_TOKEN"}],
                    "scheduling": {"nodeSelector": {"workload-type": "ai-agent"}},
                    "serviceAccountName": "default",
                },
            })
        );
        assert_eq!(converted.notes.len(), 2);
        serde_json::from_value::<kubetask_api::Agent>(converted.object).unwrap();
    }

    #[test]
    fn references_are_renamed() {
        let old = json!({"kind": "Task", "spec": {"workspaceConfigRef": "x", "contexts": []}});
        assert_eq!(convert(&old).unwrap().object, json!({"kind": "Task", "spec": {"agentRef": "x", "contexts": []}}));
        let run = json!({"kind": "BatchRun", "spec": {"batchSpec": {"workspaceConfigRef": "x"}}});
        assert_eq!(convert(&run).unwrap().object["spec"]["batchSpec"], json!({"agentRef": "x"}));
        let other = json!({"kind": "ConfigMap", "data": {}});
        assert_eq!(convert(&other).unwrap().object, other);
    }

    #[test]
    fn what_cannot_be_converted_is_said() {
        assert_eq!(convert(&json!({})), Err(ConvertError::NoKind));
        let bad = json!({"kind": "WorkspaceConfig", "spec": {"credentials": [{"env": "X"}]}});
        assert_eq!(convert(&bad).unwrap_err().to_string(), "spec.credentials[0]: secretRef.name is required");
        let unknown = json!({"kind": "WorkspaceConfig", "spec": {"novel": 1}});
        assert!(convert(&unknown).unwrap().notes[0].contains("spec.novel"));
    }
}
