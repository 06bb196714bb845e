//! From text to objects: what every Kubernetes manifest must have, checked where the line is still known.

use kubetask_core::cron::{Schedule, ScheduleError};
use kubetask_yaml::{Document, ErrorKind, Limits};
use serde_json::Value;

use super::{Manifest, source};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;

/// Reads everything that the `-f` arguments name.
///
/// # Errors
/// Everything that is wrong, a line each, with file and line; exit code 2.
pub fn load(names: &[String]) -> CommandResult<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        for source in source::read(name)? {
            let before = manifests.len();
            match kubetask_yaml::read_all(&source.text, Limits::default()) {
                Ok(documents) => {
                    for document in documents {
                        add(&source, document, &mut manifests, &mut problems);
                    }
                    if manifests.len() == before && problems.is_empty() {
                        problems.push(format!("{}: there is no object in it", source.origin));
                    }
                }
                Err(e) => problems.push(format!("{}:{}:{}: {}", source.origin, e.line, e.column, wording(&e.kind))),
            }
        }
    }
    if problems.is_empty() { Ok(manifests) } else { Err(CommandError::of(exit_codes::USAGE, problems)) }
}

fn wording(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Syntax(text) => format!("not YAML: {text}"),
        other => other.to_string(),
    }
}

fn add(source: &source::Source, document: Document, manifests: &mut Vec<Manifest>, problems: &mut Vec<String>) {
    let Document { value, start, positions, duplicates } = document;
    let here = format!("{}:{}:{}", source.origin, start.line, start.column);
    for (field, at) in &duplicates {
        problems.push(format!("{}:{}:{}: {field}: the field is there twice", source.origin, at.line, at.column));
    }
    let Value::Object(members) = &value else {
        let what = match &value {
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            _ => "a single value",
        };
        problems.push(format!("{here}: expected an object with apiVersion, kind and metadata, found {what}"));
        return;
    };
    for required in ["apiVersion", "kind"] {
        match members.get(required) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::Null) | None => problems.push(format!("{here}: {required}: the field is missing")),
            Some(_) => problems.push(format!("{here}: {required}: must be a text")),
        }
    }
    if members.get("kind").and_then(Value::as_str) == Some("List") && members.get("items").is_some_and(Value::is_array)
    {
        add_list(source, value, start, &positions, manifests, problems);
        return;
    }
    if members.get("metadata").is_some_and(|m| !m.is_object() && !m.is_null()) {
        problems.push(format!("{here}: metadata: must be a map"));
        return;
    }
    let named = ["name", "generateName"].iter().any(|key| {
        value.pointer(&format!("/metadata/{key}")).is_some_and(|v| v.as_str().is_some_and(|s| !s.is_empty()))
    });
    if !named {
        problems.push(format!("{here}: metadata.name: the field is missing"));
    }
    let mut manifest = Manifest { origin: source.origin.clone(), object: value, start, positions };
    problems.extend(schedule_problem(&manifest));
    if let Err(problem) = super::relative::resolve(&mut manifest, source.base.as_deref()) {
        problems.push(problem);
    }
    manifests.push(manifest);
}

/// A schedule that cannot be read. The server takes any text; the operator would say so only later, in the status.
fn schedule_problem(manifest: &Manifest) -> Option<String> {
    if !manifest.is("CronTask") {
        return None;
    }
    let text = |member: &str| manifest.object.pointer(&format!("/spec/{member}")).and_then(Value::as_str);
    let error = Schedule::parse(text("schedule")?, text("timeZone")).err()?;
    let field = match error {
        ScheduleError::TimeZone { .. } => "spec.timeZone",
        ScheduleError::Expression { .. } => "spec.schedule",
    };
    Some(format!("{}: {field}: {error}", manifest.locate(field)))
}

/// A `List` as `kubectl get -o yaml` prints it.
fn add_list(
    source: &source::Source,
    value: Value,
    start: kubetask_yaml::Position,
    positions: &kubetask_yaml::Positions,
    manifests: &mut Vec<Manifest>,
    problems: &mut Vec<String>,
) {
    let Value::Object(mut members) = value else { return };
    let Some(Value::Array(items)) = members.remove("items") else { return };
    for (index, item) in items.into_iter().enumerate() {
        let at = positions.find(&format!("items[{index}]")).unwrap_or(start);
        let positions = positions.below(&format!("items[{index}]"));
        add(source, Document { value: item, start: at, positions, duplicates: Vec::new() }, manifests, problems);
    }
}
