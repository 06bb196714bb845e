//! The kubelet's HTTP interface, for the API server in the same process: logs, exec, attach, port-forward.

mod channels;
mod exec;
mod forward;
mod logs;
mod spdy;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::shared::Shared;

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::get))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec).post(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", get(exec::attach).post(exec::attach))
        .route("/portForward/{namespace}/{pod}", get(forward::forward).post(forward::forward))
        .with_state(shared)
}

/// Query parameters, in order; a name may come again.
type Query = axum::extract::Query<Vec<(String, String)>>;

/// The last value of a parameter.
fn parameter<'q>(query: &'q [(String, String)], name: &str) -> Option<&'q str> {
    query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether a parameter is set to something true; the kubelet's old names count too.
fn flag(query: &[(String, String)], names: &[&str]) -> bool {
    names.iter().any(|name| matches!(parameter(query, name), Some("true" | "1" | "True" | "TRUE" | "t" | "T")))
}

/// An error as the kubelet tells it: plain text.
fn error(status: StatusCode, text: impl Into<String>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, text.into()).into_response()
}
