//! `PATCH` in its four ways: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! The patch is laid over the live object, and the result goes the way of an update. A patch that names no
//! resourceVersion is tried again when somebody else was faster.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use kubetask_kinds::Part;
use kubetask_patch::apply::{self, Applier, ApplyError};
use kubetask_patch::{json, merge, strategic};
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::Call;
use super::create::{self, Outcome};
use super::update::{self, ATTEMPTS, Ownership, Step};
use super::write::{self, Refused};
use crate::object;
use crate::registry::Resource;
use crate::request::body::{self, Document, Media};
use crate::request::options::{FieldValidation, WriteOptions};
use crate::request::{Output, Target};
use crate::status::{Cause, Failure, GroupResource, Result};
use crate::strategy;

/// The ways to patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Json,
    Merge,
    Strategic,
    Apply,
}

fn way(content_type: &str, resource: &Resource) -> Result<Way> {
    match content_type {
        "application/json-patch+json" => Ok(Way::Json),
        "application/merge-patch+json" => Ok(Way::Merge),
        "application/strategic-merge-patch+json" if !resource.is_custom() => Ok(Way::Strategic),
        "application/apply-patch+yaml" => Ok(Way::Apply),
        _ if resource.is_custom() => Err(Failure::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            false,
        )),
        _ => Err(Failure::unsupported_media_type("415: Unsupported Media Type", true)),
    }
}

pub(crate) async fn handle(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    part: Part,
) -> Result<Response<Body>> {
    let way = way(body::content_type(&call.parts.headers), resource)?;
    let output = call.output(resource, false)?;
    let options = WriteOptions::parse("PatchOptions", &call.query, call.user_agent(), way == Way::Apply)?;
    let raw = call.read_body().await?;
    let patch = Patch::parse(way, raw)?;
    if way == Way::Apply {
        check_config(resource, target, &patch.document.value)?;
    }
    run(call, resource, target, part, &options, &patch, output).await
}

/// A decoded patch.
struct Patch {
    way: Way,
    document: Document,
}

impl Patch {
    fn parse(way: Way, raw: Bytes) -> Result<Self> {
        let media = if way == Way::Apply { Media::Yaml } else { Media::Json };
        let document = body::decode(raw, media).map_err(|error| match way {
            Way::Apply => Failure::bad_request(format!("error decoding YAML: {error}")),
            _ => Failure::bad_request(error),
        })?;
        Ok(Self { way, document })
    }

    /// The patched object, not yet decoded.
    fn lay_over(&self, resource: &Resource, live: Value) -> Result<Value> {
        let patch = &self.document.value;
        match self.way {
            Way::Json => json::apply(live, patch).map_err(|error| match error {
                json::Error::Decode(_) => Failure::bad_request(error.to_string()),
                json::Error::TooManyOperations(_) => Failure::request_too_large(error.to_string()),
                json::Error::Failed(_) => Failure::unprocessable(),
            }),
            Way::Merge => merge::apply(live, patch).map_err(|error| Failure::bad_request(error.to_string())),
            Way::Strategic => strategic::apply(live, patch, &strategy::schema(resource)).map_err(|error| match error {
                strategic::Error::BadRequest(text) => Failure::bad_request(text),
                strategic::Error::Unprocessable(_) => Failure::unprocessable(),
                strategic::Error::Internal(text) => Failure::plain_internal(text),
            }),
            Way::Apply => Err(Failure::internal("an apply is not laid over")),
        }
    }
}

async fn run(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    part: Part,
    options: &WriteOptions,
    patch: &Patch,
    output: Output,
) -> Result<Response<Body>> {
    let key = object::key(resource.namespaced, &target.namespace, &target.name);
    for _ in 0..ATTEMPTS {
        let warned = call.warnings.len();
        let Some(live) = call.server.store.get(&resource.bucket, &key) else {
            if patch.way != Way::Apply || part != Part::Main {
                return Err(Failure::not_found(resource.gr(), &target.name));
            }
            let outcome = create_by_apply(call, resource, target, options, patch).await;
            match outcome {
                // Somebody else created it in the meantime: lay the configuration over theirs.
                Err(failure) if failure.reason() == "AlreadyExists" => continue,
                outcome => return create::answer(call, resource, outcome?, StatusCode::CREATED, output),
            }
        };
        let live_value = resource.value(&live);
        let step = Step { resource, target, part, options, live: &live, live_value: &live_value };
        let (outcome, pinned) = match patch.way {
            Way::Apply => (apply_over(call, &step, patch).await, false),
            _ => patch_over(call, &step, patch).await,
        };
        match outcome {
            Ok(outcome) => return create::answer(call, resource, outcome, StatusCode::OK, output),
            Err(Refused::Raced) if !pinned => call.warnings.truncate(warned),
            Err(refused) => return Err(refused.into_failure(resource, &target.name)),
        }
    }
    Err(Failure::modified(resource.gr(), &target.name))
}

/// Lays a patch over the live object; the flag says whether the patch named the version it is meant for.
async fn patch_over(call: &mut Call, step: &Step<'_>, patch: &Patch) -> (std::result::Result<Outcome, Refused>, bool) {
    let object = match patched(call, step, patch) {
        Ok(object) => object,
        Err(failure) => return (Err(Refused::Failure(failure)), true),
    };
    let named = patch.way != Way::Json && patch.document.value["metadata"]["resourceVersion"].is_string();
    (update::finish(call, step, object, Ownership::Track).await, named)
}

fn patched(call: &mut Call, step: &Step<'_>, patch: &Patch) -> Result<Value> {
    let (resource, target) = (step.resource, step.target);
    let raw = patch.lay_over(resource, step.live_value.clone())?;
    let decoded = strategy::decode_value(resource, raw).map_err(|failure| invalid_patch(patch, failure.message()))?;
    if let Some(failure) = decoded.refused {
        // Another version than this one is refused by validation.
        let version = decoded.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if version.is_empty() {
            return Err(Failure::internal("Object 'apiVersion' is missing in 'object has no apiVersion field'"));
        }
        if version.split('/').count() > 2 {
            return Err(failure);
        }
    }
    let mut complaints: Vec<String> =
        patch.document.duplicates.iter().map(|path| format!("duplicate field {}", crate::text::quote(path))).collect();
    complaints.extend(decoded.complaints);
    if !complaints.is_empty() {
        match step.options.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => call.warnings.extend(complaints),
            FieldValidation::Strict => {
                return Err(invalid_patch(patch, &format!("strict decoding error: {}", complaints.join(", "))));
            }
        }
    }
    let mut object = decoded.object;
    update::check_name(&object, target)?;
    write::check_namespace(resource, target, &mut object)?;
    write::dedup_owners(call, &mut object, " after mutating admission happens");
    let version = object::meta(&object, "resourceVersion");
    if !version.is_empty() && version != object::meta(step.live_value, "resourceVersion") {
        return Err(match version.parse::<u64>() {
            Ok(_) => Failure::modified(resource.gr(), &target.name),
            Err(_) => super::list::bad_version_plain(version),
        });
    }
    Ok(object)
}

/// 422 whose cause is the patch itself.
fn invalid_patch(patch: &Patch, why: &str) -> Failure {
    let shown = match patch.way {
        Way::Json => String::from_utf8_lossy(&patch.document.raw).into_owned(),
        _ => go_map(&patch.document.value),
    };
    let error = Error::invalid(&Path::new("patch"), shown, why);
    Failure::invalid(GroupResource { group: "", resource: "" }, "", &[error])
}

/// A value as Go prints a map.
fn go_map(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_map(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(go_map).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// The configuration of an apply must be of the right kind and name, before anything else is looked at.
fn check_config(resource: &Resource, target: &Target, config: &Value) -> Result<()> {
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let same_group = api_version.rsplit_once('/').map_or("", |(group, _)| group) == resource.group;
    if kind != resource.kind || api_version.is_empty() || !same_group {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(Failure::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
    }
    let name = object::meta(config, "name");
    if !name.is_empty() && name != target.name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

fn apply_failure(error: &ApplyError) -> Failure {
    match error {
        ApplyError::Conflicts(conflicts) => {
            let cause = |conflict: &kubetask_patch::Conflict| Cause {
                reason: "FieldManagerConflict".into(),
                message: conflict.message(),
                field: conflict.path.clone(),
            };
            Failure::apply_conflict(error.to_string(), conflicts.iter().map(cause).collect())
        }
        ApplyError::BadRequest(text) => Failure::bad_request(text.clone()),
        ApplyError::Undeclared(text) | ApplyError::Invalid(text) => Failure::plain_internal(text.clone()),
    }
}

fn merged(
    resource: &Resource,
    target: &Target,
    part: Part,
    options: &WriteOptions,
    live: Option<&Value>,
    config: &Value,
) -> Result<apply::Applied> {
    let mut config = config.clone();
    write::check_namespace(resource, target, &mut config)?;
    let meta = object::metadata_mut(&mut config);
    meta.entry("name").or_insert_with(|| target.name.as_str().into());
    let now = object::now();
    let applier = Applier {
        manager: &options.field_manager,
        subresource: write::subresource(part),
        force: options.force.unwrap_or(false),
        api_version: &resource.api_version,
        now: &now,
        reset: strategy::reset(resource, part),
    };
    apply::apply(live, &config, &strategy::schema(resource), &applier).map_err(|error| apply_failure(&error))
}

async fn create_by_apply(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    options: &WriteOptions,
    patch: &Patch,
) -> Result<Outcome> {
    let config = &patch.document.value;
    let applied = merged(resource, target, Part::Main, options, None, config)?;
    update::check_name(config, target)?;
    let decoded = strategy::decode_value(resource, applied.object)?;
    let mut object = write::complain(call, resource, options, decoded)?;
    let uid = object::meta(&object, "uid");
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Failure::conflict(resource.gr(), &target.name, &why));
    }
    object::metadata_mut(&mut object).remove("resourceVersion");
    create::create(call, resource, target, object, options, Ownership::Done).await
}

async fn apply_over(call: &mut Call, step: &Step<'_>, patch: &Patch) -> std::result::Result<Outcome, Refused> {
    let resource = step.resource;
    let object = apply_object(call, step, patch).map_err(Refused::Failure)?;
    match object {
        None if step.options.dry_run => Ok(Outcome::Dry(resource.value(step.live))),
        None => Ok(Outcome::Stored(step.live.clone())),
        Some(object) => update::finish(call, step, object, Ownership::Done).await,
    }
}

/// The object after an apply; `None` when nothing changes.
fn apply_object(call: &mut Call, step: &Step<'_>, patch: &Patch) -> Result<Option<Value>> {
    let (resource, target) = (step.resource, step.target);
    let config = &patch.document.value;
    let version = object::meta(config, "resourceVersion");
    if !version.is_empty() && version != object::meta(step.live_value, "resourceVersion") {
        return Err(Failure::modified(resource.gr(), &target.name));
    }
    let applied = merged(resource, target, step.part, step.options, Some(step.live_value), config)?;
    if !applied.changed {
        return Ok(None);
    }
    let decoded = strategy::decode_value(resource, applied.object)?;
    write::complain(call, resource, step.options, decoded).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_print_as_in_go() {
        let value = json!({"data": {"z": "1"}, "other": {}, "list": [1, "a"], "null": null});
        assert_eq!(go_map(&value), "map[data:map[z:1] list:[1 a] null:<nil> other:map[]]");
    }
}
