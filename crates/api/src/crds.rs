//! The six CRDs, generated from the types.
//!
//! schemars and kube give a schema; [`crds`] makes it what Kubernetes wants in a CRD: no `nullable`, no `$ref`, only
//! known formats, list types, and the rule that a Task's spec stays as it is once its Job exists.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps,
};
use kube::CustomResourceExt;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::agent::AgentStatus;
use crate::batchrun::BatchRunStatus;
use crate::crontask::CronTaskStatus;
use crate::task::TaskStatus;
use crate::{
    Agent, AgentSpec, Batch, BatchRun, BatchRunSpec, BatchSpec, CronTask, CronTaskSpec, KubeTaskConfig,
    KubeTaskConfigSpec, Task, TaskSpec,
};

/// The CRDs of all kinds.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        with_schema::<TaskSpec>(Task::crd(), Some(schema_of::<TaskStatus>()), &task_rules()),
        with_schema::<CronTaskSpec>(CronTask::crd(), Some(schema_of::<CronTaskStatus>()), &[]),
        with_schema::<AgentSpec>(Agent::crd(), Some(schema_of::<AgentStatus>()), &[]),
        with_schema::<KubeTaskConfigSpec>(KubeTaskConfig::crd(), None, &[]),
        with_schema::<BatchSpec>(Batch::crd(), None, &[]),
        with_schema::<BatchRunSpec>(BatchRun::crd(), Some(schema_of::<BatchRunStatus>()), &[]),
    ]
}

/// The same as JSON documents, with whole numbers where the typed schema has floats.
pub fn crds_json() -> Vec<Value> {
    let documents = crds().into_iter().filter_map(|crd| serde_json::to_value(&crd).ok());
    let whole = |mut value: Value| {
        whole_numbers(&mut value);
        value
    };
    documents.map(whole).collect()
}

/// The same as one YAML stream, ready for `kubectl apply -f -`.
pub fn crds_yaml() -> String {
    let mut out = String::new();
    for value in crds_json() {
        let Ok(yaml) = serde_saphyr::to_string(&value) else { continue };
        out.push_str("---\n");
        out.push_str(&yaml);
    }
    out
}

/// The typed schema keeps bounds as floats; people expect `minimum: 1`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64()
                && number.is_f64()
                && float.fract() == 0.0
                && float.abs() < 1e15
            {
                // In range by the check above.
                #[expect(clippy::cast_possible_truncation, reason = "checked above")]
                let whole = float as i64;
                *value = json!(whole);
            }
        }
        _ => {}
    }
}

/// Once the Job exists, a Task's spec stays as it is, except what steers the Job.
fn task_rules() -> Vec<Value> {
    ["contexts", "prompt", "agentRef", "humanInTheLoop", "timeoutSeconds", "retries"]
        .into_iter()
        .map(|field| {
            json!({
                "rule": format!(
                    "!has(oldSelf.status) || !has(oldSelf.status.jobName) || \
                     (has(self.spec.{field}) == has(oldSelf.spec.{field}) && \
                     (!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field}))"
                ),
                "message": format!(
                    "spec.{field} cannot be changed once the Job exists (only suspend, stop and priority can); create another Task"
                ),
                "reason": "FieldValueForbidden",
                "fieldPath": format!(".spec.{field}"),
            })
        })
        .collect()
}

/// Puts our own schema in place of the derived one.
fn with_schema<Spec: JsonSchema>(
    mut crd: CustomResourceDefinition,
    status: Option<Value>,
    rules: &[Value],
) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let description = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref())
            .and_then(|s| s.description.clone())
            .unwrap_or_default();
        let mut properties = Map::new();
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert("metadata".to_owned(), json!({"type": "object"}));
        properties.insert("spec".to_owned(), schema_of::<Spec>());
        if let Some(status) = &status {
            properties.insert("status".to_owned(), status.clone());
        }
        let mut root = json!({
            "description": description,
            "type": "object",
            "required": ["spec"],
            "properties": properties,
        });
        if !rules.is_empty() {
            root["x-kubernetes-validations"] = Value::Array(rules.to_vec());
        }
        let schema: Option<JSONSchemaProps> = serde_json::from_value(root).ok();
        version.schema = Some(CustomResourceValidation { open_api_v3_schema: schema });
    }
    crd
}

/// The structural schema of a type.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    structural(&mut schema);
    schema
}

/// Formats the API server knows; it warns about others.
const FORMATS: &[&str] = &["int32", "int64", "float", "double", "date-time", "byte"];

/// Rewrites what schemars says into what a structural schema may say.
fn structural(schema: &mut Value) {
    let Value::Object(map) = schema else {
        return;
    };
    unwrap_option(map);
    unwrap_enum(map);
    for key in ["$schema", "title", "nullable", "examples", "readOnly"] {
        map.remove(key);
    }
    if map.get("format").and_then(Value::as_str).is_some_and(|f| !FORMATS.contains(&f)) {
        map.remove("format");
    }
    // A default of "nothing" is no default: `has()` in rules must see what the user wrote.
    if matches!(map.get("default"), Some(Value::Null)) || map.get("default").is_some_and(is_empty) {
        map.remove("default");
    }
    // A structural schema has either properties or additionalProperties.
    if map.contains_key("properties") {
        map.remove("additionalProperties");
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.remove("type");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            structural(inner);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// `Option<T>` is `T` that may be absent, never null.
fn unwrap_option(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get("type")
        && let Some(type_) = types.iter().find(|t| t.as_str() != Some("null")).cloned()
    {
        map.insert("type".to_owned(), type_);
    }
    for key in ["anyOf", "allOf"] {
        let Some(Value::Array(alternatives)) = map.get(key) else { continue };
        let mut real = alternatives.iter().filter(|a| a.get("type") != Some(&json!("null")));
        let (Some(Value::Object(inner)), None) = (real.next().cloned(), real.next()) else { continue };
        map.remove(key);
        for (key, value) in inner {
            map.entry(key).or_insert(value);
        }
    }
}

/// An enum with documented variants is a list of words; what they mean goes into the description.
fn unwrap_enum(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.get("oneOf").cloned() else {
        return;
    };
    let mut words = Vec::new();
    for variant in &variants {
        match (variant.get("const"), variant.get("enum").and_then(Value::as_array)) {
            (Some(word), _) => words.push(word.clone()),
            (None, Some(list)) => words.extend(list.iter().cloned()),
            (None, None) => return,
        }
    }
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), Value::Array(words));
}
