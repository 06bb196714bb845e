//! `POST` to a collection.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use kubetask_kinds::Part;
use kubetask_store::{Entry, Expect};
use serde_json::Value;

use super::update::Ownership;
use super::write::{self, Refused};
use super::{Call, admit, get};
use crate::object::{self, metadata_mut};
use crate::registry::{CRDS, Resource, lifecycle};
use crate::request::options::WriteOptions;
use crate::request::{Output, Target};
use crate::status::{Failure, Result};
use crate::strategy;

/// Characters of generated name suffixes: no vowels, nothing that looks alike.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED_BASE: usize = 63 - SUFFIX_LENGTH;
const ATTEMPTS: usize = 8;

pub(crate) async fn handle(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let options = WriteOptions::parse("CreateOptions", &call.query, call.user_agent(), false)?;
    let mut object = write::read_object(call, resource, &options).await?;
    if !target.name.is_empty() && object::meta(&object, "name").is_empty() {
        metadata_mut(&mut object).insert("name".into(), target.name.as_str().into());
    }
    write::dedup_owners(call, &mut object, "");
    let created = create(call, resource, target, object, &options, Ownership::Track).await?;
    answer(call, resource, created, StatusCode::CREATED, output)
}

/// A created or updated object: stored, or (dry run) only what would be stored.
pub(crate) enum Outcome {
    Stored(Arc<Entry>),
    Dry(Value),
}

/// The answer to a write.
pub(crate) fn answer(
    call: &Call,
    resource: &Resource,
    outcome: Outcome,
    code: StatusCode,
    output: Output,
) -> Result<Response<Body>> {
    match outcome {
        Outcome::Stored(entry) => get::answer(call, resource, &entry, code, output),
        Outcome::Dry(object) => get::shaped(call, resource, object, code, output),
    }
}

/// Creates a decoded object.
pub(crate) async fn create(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    mut object: Value,
    options: &WriteOptions,
    ownership: Ownership,
) -> Result<Outcome> {
    let now = object::now();
    write::check_namespace(resource, target, &mut object)?;
    check_new(&mut object, options.dry_run)?;
    admit::namespace(call, resource, target, object::meta(&object, "name"))?;
    if resource.custom().is_some_and(|version| version.terminating) {
        return Err(Failure::method_not_allowed());
    }
    strategy::default(resource, &mut object);
    admit::create(call, resource, target, &mut object)?;
    crate::auth::escalation::check(&call.server.store, &call.user, resource, &target.namespace, &object, None)?;
    let generated = fill_metadata(&mut object, &now)?;
    if ownership == Ownership::Track {
        write::track(resource, None, &mut object, Part::Main, &options.field_manager, &now);
    }
    strategy::prepare_create(resource, &mut object);
    let errors = strategy::validate_create(resource, &object);
    if !errors.is_empty() {
        return Err(strategy::invalid(resource, &object, &errors));
    }
    admit::standards::check(call, resource, target, &object, None, Part::Main)?;
    // Held until the object is stored.
    let reservation = admit::validate(call, resource, target, &object).await?;
    call.warnings.extend(strategy::warnings(resource, &object, None));
    let outcome = store(call, resource, target, object, options, generated).await?;
    if reservation.is_some() && matches!(outcome, Outcome::Stored(_)) {
        // Whoever looks next finds it counted.
        admit::quota::count(&call.server, &target.namespace).await;
    }
    if let (Outcome::Stored(entry), CRDS) = (&outcome, &*resource.bucket) {
        establish(call, resource, entry).await;
    }
    Ok(outcome)
}

/// Establishes a new definition, so that what it defines is served before the answer is sent. If that fails, the
/// controller will do it.
async fn establish(call: &Call, resource: &Arc<Resource>, entry: &Arc<Entry>) {
    let live = object::decode(entry);
    let mut object = live.clone();
    let now = object::now();
    if !lifecycle::establish(&mut object, &call.server.registry.snapshot(), &now) {
        return;
    }
    write::track(resource, Some(&live), &mut object, Part::Status, "kube-apiserver", &now);
    metadata_mut(&mut object).remove("resourceVersion");
    let expect = Expect::Revision(entry.revision);
    let unsealed = write::seal(resource, object);
    if write::put(call, resource, &entry.key, &entry.key, expect, unsealed).await.is_err() {
        tracing::debug!(name = %entry.key, "the definition was changed before it was established");
    }
}

/// Stores a finished new object, trying further names if a generated one is taken.
pub(crate) async fn store(
    call: &Call,
    resource: &Resource,
    target: &Target,
    mut object: Value,
    options: &WriteOptions,
    generated: bool,
) -> Result<Outcome> {
    for attempt in 1.. {
        let name = object::meta(&object, "name").to_owned();
        let key = object::key(resource.namespaced, &target.namespace, &name);
        if options.dry_run {
            if call.server.store.get(&resource.bucket, &key).is_some() {
                return Err(Failure::already_exists(resource.gr(), &name, false));
            }
            return Ok(Outcome::Dry(object));
        }
        let unsealed = write::seal(resource, if generated { object.clone() } else { std::mem::take(&mut object) });
        match write::put(call, resource, &key, &name, Expect::Absent, unsealed).await {
            Ok(entry) => return Ok(Outcome::Stored(entry)),
            Err(Refused::Failure(failure)) if generated && failure.code() == 409 && attempt < ATTEMPTS => {
                let base = object::meta(&object, "generateName").to_owned();
                metadata_mut(&mut object).insert("name".into(), generate_name(&base).into());
            }
            Err(refused) => return Err(refused.into_failure(resource, &name)),
        }
    }
    Err(Failure::internal("no free name was found"))
}

/// A new object has no version. It is the storage that refuses one, and a dry run, which does not come there, keeps it.
fn check_new(object: &mut Value, dry_run: bool) -> Result<()> {
    match object::meta(object, "resourceVersion") {
        version if dry_run && !version.is_empty() => {}
        "" | "0" => drop(metadata_mut(object).remove("resourceVersion")),
        _ => return Err(Failure::plain_internal("resourceVersion should not be set on objects to be created")),
    }
    Ok(())
}

/// Fills in what the server decides; says whether the name was generated.
fn fill_metadata(object: &mut Value, now: &str) -> Result<bool> {
    let meta = metadata_mut(object);
    for server_side in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta.remove(server_side);
    }
    meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".into(), now.into());
    let empty = meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty();
    let base = meta.get("generateName").and_then(Value::as_str).unwrap_or_default();
    if empty && !base.is_empty() {
        let name = generate_name(base);
        meta.insert("name".into(), name.into());
        return Ok(true);
    }
    Ok(false)
}

fn generate_name(base: &str) -> String {
    use rand::RngExt as _;
    let mut rng = rand::rng();
    let mut name: String = base.chars().take(MAX_GENERATED_BASE).collect();
    name.extend((0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())])));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names() {
        let name = generate_name("gen-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("gen-"));
        assert_eq!(generate_name(&"x".repeat(100)).len(), 63);
    }
}
