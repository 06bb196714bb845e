//! `GET` of one object.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use kubetask_store::Entry;
use serde_json::{Value, json};

use super::Call;
use crate::object;
use crate::print::{partial, table};
use crate::registry::Resource;
use crate::reply;
use crate::request::{Output, Shape, Target};
use crate::status::{Failure, Result};

pub(crate) async fn handle(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let version = call.query.get("resourceVersion");
    if !version.is_empty() {
        let Ok(wanted) = version.parse::<u64>() else { return Err(super::list::bad_version_plain(version)) };
        super::list::wait_for(call, wanted).await?;
    }
    let entry = find(call, resource, target)?;
    answer(call, resource, &entry, StatusCode::OK, output)
}

/// The entry a path names.
pub(crate) fn find(call: &Call, resource: &Resource, target: &Target) -> Result<Arc<Entry>> {
    let key = object::key(resource.namespaced, &target.namespace, &target.name);
    call.server.store.get(&resource.bucket, &key).ok_or_else(|| Failure::not_found(resource.gr(), &target.name))
}

/// An entry in the negotiated form.
pub(crate) fn answer(
    call: &Call,
    resource: &Resource,
    entry: &Entry,
    code: StatusCode,
    output: Output,
) -> Result<Response<Body>> {
    match output.shape {
        Shape::Object => Ok(reply::encoded(code, resource.bytes(entry), output)),
        Shape::Partial => {
            let mut out = Vec::with_capacity(512);
            partial::write(&mut out, &entry.bytes, output.meta_version);
            out.push(b'\n');
            Ok(reply::encoded(code, out.into(), output))
        }
        Shape::PartialList | Shape::Table => shaped(call, resource, resource.value(entry), code, output),
    }
}

/// An object that is not stored like this, in the negotiated form.
pub(crate) fn shaped(
    call: &Call,
    resource: &Resource,
    mut object: Value,
    code: StatusCode,
    output: Output,
) -> Result<Response<Body>> {
    match output.shape {
        Shape::Object => Ok(reply::value(code, &object, output)),
        Shape::Partial => {
            let document = partial::document(object["metadata"].take(), output.meta_version);
            Ok(reply::value(code, &document, output))
        }
        Shape::PartialList => Err(Failure::not_acceptable(
            format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{}.{})",
                internal_package(resource),
                resource.kind
            ),
            false,
        )),
        Shape::Table => {
            let include = table::IncludeObject::parse(call.query.get("includeObject"))?;
            let metadata = match &object["metadata"]["resourceVersion"] {
                Value::Null => json!({}),
                version => json!({"resourceVersion": version}),
            };
            let row = table::row(resource, object, include, output.meta_version, jiff::Timestamp::now());
            let document = table::document(table::columns(resource), vec![row], metadata, output.meta_version);
            Ok(reply::value(code, &document, output))
        }
    }
}

/// The Go package that messages of the real server name.
pub(crate) fn internal_package(resource: &Resource) -> &str {
    match (resource.is_custom(), resource.group.as_str()) {
        (true, _) => "unstructured",
        (false, "") => "core",
        (false, group) => group.split('.').next().unwrap_or(group),
    }
}
