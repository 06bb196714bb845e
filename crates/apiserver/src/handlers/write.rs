//! What all writes share: options, complaints of the decoder, field ownership, and the store's answers as failures.

use std::sync::Arc;

use kubetask_kinds::Part;
use kubetask_patch::managed::{self, Updater};
use kubetask_store::{Entry, Expect, Write, WriteError};
use serde_json::Value;

use super::Call;
use crate::object::{self, Unsealed};
use crate::registry::{CRDS, Resource};
use crate::request::body::Document;
use crate::request::options::{FieldValidation, WriteOptions};
use crate::request::{Target, body};
use crate::status::{Failure, Result};
use crate::strategy::{self, Decoded};

/// Largest object, as etcd's limit makes it in Kubernetes.
const OBJECT_LIMIT: usize = 1_500_000;

/// Reads and decodes the object of a create or update.
pub(crate) async fn read_object(call: &mut Call, resource: &Resource, options: &WriteOptions) -> Result<Value> {
    let media = body::media(&call.parts.headers)?;
    let raw = call.read_body().await?;
    let document: Document = body::decode(raw, media).map_err(Failure::bad_request)?;
    let decoded = match strategy::decode(resource, document, media) {
        Ok(decoded) => decoded,
        Err(failure) => return Err(failure),
    };
    complain(call, resource, options, decoded)
}

/// Refuses, warns of or ignores unknown and duplicate fields.
pub(crate) fn complain(
    call: &mut Call,
    resource: &Resource,
    options: &WriteOptions,
    decoded: Decoded,
) -> Result<Value> {
    if !decoded.complaints.is_empty() {
        match options.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => call.warnings.extend(decoded.complaints.iter().cloned()),
            FieldValidation::Strict => {
                let list = decoded.complaints.join(", ");
                return Err(Failure::bad_request(format!(
                    "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {list}",
                    resource.kind, resource.version, resource.kind
                )));
            }
        }
    }
    match decoded.refused {
        Some(failure) => Err(failure),
        None => Ok(decoded.object),
    }
}

/// `metadata.namespace` must be the path's; what is missing is filled in.
pub(crate) fn check_namespace(resource: &Resource, target: &Target, object: &mut Value) -> Result<()> {
    let meta = object::metadata_mut(object);
    if !resource.namespaced {
        meta.remove("namespace");
        return Ok(());
    }
    match meta.get("namespace").and_then(Value::as_str) {
        None | Some("") => {
            meta.insert("namespace".into(), target.namespace.as_str().into());
            Ok(())
        }
        Some(namespace) if namespace == target.namespace => Ok(()),
        Some(_) => Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Records who owns what after a write that is not an apply.
pub(crate) fn track(resource: &Resource, live: Option<&Value>, new: &mut Value, part: Part, manager: &str, now: &str) {
    let updater = Updater {
        manager,
        subresource: subresource(part),
        api_version: &resource.api_version,
        now,
        reset: strategy::reset(resource, part),
    };
    managed::track_update(live, new, &strategy::schema(resource), &updater);
}

/// The subresource's name in managed fields.
pub(crate) fn subresource(part: Part) -> Option<&'static str> {
    match part {
        Part::Main => None,
        Part::Status => Some("status"),
        Part::Finalize => Some("finalize"),
        Part::EphemeralContainers => Some("ephemeralcontainers"),
        Part::Resize => Some("resize"),
    }
}

/// An object ready for the store. Custom resources are stored in the storage version, whatever version they came in.
pub(crate) fn seal(resource: &Resource, object: Value) -> Unsealed {
    Unsealed::new(&resource.stored_prefix, &resource.to_storage(object))
}

/// Writes an object; the entry is durable when this returns.
pub(crate) async fn put(
    call: &Call,
    resource: &Resource,
    key: &str,
    name: &str,
    expect: Expect,
    unsealed: Unsealed,
) -> std::result::Result<Arc<Entry>, Refused> {
    if unsealed.tail().len() > OBJECT_LIMIT {
        return Err(Refused::Failure(request_too_large()));
    }
    let write = Write::put(resource.bucket.clone(), key, expect, move |revision| unsealed.seal(revision));
    send(call, resource, name, write).await
}

/// Deletes an object; `unsealed` is its final state.
pub(crate) async fn remove(
    call: &Call,
    resource: &Resource,
    key: &str,
    name: &str,
    expect: Expect,
    unsealed: Unsealed,
) -> std::result::Result<Arc<Entry>, Refused> {
    let write = Write::delete(resource.bucket.clone(), key, expect, move |revision| unsealed.seal(revision));
    send(call, resource, name, write).await
}

async fn send(call: &Call, resource: &Resource, name: &str, write: Write) -> std::result::Result<Arc<Entry>, Refused> {
    let written = if &*resource.bucket == CRDS {
        // In a task of its own: a client that goes away must not keep the registry from hearing of the write.
        let server = call.server.clone();
        let task = tokio::spawn(async move {
            let written = server.store.write(write).await;
            server.registry.refresh(&server.store);
            written
        });
        task.await.unwrap_or(Err(WriteError::Closed))
    } else {
        call.server.store.write(write).await
    };
    if let (Ok(written), true) = (&written, resource.namespaced) {
        super::admit::quota::changed(&call.server, &written.entry.key);
    }
    written.map(|written| written.entry).map_err(|error| refused(resource, name, error))
}

/// Why the store did not take a write.
pub(crate) enum Refused {
    /// Somebody else was faster; with the object as it is now.
    Raced,
    Failure(Failure),
}

impl Refused {
    /// The failure when there is nothing to be tried again.
    pub(crate) fn into_failure(self, resource: &Resource, name: &str) -> Failure {
        match self {
            Self::Raced => Failure::modified(resource.gr(), name),
            Self::Failure(failure) => failure,
        }
    }
}

fn refused(resource: &Resource, name: &str, error: WriteError) -> Refused {
    let failure = match error {
        WriteError::Exists { current } => {
            let deleted = object::decode(&current)["metadata"]["deletionTimestamp"].is_string();
            Failure::already_exists(resource.gr(), name, deleted)
        }
        WriteError::NotFound | WriteError::Conflict { .. } => return Refused::Raced,
        WriteError::TooLarge { .. } => request_too_large(),
        WriteError::Closed => Failure::too_many_requests("the server is shutting down", 1),
        error @ (WriteError::Aborted(_) | WriteError::Io(_)) => {
            tracing::error!(%error, bucket = %resource.bucket, "a write failed");
            Failure::internal(error)
        }
    };
    Refused::Failure(failure)
}

fn request_too_large() -> Failure {
    Failure::plain_internal("etcdserver: request is too large")
}

/// Takes out owners that are named twice in the same way, and warns of them; `when` says when they were found.
pub(crate) fn dedup_owners(call: &mut Call, object: &mut Value, when: &str) {
    let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else { return };
    let mut twice: Vec<String> = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            twice.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if !twice.is_empty() {
        call.warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}
