//! `PUT`, and the part of every patch after the patched object is known.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use kubetask_kinds::Part;
use kubetask_patch::managed;
use kubetask_schema::field::{Error, Path};
use kubetask_store::{Entry, Expect};
use serde_json::Value;

use super::create::{self, Outcome};
use super::write::{self, Refused};
use super::{Call, admit};
use crate::object::{self, metadata_mut};
use crate::registry::Resource;
use crate::request::Target;
use crate::request::options::WriteOptions;
use crate::status::{Failure, Result};
use crate::strategy;

/// How often a write without a resourceVersion is tried when others write at the same time.
pub(crate) const ATTEMPTS: usize = 20;

pub(crate) async fn handle(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    part: Part,
) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let options = WriteOptions::parse("UpdateOptions", &call.query, call.user_agent(), false)?;
    let mut object = write::read_object(call, resource, &options).await?;
    check_name(&object, target)?;
    write::check_namespace(resource, target, &mut object)?;
    write::dedup_owners(call, &mut object, "");
    let version = object::meta(&object, "resourceVersion").to_owned();
    let precondition = match version.as_str() {
        "" | "0" => None,
        text => Some(text.parse::<u64>().map_err(|_| super::list::bad_version_plain(text))?),
    };
    let key = object::key(resource.namespaced, &target.namespace, &target.name);
    for _ in 0..ATTEMPTS {
        let Some(live) = call.server.store.get(&resource.bucket, &key) else {
            return create_instead(call, resource, target, object, part, &options)
                .await
                .and_then(|outcome| create::answer(call, resource, outcome, StatusCode::CREATED, output));
        };
        let live_value = resource.value(&live);
        check_uid(resource, target, &object, &live_value)?;
        require_version(resource, target, precondition)?;
        if precondition.is_some_and(|version| version != live.revision) {
            return Err(Failure::modified(resource.gr(), &target.name));
        }
        let step = Step { resource, target, part, options: &options, live: &live, live_value: &live_value };
        match finish(call, &step, object.clone(), Ownership::Track).await {
            Ok(outcome) => return create::answer(call, resource, outcome, StatusCode::OK, output),
            Err(Refused::Raced) if precondition.is_none() => {}
            Err(refused) => return Err(refused.into_failure(resource, &target.name)),
        }
    }
    Err(Failure::modified(resource.gr(), &target.name))
}

/// Kinds that overwrite without a resourceVersion are few; the others insist.
fn require_version(resource: &Resource, target: &Target, precondition: Option<u64>) -> Result<()> {
    let unconditional = resource.builtin_kind().is_some_and(|kind| kind.update.unconditional);
    if precondition.is_some() || unconditional {
        return Ok(());
    }
    let path = Path::new("metadata").child("resourceVersion");
    let error = Error::invalid(&path, 0, "must be specified for an update");
    Err(Failure::invalid(resource.gr(), &target.name, &[error]))
}

async fn create_instead(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    object: Value,
    part: Part,
    options: &WriteOptions,
) -> Result<Outcome> {
    let allowed = part == Part::Main && resource.builtin_kind().is_some_and(|kind| kind.update.create_on_update);
    if !allowed {
        return Err(Failure::not_found(resource.gr(), &target.name));
    }
    create::create(call, resource, target, object, options, Ownership::Track).await
}

/// `metadata.name` must be there and be the path's.
pub(crate) fn check_name(object: &Value, target: &Target) -> Result<()> {
    let url = &target.name;
    match object::meta(object, "name") {
        "" => Err(Failure::bad_request(format!(
            "the name of the object ({url} based on URL) was undeterminable: name must be provided"
        ))),
        name if name == url => Ok(()),
        name => Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({url})"
        ))),
    }
}

fn check_uid(resource: &Resource, target: &Target, object: &Value, live: &Value) -> Result<()> {
    let (given, have) = (object::meta(object, "uid"), object::meta(live, "uid"));
    if given.is_empty() || given == have {
        return Ok(());
    }
    let group =
        if resource.group.is_empty() || !resource.is_custom() { String::new() } else { format!("{}/", resource.group) };
    let path =
        if target.namespace.is_empty() { target.name.clone() } else { format!("{}/{}", target.namespace, target.name) };
    let what = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{group}{}/{path}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {have}",
        resource.plural
    );
    Err(Failure::conflict(resource.gr(), &target.name, &what))
}

/// The object that is there, and what is to become of it.
pub(crate) struct Step<'a> {
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) target: &'a Target,
    pub(crate) part: Part,
    pub(crate) options: &'a WriteOptions,
    pub(crate) live: &'a Arc<Entry>,
    pub(crate) live_value: &'a Value,
}

/// Who keeps the managed fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Compare with the live object.
    Track,
    /// An apply has done it.
    Done,
}

/// Takes a decoded object through strategy, validation and storage.
pub(crate) async fn finish(
    call: &mut Call,
    step: &Step<'_>,
    mut object: Value,
    ownership: Ownership,
) -> std::result::Result<Outcome, Refused> {
    let (resource, live) = (step.resource, step.live_value);
    let now = object::now();
    strategy::default(resource, &mut object);
    carry_over(&mut object, live);
    if ownership == Ownership::Track {
        write::track(resource, Some(live), &mut object, step.part, &step.options.field_manager, &now);
    }
    let (store, namespace) = (&call.server.store, &step.target.namespace);
    crate::auth::escalation::check(store, &call.user, resource, namespace, &object, Some(live))
        .map_err(Refused::Failure)?;
    strategy::prepare_update(resource, &mut object, live, step.part);
    admit::update(call, resource, step.target, &mut object, step.part).map_err(Refused::Failure)?;
    let found = strategy::validate_update(resource, &object, live, step.part);
    call.warnings.extend(found.forgiven.iter().map(ToString::to_string));
    if !found.errors.is_empty() {
        return Err(Refused::Failure(strategy::invalid(resource, &object, &found.errors)));
    }
    call.warnings.extend(strategy::warnings(resource, &object, Some(live)));
    admit::standards::check(call, resource, step.target, &object, Some(live), step.part).map_err(Refused::Failure)?;
    let reserved = admit::validate_update(call, resource, step.target, &object, live, step.part);
    let _reservation = reserved.await.map_err(Refused::Failure)?;
    metadata_mut(&mut object).remove("resourceVersion");
    managed::keep_times(live, &mut object);
    let key = &step.live.key;
    let expect = Expect::Revision(step.live.revision);
    if is_finished(resource, &object) {
        // Nothing holds the object any more: this write is its deletion.
        let mut shown = object;
        metadata_mut(&mut shown).insert("resourceVersion".into(), step.live.revision.to_string().into());
        if !step.options.dry_run {
            // Watchers are told of the object as it was stored, still with its finalizers.
            let unsealed = write::seal(resource, live.clone());
            write::remove(call, resource, key, &step.target.name, expect, unsealed).await?;
        }
        return Ok(Outcome::Dry(shown));
    }
    if step.options.dry_run {
        metadata_mut(&mut object).insert("resourceVersion".into(), step.live.revision.to_string().into());
        return Ok(Outcome::Dry(object));
    }
    let unsealed = write::seal(resource, object);
    if object::same_but_revision(&step.live.bytes, &resource.stored_prefix, &unsealed) {
        return Ok(Outcome::Stored(step.live.clone()));
    }
    write::put(call, resource, key, &step.target.name, expect, unsealed).await.map(Outcome::Stored)
}

/// What a client cannot change is taken from the live object.
fn carry_over(object: &mut Value, live: &Value) {
    let live = &live["metadata"];
    let meta = metadata_mut(object);
    for name in ["uid", "creationTimestamp"] {
        // A patch that names another uid is refused by validation.
        let keep = name == "uid" && meta.get(name).and_then(Value::as_str).is_some_and(|given| !given.is_empty());
        if !keep && let Some(value) = live.get(name) {
            meta.insert(name.into(), value.clone());
        }
    }
    // A deletion goes on; who asks for one this way is refused by validation.
    if let Some(at) = live.get("deletionTimestamp") {
        meta.insert("deletionTimestamp".into(), at.clone());
    }
    if let Some(grace) = live.get("deletionGracePeriodSeconds") {
        meta.entry("deletionGracePeriodSeconds").or_insert_with(|| grace.clone());
    }
    match live.get("generation") {
        Some(value) => meta.insert("generation".into(), value.clone()),
        None => meta.remove("generation"),
    };
    meta.remove("selfLink");
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_finished(resource: &Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let waits_for_spec = resource.builtin_kind().is_some_and(|kind| kind.delete.spec_finalizers);
    meta["deletionTimestamp"].is_string()
        && empty(&meta["finalizers"])
        && (!waits_for_spec || empty(&object["spec"]["finalizers"]))
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
}
