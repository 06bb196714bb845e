//! CustomResourceDefinitions as served resources: parsed once per change, schemas and rules compiled once per version.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use kubetask_schema::CompiledSchema;
use kubetask_schema::model::Schema;
use serde_json::{Value, json};

use super::{Resource, Source};

/// Verbs of custom resources, in the order in which discovery lists them.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// One CustomResourceDefinition.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) revision: u64,
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) established: bool,
    generation: i64,
    /// Objects stored before this revision were defaulted by an older schema.
    schema_since: u64,
    resources: Vec<Arc<Resource>>,
}

/// One version of a definition, with what is compiled from it.
#[derive(Debug)]
pub(crate) struct Version {
    /// The version as it stands in the definition.
    pub(crate) raw: Value,
    /// The schema, structural.
    pub(crate) schema: Arc<Schema>,
    compiled: OnceLock<CompiledSchema>,
    pub(crate) status: bool,
    pub(crate) scale: Option<Scale>,
    pub(crate) columns: Vec<PrinterColumn>,
    /// JSON paths such as `.spec.color`.
    pub(crate) selectable_fields: Vec<String>,
    /// Names of all versions of the definition.
    pub(crate) siblings: Vec<String>,
    /// Name of the version in which objects are stored.
    pub(crate) storage_version: String,
    /// Text of the `Warning` header of a deprecated version.
    pub(crate) deprecation: Option<String>,
    /// The definition is being deleted: nothing new is created.
    pub(crate) terminating: bool,
}

/// Paths of `/scale`.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    pub(crate) label_selector: Option<String>,
}

/// One entry of `additionalPrinterColumns`.
#[derive(Debug, Clone)]
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) type_: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: crate::print::jsonpath::Path,
}

impl Version {
    /// The schema as written, without the implied parts.
    pub(crate) fn raw_schema(&self) -> &Value {
        &self.raw["schema"]["openAPIV3Schema"]
    }

    /// The schema with its rules compiled, on first use.
    pub(crate) fn compiled(&self) -> &CompiledSchema {
        self.compiled.get_or_init(|| CompiledSchema::new(self.schema.clone()))
    }
}

impl Definition {
    pub(crate) fn new(object: &Value, revision: u64, previous: Option<&Self>) -> Self {
        let spec = &object["spec"];
        let group = text(&spec["group"]);
        let established = condition(object, "Established");
        let terminating = object["metadata"]["deletionTimestamp"].is_string();
        let storage = list(&spec["versions"]).iter().find(|v| v["storage"] == json!(true)).map(|v| text(&v["name"]));
        let storage = storage.unwrap_or_default();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        let schema_since = match previous {
            Some(previous) if previous.generation == generation => previous.schema_since,
            _ => revision,
        };
        let resources = list(&spec["versions"])
            .iter()
            .filter(|v| v["served"] == json!(true))
            .map(|version| {
                let known = previous.and_then(|p| p.reusable(version, &spec["names"]["kind"], &storage, terminating));
                Arc::new(resource(object, version, &storage, schema_since, terminating, known))
            })
            .collect();
        let name = text(&object["metadata"]["name"]);
        Self { revision, name, group, established, generation, schema_since, resources }
    }

    /// A version that did not change keeps what was compiled from it.
    fn reusable(&self, version: &Value, kind: &Value, storage: &str, terminating: bool) -> Option<Arc<Version>> {
        let resource = self.resources.iter().find(|r| r.version == text(&version["name"]) && r.kind == text(kind))?;
        let known = resource.custom()?;
        let same = known.raw == *version && known.terminating == terminating && known.storage_version == storage;
        same.then(|| known.clone())
    }

    /// What is served: nothing before the definition is established.
    pub(crate) fn served(&self) -> &[Arc<Resource>] {
        if self.established { &self.resources } else { &[] }
    }

    /// All versions that are marked served, established or not.
    pub(crate) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }
}

fn resource(
    object: &Value,
    version: &Value,
    storage: &str,
    schema_since: u64,
    terminating: bool,
    known: Option<Arc<Version>>,
) -> Resource {
    let spec = &object["spec"];
    // What was accepted is served; before that, what is asked for.
    let accepted = &object["status"]["acceptedNames"];
    let names = if accepted["plural"].is_string() { accepted } else { &spec["names"] };
    let group = text(&spec["group"]);
    let name = text(&version["name"]);
    let kind = text(&names["kind"]);
    let plural = text(&names["plural"]);
    let api_version = format!("{group}/{name}");
    let siblings = list(&spec["versions"]).iter().map(|v| text(&v["name"])).collect();
    let version =
        known.unwrap_or_else(|| Arc::new(compile(version, siblings, &kind, &api_version, storage, terminating)));
    Resource {
        prefix: crate::object::prefix(&kind, &api_version),
        stored_prefix: crate::object::prefix(&kind, &format!("{group}/{storage}")),
        list_kind: text(&names["listKind"]),
        singular: text(&names["singular"]),
        short_names: list(&names["shortNames"]).iter().map(text).collect(),
        categories: list(&names["categories"]).iter().map(text).collect(),
        namespaced: spec["scope"] == json!("Namespaced"),
        verbs: VERBS.to_vec(),
        bucket: format!("{group}/{plural}").into(),
        schema_since,
        version: name,
        group,
        api_version,
        kind,
        plural,
        source: Source::Custom(version),
    }
}

fn compile(
    version: &Value,
    siblings: Vec<String>,
    kind: &str,
    api_version: &str,
    storage: &str,
    terminating: bool,
) -> Version {
    let schema = kubetask_schema::parse::structural(&version["schema"]["openAPIV3Schema"]).unwrap_or_else(|errors| {
        // Creation refuses such definitions; one that is stored nevertheless serves its objects unvalidated.
        tracing::error!(kind, ?errors, "stored schema is not structural");
        Schema { preserve_unknown_fields: true, ..Schema::default() }
    });
    let scale = &version["subresources"]["scale"];
    let deprecation = (version["deprecated"] == json!(true)).then(|| match version["deprecationWarning"].as_str() {
        Some(warning) => warning.to_owned(),
        None => format!("{api_version} {kind} is deprecated"),
    });
    Version {
        raw: version.clone(),
        schema: Arc::new(schema),
        compiled: OnceLock::new(),
        status: version["subresources"]["status"].is_object(),
        scale: scale.is_object().then(|| Scale {
            spec_replicas: text(&scale["specReplicasPath"]),
            status_replicas: text(&scale["statusReplicasPath"]),
            label_selector: scale["labelSelectorPath"].as_str().filter(|p| !p.is_empty()).map(str::to_owned),
        }),
        columns: printer_columns(version),
        selectable_fields: list(&version["selectableFields"]).iter().map(|f| text(&f["jsonPath"])).collect(),
        siblings,
        storage_version: storage.to_owned(),
        deprecation,
        terminating,
    }
}

fn printer_columns(version: &Value) -> Vec<PrinterColumn> {
    let columns = list(&version["additionalPrinterColumns"]);
    if columns.is_empty() {
        return vec![PrinterColumn {
            name: "Age".into(),
            type_: "date".into(),
            format: String::new(),
            description: kubetask_kinds::table::AGE_DESCRIPTION.into(),
            priority: 0,
            path: crate::print::jsonpath::Path::parse(".metadata.creationTimestamp").unwrap_or_default(),
        }];
    }
    columns
        .iter()
        .map(|column| {
            let json_path = text(&column["jsonPath"]);
            let description = match text(&column["description"]) {
                empty if empty.is_empty() => {
                    format!("Custom resource definition column (in JSONPath format): {json_path}")
                }
                given => given,
            };
            PrinterColumn {
                name: text(&column["name"]),
                type_: text(&column["type"]),
                format: text(&column["format"]),
                description,
                priority: column["priority"].as_i64().unwrap_or_default(),
                path: crate::print::jsonpath::Path::parse(&json_path).unwrap_or_default(),
            }
        })
        .collect()
}

/// Whether a condition of a definition is true.
pub(crate) fn condition(object: &Value, type_: &str) -> bool {
    list(&object["status"]["conditions"]).iter().any(|c| c["type"] == json!(type_) && c["status"] == json!("True"))
}

/// Order of versions: GA above beta above alpha, then by number; other names come last, alphabetically.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// `(stability, major, minor)` of `v1`, `v2beta3`.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let split = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..split].parse().ok()?;
    match &rest[split..] {
        "" => Some((2, major, 0)),
        tail => {
            let (stability, minor) = match (tail.strip_prefix("alpha"), tail.strip_prefix("beta")) {
                (Some(minor), _) => (0, minor),
                (_, Some(minor)) => (1, minor),
                _ => return None,
            };
            Some((stability, major, minor.parse().ok()?))
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_kubernetes_prefers_them() {
        let mut versions = ["v1alpha1", "foo10", "v10", "v1", "v11beta2", "v3beta1", "v12alpha1", "v2", "foo1"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v1alpha1", "foo1", "foo10"]);
    }
}
