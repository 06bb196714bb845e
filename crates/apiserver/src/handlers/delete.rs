//! `DELETE` of one object and of a collection: preconditions, grace, propagation, finalizers.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use kubetask_store::{Entry, Expect};
use serde_json::{Map, Value, json};

use super::update::ATTEMPTS;
use super::write::{self, Refused};
use super::{Call, admit, get, list, select};
use crate::object::{self, metadata_mut};
use crate::registry::{CRDS, Resource};
use crate::reply;
use crate::request::options::{DeleteOptions, ListOptions, Propagation};
use crate::request::{Output, Target, body};
use crate::status::{Failure, GroupResource, Result};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What became of an object.
enum Deleted {
    /// It is gone; with its final state.
    Gone(Arc<Entry>),
    /// It is marked, and waits for finalizers or grace.
    Marked(Arc<Entry>),
    /// It would be one of the above.
    Dry(Arc<Entry>, bool),
}

pub(crate) async fn one(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let options = options(call).await?;
    admit::delete(resource, target)?;
    let entry = get::find(call, resource, target)?;
    let warn =
        resource.builtin_kind().is_some_and(|kind| kind.delete.orphans_by_default) && options.propagation.is_none();
    if warn {
        call.warnings.push(ORPHAN_WARNING.to_owned());
    }
    let deleted = delete(call, resource, &target.name, entry, &options).await?;
    answer(call, resource, target, &deleted, output)
}

const ORPHAN_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

async fn options(call: &mut Call) -> Result<DeleteOptions> {
    let raw = call.read_body().await?;
    if raw.is_empty() {
        return DeleteOptions::parse(None, &call.query);
    }
    let media = body::media(&call.parts.headers)?;
    let document = body::decode(raw, media).map_err(Failure::bad_request)?;
    if !document.value.is_object() {
        return Err(Failure::bad_request("json: cannot unmarshal into Go value of type v1.DeleteOptions"));
    }
    DeleteOptions::parse(Some(&document.value), &call.query)
}

fn answer(
    call: &Call,
    resource: &Resource,
    target: &Target,
    deleted: &Deleted,
    output: Output,
) -> Result<Response<Body>> {
    let (entry, gone) = match deleted {
        Deleted::Gone(entry) => (entry, true),
        Deleted::Marked(entry) => (entry, false),
        Deleted::Dry(entry, gone) => (entry, *gone),
    };
    let returns_object = resource.builtin_kind().is_some_and(|kind| kind.delete.returns_object);
    if !gone || returns_object {
        return get::answer(call, resource, entry, StatusCode::OK, output);
    }
    let uid = resource.value(entry)["metadata"]["uid"].take();
    let mut details = Map::new();
    details.insert("name".into(), target.name.as_str().into());
    if !resource.group.is_empty() {
        details.insert("group".into(), resource.group.as_str().into());
    }
    details.insert("kind".into(), resource.plural.as_str().into());
    details.insert("uid".into(), uid);
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(reply::value(StatusCode::OK, &status, Output { shape: crate::request::Shape::Object, ..output }))
}

/// Deletes one entry, or marks it.
async fn delete(
    call: &Call,
    resource: &Arc<Resource>,
    name: &str,
    mut entry: Arc<Entry>,
    options: &DeleteOptions,
) -> Result<Deleted> {
    for _ in 0..ATTEMPTS {
        let live = resource.value(&entry);
        check_preconditions(resource, name, &live, options)?;
        let plan = plan(resource, &live, options);
        if options.dry_run {
            let gone = matches!(plan, Plan::Remove(_));
            return Ok(Deleted::Dry(entry, gone));
        }
        let expect = Expect::Revision(entry.revision);
        let outcome = match plan {
            Plan::Nothing => return Ok(Deleted::Marked(entry)),
            Plan::Remove(object) => {
                write::remove(call, resource, &entry.key, name, expect, write::seal(resource, object)).await.map(
                    |removed| {
                        // The answer shows the object as it was; watchers see the revision of the deletion.
                        if resource.is_core("pods") { Deleted::Gone(removed) } else { Deleted::Gone(entry.clone()) }
                    },
                )
            }
            Plan::Mark(object) => write::put(call, resource, &entry.key, name, expect, write::seal(resource, object))
                .await
                .map(Deleted::Marked),
        };
        match outcome {
            Ok(deleted) => return Ok(deleted),
            Err(Refused::Failure(failure)) => return Err(failure),
            Err(Refused::Raced) => match call.server.store.get(&resource.bucket, &entry.key) {
                Some(newer) => entry = newer,
                None => return Err(Failure::not_found(resource.gr(), name)),
            },
        }
    }
    Err(Failure::modified(resource.gr(), name))
}

pub(super) fn check_preconditions(
    resource: &Resource,
    name: &str,
    live: &Value,
    options: &DeleteOptions,
) -> Result<()> {
    let gk = GroupResource { group: &resource.group, resource: &resource.kind };
    let have = object::meta(live, "uid");
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != have) {
        let what = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({have}). The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(gk, name, &what));
    }
    let have = object::meta(live, "resourceVersion");
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != have) {
        let what = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({have}). The object might have been modified"
        );
        return Err(Failure::conflict(gk, name, &what));
    }
    Ok(())
}

enum Plan {
    /// It is marked already, and nothing changes.
    Nothing,
    Remove(Value),
    Mark(Value),
}

/// What deleting `live` comes to.
fn plan(resource: &Resource, live: &Value, options: &DeleteOptions) -> Plan {
    let mut object = live.clone();
    let builtin = resource.builtin_kind();
    let marked = live["metadata"]["deletionTimestamp"].is_string();
    let finalizers = wanted_finalizers(resource, live, options);
    let changed_finalizers = finalizers != strings(&live["metadata"]["finalizers"]);
    let waits_for_spec = builtin.is_some_and(|kind| kind.delete.spec_finalizers)
        && live["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let grace = builtin.and_then(|kind| kind.grace_period(live, options.grace_period_seconds));
    let graceful = builtin.is_some_and(|kind| kind.delete.graceful);
    set_finalizers(&mut object, &finalizers);
    let meta = metadata_mut(&mut object);
    meta.remove("resourceVersion");

    if graceful {
        let pending = grace.unwrap_or_default();
        if pending > 0 {
            return mark_gracefully(object, live, marked, pending, changed_finalizers);
        }
        if finalizers.is_empty() {
            metadata_mut(&mut object).insert("deletionGracePeriodSeconds".into(), 0.into());
            stamp(&mut object, marked, 0);
            return Plan::Remove(object);
        }
    } else if finalizers.is_empty() && !waits_for_spec {
        return Plan::Remove(object);
    }
    let was_zero = live["metadata"]["deletionGracePeriodSeconds"].as_i64() == Some(0);
    if marked && !changed_finalizers && (!graceful || was_zero) {
        return Plan::Nothing;
    }
    stamp(&mut object, marked, 0);
    // Namespaces and definitions wait for their content, not for a grace period.
    if !waits_for_spec && &*resource.bucket != CRDS {
        metadata_mut(&mut object).insert("deletionGracePeriodSeconds".into(), 0.into());
    }
    if waits_for_spec {
        object["status"]["phase"] = "Terminating".into();
    }
    if &*resource.bucket == CRDS {
        crate::registry::lifecycle::mark_terminating(&mut object);
    } else if resource.is_custom() && !marked {
        raise_generation(&mut object);
    }
    Plan::Mark(object)
}

/// A pod is given time: the deletion timestamp lies in the future, and the node removes it in the end.
fn mark_gracefully(mut object: Value, live: &Value, marked: bool, seconds: i64, changed_finalizers: bool) -> Plan {
    let earlier = live["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if marked && earlier.is_some_and(|earlier| earlier <= seconds) {
        // The grace period can only be shortened.
        return if changed_finalizers { Plan::Mark(object) } else { Plan::Nothing };
    }
    stamp(&mut object, false, seconds);
    metadata_mut(&mut object).insert("deletionGracePeriodSeconds".into(), seconds.into());
    if !marked {
        raise_generation(&mut object);
    }
    Plan::Mark(object)
}

fn stamp(object: &mut Value, marked: bool, seconds: i64) {
    if marked {
        return;
    }
    let at = jiff::Timestamp::now().as_second() + seconds;
    let at = jiff::Timestamp::from_second(at).unwrap_or_default().to_string();
    metadata_mut(object).insert("deletionTimestamp".into(), at.into());
}

fn raise_generation(object: &mut Value) {
    let meta = metadata_mut(object);
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
        meta.insert("generation".into(), (generation + 1).into());
    }
}

/// The finalizers after the propagation policy has added or removed the garbage collector's.
fn wanted_finalizers(resource: &Resource, live: &Value, options: &DeleteOptions) -> Vec<String> {
    let mut out = strings(&live["metadata"]["finalizers"]);
    let orphans_by_default = resource.builtin_kind().is_some_and(|kind| kind.delete.orphans_by_default);
    let is_definition = &*resource.bucket == CRDS;
    let (foreground, orphan) = match options.propagation {
        Some(Propagation::Foreground) => (true, false),
        Some(Propagation::Orphan) => (false, true),
        Some(Propagation::Background) => (false, false),
        // What somebody asked for before stays.
        None if out.iter().any(|f| f == ORPHAN) => (false, true),
        None if out.iter().any(|f| f == FOREGROUND) => (true, false),
        None => (false, orphans_by_default),
    };
    out.retain(|f| f != FOREGROUND && f != ORPHAN);
    if orphan {
        out.push(ORPHAN.to_owned());
    }
    if foreground {
        out.push(FOREGROUND.to_owned());
    }
    let cleanup = crate::registry::lifecycle::FINALIZER;
    if is_definition && !live["metadata"]["deletionTimestamp"].is_string() && !out.iter().any(|f| f == cleanup) {
        out.push(cleanup.to_owned());
    }
    out
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map_or_else(Vec::new, |items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let meta = metadata_mut(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

pub(crate) async fn collection(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let list_options = ListOptions::parse(&call.query, false)?;
    let selection = select::parse(&call.query, resource)?;
    let options = options(call).await?;
    let page = list::page(call, resource, target, &list_options, &selection).await?;
    let mut deletions = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        let name = object::split_key(&entry.key).1.to_owned();
        let (call, options) = (&*call, &options);
        deletions.push(async move { delete(call, resource, &name, entry.clone(), options).await });
    }
    // Together, so that they share the store's commits.
    for outcome in futures::future::join_all(deletions).await {
        match outcome {
            Ok(_) => {}
            // Somebody else deleted it: that is what was wanted.
            Err(failure) if failure.reason() == "NotFound" => {}
            Err(failure) => return Err(failure),
        }
    }
    list::answer(call, resource, page, output)
}

/// Deletes a pod that is evicted.
pub(super) async fn evicted(
    call: &Call,
    pods: &Arc<Resource>,
    name: &str,
    entry: Arc<Entry>,
    options: &DeleteOptions,
) -> Result<()> {
    delete(call, pods, name, entry, options).await.map(|_| ())
}
