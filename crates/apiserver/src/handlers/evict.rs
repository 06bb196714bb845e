//! `pods/NAME/eviction`: a deletion that is asked for politely. There are no disruption budgets here, so it is granted.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::{Call, delete};
use crate::registry;
use crate::reply;
use crate::request::options::DeleteOptions;
use crate::request::{Output, Target, body};
use crate::status::{Failure, Result};

pub(crate) async fn handle(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let pods = registry::builtin("", "v1", "pods").ok_or_else(Failure::unknown_resource)?;
    let media = body::media(&call.parts.headers)?;
    let raw = call.read_body().await?;
    let eviction = body::decode(raw, media).map_err(Failure::bad_request)?.value;
    let options = &eviction["deleteOptions"];
    let options = DeleteOptions::parse(options.is_object().then_some(options), &call.query)?;
    delete::evict(call, &pods, target, &options).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::value(StatusCode::CREATED, &status, Output::JSON))
}
