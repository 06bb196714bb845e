//! `docs/api.md`: every field of the six kinds.
//!
//! Objects are sections of their own, named by where they first appear; the same object elsewhere is a link to it.
//! Kubernetes' own types are links to its documentation.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::constraints;

const HEAD: &str = "\
# API reference

Generated from the types; the server enforces all of it. Fields without a default may be left out unless they are
required. How the kinds work together is told in the [user guide](user-guide.md); what conditions and events say is in
[reasons](reasons.md).

";

/// Fields whose type is Kubernetes' own.
const KUBERNETES: &[(&str, &str)] = &[
    ("affinity", "affinity-v1-core"),
    ("conditions", "condition-v1-meta"),
    ("emptyDir", "emptydirvolumesource-v1-core"),
    ("env", "envvar-v1-core"),
    ("hostPath", "hostpathvolumesource-v1-core"),
    ("imagePullSecrets", "localobjectreference-v1-core"),
    ("persistentVolumeClaim", "persistentvolumeclaimvolumesource-v1-core"),
    ("podSecurityContext", "podsecuritycontext-v1-core"),
    ("resources", "resourcerequirements-v1-core"),
    ("securityContext", "securitycontext-v1-core"),
    ("tolerations", "toleration-v1-core"),
];

/// The whole text.
pub(super) fn render() -> String {
    let mut out = HEAD.to_owned();
    let crds = kubetask_api::crds();
    for crd in &crds {
        let kind = &crd.spec.names.kind;
        writeln!(out, "* [{kind}](#{})", kind.to_lowercase()).unwrap();
    }
    let mut sections = Sections::default();
    for crd in &crds {
        sections.kind(crd, &mut out);
    }
    out
}

#[derive(Default)]
struct Sections {
    /// Sections by what they describe.
    known: BTreeMap<String, String>,
    /// Sections that were named and are still to be written.
    open: VecDeque<(String, Value)>,
}

impl Sections {
    fn kind(&mut self, crd: &CustomResourceDefinition, out: &mut String) {
        let names = &crd.spec.names;
        let version = &crd.spec.versions[0];
        let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let short: Vec<String> =
            names.short_names.iter().flatten().chain([&names.plural]).map(|name| format!("`{name}`")).collect();
        let categories: Vec<String> = names.categories.iter().flatten().map(|c| format!("`{c}`")).collect();
        write!(
            out,
            "\n## {}\n\n{}\n\n`apiVersion: {}/{}` · `kubectl get` {} · category {}\n",
            names.kind,
            sentence(schema["description"].as_str().unwrap_or_default()),
            crd.spec.group,
            version.name,
            short.join(", "),
            categories.join(", "),
        )
        .unwrap();
        let columns: Vec<String> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|column| match column.priority {
                Some(priority) if priority > 0 => format!("{} (`-o wide`)", column.name),
                _ => column.name.clone(),
            })
            .collect();
        if !columns.is_empty() {
            write!(out, "\nColumns: {}.\n", columns.join(", ")).unwrap();
        }
        rules(&schema, out);
        for part in ["spec", "status"] {
            if schema["properties"][part].is_object() {
                self.open.push_back((format!("{}.{part}", names.kind), schema["properties"][part].clone()));
            }
        }
        while let Some((name, schema)) = self.open.pop_front() {
            self.section(&name, &schema, out);
        }
    }

    fn section(&mut self, name: &str, schema: &Value, out: &mut String) {
        write!(out, "\n### {name}\n\n").unwrap();
        if let Some(description) = schema["description"].as_str() {
            write!(out, "{}\n\n", sentence(description)).unwrap();
        }
        out.push_str("| field | type | |\n|---|---|---|\n");
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let type_ = self.type_of(&format!("{name}.{field}"), field, schema);
            let mut text = sentence(schema["description"].as_str().unwrap_or_default());
            if required.contains(&field.as_str()) {
                text = format!("**Required.** {text}");
            }
            let mut demands = constraints::of(schema);
            if let Some(default) = schema.get("default") {
                demands.push(format!("default `{default}`"));
            }
            if let Some(first) = demands.first_mut() {
                let mut letters = first.chars();
                *first = letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default();
                write!(text, " {}.", demands.join(", ")).unwrap();
            }
            // The rules of an object stand in its section.
            if !schema["properties"].is_object() {
                messages(schema).iter().for_each(|message| write!(text, " {message}").unwrap());
            }
            writeln!(out, "| `{field}` | {type_} | {} |", text.trim().replace('|', "\\|")).unwrap();
        }
        rules(schema, out);
    }

    /// The type of a field; an object of ours is a link to its section, which is written later if it is new.
    fn type_of(&mut self, path: &str, field: &str, schema: &Value) -> String {
        if schema["items"]["type"] == "array" {
            return format!("list of {}", self.type_of(&format!("{path}[]"), field, &schema["items"]));
        }
        let (prefix, suffix, inner) = match schema["type"].as_str() {
            Some("array") => ("list of ", "[]", &schema["items"]),
            _ => ("", "", schema),
        };
        if !inner["properties"].is_object() {
            return constraints::type_of(schema);
        }
        if let Some((_, anchor)) = KUBERNETES.iter().find(|(name, _)| *name == field) {
            let name = anchor.split('-').next().unwrap_or_default();
            let page = "https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/";
            return format!("{prefix}[Kubernetes' {name}]({page}#{anchor})");
        }
        let mut bare = inner.clone();
        bare.as_object_mut().unwrap().remove("description");
        let name = match self.known.get(&bare.to_string()) {
            Some(name) => name.clone(),
            None => {
                let name = format!("{path}{suffix}");
                self.known.insert(bare.to_string(), name.clone());
                self.open.push_back((name.clone(), inner.clone()));
                name
            }
        };
        let anchor: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        format!("{prefix}[{name}](#{anchor})")
    }
}

/// The CEL rules of a schema, as sentences.
fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array();
    let said = rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap());
    said.map(|message| match message.split_once(' ') {
        // A field's name stays as it is.
        Some((field, _)) if schema["properties"][field].is_object() => format!("`{field}`{}.", &message[field.len()..]),
        _ => sentence(message),
    })
    .collect()
}

fn rules(schema: &Value, out: &mut String) {
    let messages = messages(schema);
    if !messages.is_empty() {
        out.push('\n');
    }
    for message in messages {
        writeln!(out, "* {message}").unwrap();
    }
}

/// One line that begins with a capital letter and ends with a full stop.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = line.chars();
    let Some(first) = letters.next() else { return line };
    // A field's name stays as it is.
    let is_name = line.split_whitespace().next().is_some_and(|word| word.chars().any(|c| c.is_uppercase() || c == '.'));
    let start: String = if is_name { first.to_string() } else { first.to_uppercase().collect() };
    let stop = if line.ends_with(['.', '!', '`']) { "" } else { "." };
    format!("{start}{}{stop}", letters.as_str())
}

#[test]
fn the_reference_names_every_field() {
    let text = render();
    let mut missing = Vec::new();
    fn walk(schema: &Value, path: &str, text: &str, missing: &mut Vec<String>) {
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            if !text.contains(&format!("| `{field}` |")) {
                missing.push(format!("{path}.{field}"));
            }
            if KUBERNETES.iter().any(|(name, _)| name == field) {
                continue;
            }
            walk(inner, &format!("{path}.{field}"), text, missing);
            walk(&inner["items"], &format!("{path}.{field}[]"), text, missing);
        }
    }
    for crd in kubetask_api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let properties = &schema["openAPIV3Schema"]["properties"];
        walk(&properties["spec"], &crd.spec.names.kind, &text, &mut missing);
        walk(&properties["status"], &crd.spec.names.kind, &text, &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_link_within_the_reference_leads_somewhere() {
    let text = render();
    let anchors: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|title| title.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect())
        .collect();
    for link in text.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert_eq!(anchors.iter().filter(|known| *known == anchor).count(), 1, "{anchor}");
    }
}

#[test]
fn sentences() {
    assert_eq!(sentence("set exactly one"), "Set exactly one.");
    assert_eq!(sentence("spec.prompt cannot be changed"), "spec.prompt cannot be changed.");
    assert_eq!(sentence("filePath needs\n a source."), "filePath needs a source.");
}
