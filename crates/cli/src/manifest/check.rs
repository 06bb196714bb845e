//! A dry run of everything before anything is created.
//!
//! The server is the one judge: each object is sent with `dryRun=All` and `fieldValidation=Strict`, and what it says of
//! fields is turned back into lines of the file.

use std::collections::BTreeSet;

use http::Method;
use kube::Client;
use kube::core::Status;
use serde_json::Value;

use super::Manifest;
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::resources::{self, Resource};

/// A manifest with the resource it belongs to and the namespace it goes to.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The object and where it comes from.
    pub manifest: Manifest,
    /// Its resource.
    pub resource: Resource,
    /// Its namespace; empty for cluster-wide objects.
    pub namespace: String,
}

impl Checked {
    /// Path of the collection on the server.
    #[must_use]
    pub fn collection_path(&self) -> String {
        collection_path(&self.resource, &self.namespace)
    }

    /// `task.kubetask.io/name`.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.manifest.metadata("name");
        let name = if name.is_empty() { self.manifest.metadata("generateName") } else { name };
        self.resource.object_name(name)
    }
}

/// Path of a collection on the server.
#[must_use]
pub fn collection_path(resource: &Resource, namespace: &str) -> String {
    let api = &resource.api;
    let root = if api.group.is_empty() {
        format!("/api/{}", api.version)
    } else {
        format!("/apis/{}/{}", api.group, api.version)
    };
    if resource.namespaced {
        format!("{root}/namespaces/{namespace}/{}", api.plural)
    } else {
        format!("{root}/{}", api.plural)
    }
}

/// Finds the resource and namespace of every manifest, and asks the server what is wrong with any of them.
///
/// # Errors
/// Everything that is wrong, a line each, with file, line and field; exit code 2. Nothing was created.
pub async fn check(
    client: &Client,
    manifests: Vec<Manifest>,
    namespace: &str,
    namespace_given: bool,
    manager: &str,
) -> CommandResult<Vec<Checked>> {
    let mut problems = Vec::new();
    let mut checked = Vec::new();
    for mut manifest in manifests {
        match resources::by_kind(client, manifest.api_version(), manifest.kind()).await {
            Ok(resource) => {
                let own = manifest.metadata("namespace").to_owned();
                if resource.namespaced && namespace_given && !own.is_empty() && own != namespace {
                    problems.push(format!(
                        "{}: metadata.namespace: is {own:?}, but the command line says {namespace:?}",
                        manifest.locate("metadata.namespace")
                    ));
                }
                let target = match (resource.namespaced, own.is_empty()) {
                    (false, _) => String::new(),
                    (true, true) => namespace.to_owned(),
                    (true, false) => own,
                };
                if resource.namespaced
                    && let Some(metadata) = manifest.object.get_mut("metadata").and_then(Value::as_object_mut)
                {
                    metadata.insert("namespace".to_owned(), Value::String(target.clone()));
                }
                checked.push(Checked { manifest, resource, namespace: target });
            }
            Err(error) if error.code == exit_codes::USAGE => {
                let at = manifest.locate("kind");
                problems.extend(error.lines.into_iter().map(|line| format!("{at}: kind: {line}")));
            }
            Err(error) => return Err(error),
        }
    }
    let created: BTreeSet<String> = checked
        .iter()
        .filter(|c| c.manifest.kind() == "Namespace")
        .map(|c| c.manifest.metadata("name").to_owned())
        .collect();
    for item in &checked {
        if let Err(status) = dry_run(client, item, manager).await? {
            // A namespace that this very manifest creates is not there yet, and neither are its objects' checks.
            let missing_namespace = status.code == 404 && created.contains(&item.namespace);
            if !missing_namespace {
                problems.extend(explain(item, &status));
            }
        }
    }
    if problems.is_empty() {
        Ok(checked)
    } else {
        Err(CommandError::of(exit_codes::USAGE, problems).hint("nothing was created"))
    }
}

async fn dry_run(client: &Client, item: &Checked, manager: &str) -> CommandResult<Result<(), Box<Status>>> {
    send(client, item, manager, true).await.map(|answer| answer.map(|_| ()))
}

/// Sends an object: server-side apply by name, or create where only `generateName` is given.
///
/// # Errors
/// Outer: the server cannot be reached. Inner: what the server answered instead.
pub async fn send(
    client: &Client,
    item: &Checked,
    manager: &str,
    dry_run: bool,
) -> CommandResult<Result<Value, Box<Status>>> {
    let name = item.manifest.metadata("name");
    let mut query = format!("fieldManager={manager}&fieldValidation=Strict");
    if dry_run {
        query.push_str("&dryRun=All");
    }
    let path = item.collection_path();
    let (method, uri, content_type) = if name.is_empty() {
        (Method::POST, format!("{path}?{query}"), "application/json")
    } else {
        let name = encode(name);
        (Method::PATCH, format!("{path}/{name}?{query}&force=true"), "application/apply-patch+yaml")
    };
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(serde_json::to_vec(&item.manifest.object)?)
        .map_err(|e| CommandError::usage(format!("{}: {e}", item.title())))?;
    match client.request::<Value>(request).await {
        Ok(value) => Ok(Ok(value)),
        Err(kube::Error::Api(status)) => Ok(Err(status)),
        Err(error) => Err(error.into()),
    }
}

/// Percent-encodes what may not stand in a path segment or a query's value. Names with such characters are wrong, but the
/// server says so.
#[must_use]
pub fn encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// The server's complaint as lines with file, line and field.
fn explain(item: &Checked, status: &Status) -> Vec<String> {
    let manifest = &item.manifest;
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let lines: Vec<String> = causes
        .iter()
        // Kubernetes' remark that some rules did not run is no mistake of the user.
        .filter(|cause| !cause.message.contains("some validation rules were not checked"))
        .map(|cause| {
            if cause.field.is_empty() || cause.field == "<nil>" {
                format!("{}: {}", manifest.locate(""), cause.message)
            } else {
                format!("{}: {}: {}", manifest.locate(&cause.field), cause.field, cause.message)
            }
        })
        .collect();
    if !lines.is_empty() {
        return lines;
    }
    let unknown = quoted_after(&status.message, "unknown field ");
    if !unknown.is_empty() {
        return unknown
            .into_iter()
            .map(|field| format!("{}: {field}: there is no such field", manifest.locate(&field)))
            .collect();
    }
    let typed = typed_problems(&status.message);
    if !typed.is_empty() {
        return typed
            .into_iter()
            .map(|(field, reason)| format!("{}: {field}: {reason}", manifest.locate(&field)))
            .collect();
    }
    vec![format!("{}: {}: {}", manifest.locate(""), item.title(), status.message)]
}

/// Every quoted word that follows `marker`.
fn quoted_after(message: &str, marker: &str) -> Vec<String> {
    message
        .split(marker)
        .skip(1)
        .filter_map(|rest| rest.strip_prefix('"')?.split('"').next().map(str::to_owned))
        .collect()
}

/// What server-side apply says of fields that do not fit the schema:
/// `failed to create typed patch object (…): .spec.a: field not declared in schema`, or `…: errors:` and a line each.
fn typed_problems(message: &str) -> Vec<(String, String)> {
    let problems = message.split_once("typed patch object (").and_then(|(_, rest)| rest.split_once("): "));
    let Some((_, problems)) = problems else { return Vec::new() };
    problems
        .trim_start_matches("errors:")
        .lines()
        .filter_map(|line| {
            let (field, reason) = line.trim().strip_prefix('.')?.split_once(": ")?;
            let reason = match reason.split_once(", got ") {
                _ if reason == "field not declared in schema" => "there is no such field",
                // What follows is how Go prints the value.
                Some((expected, _)) => expected,
                None => reason,
            };
            Some((field.to_owned(), reason.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_messages() {
        let strict = r#"strict decoding error: unknown field "spec.foo", unknown field "spec.contexts[0].bar""#;
        assert_eq!(quoted_after(strict, "unknown field "), ["spec.foo", "spec.contexts[0].bar"]);
        let pair = |field: &str, reason: &str| (field.to_owned(), reason.to_owned());
        let head = "failed to create typed patch object (ns/x; demo/v1, Kind=W): ";
        let one = format!("{head}.spec.nope: field not declared in schema");
        assert_eq!(typed_problems(&one), [pair("spec.nope", "there is no such field")]);
        let two = format!(
            "{head}errors:\n  .spec.a: expected string, got &value.valueUnstructured{{Value:1}}\n  .spec.l[0].b: field not declared in schema"
        );
        assert_eq!(
            typed_problems(&two),
            [pair("spec.a", "expected string"), pair("spec.l[0].b", "there is no such field")]
        );
        assert!(typed_problems("something else").is_empty());
    }
}
