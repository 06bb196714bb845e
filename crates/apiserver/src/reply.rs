//! Responses: stored bytes as they are, or the form that was negotiated.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::print::{protobuf, yaml};
use crate::request::negotiate::ErrorFormat;
use crate::request::{Format, Output};
use crate::status::Failure;

/// A response with a body of a media type.
pub(crate) fn bytes(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    stream(code, content_type, Body::from(body.into()))
}

/// A response whose body may be made as it is sent.
pub(crate) fn stream(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", body);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// JSON that was encoded already, in the negotiated form.
pub(crate) fn encoded(code: StatusCode, body: Bytes, output: Output) -> Response<Body> {
    if output.format == Format::Json && !output.pretty {
        return bytes(code, "application/json", body);
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(document) => value(code, &document, output),
        Err(_) => bytes(code, "application/json", body),
    }
}

/// A value in the negotiated form.
pub(crate) fn value(code: StatusCode, document: &Value, output: Output) -> Response<Body> {
    bytes(code, output.content_type(), to_bytes(document, output))
}

/// A value as plain JSON.
pub(crate) fn json(code: StatusCode, document: &Value) -> Response<Body> {
    value(code, document, Output::JSON)
}

fn to_bytes(document: &Value, output: Output) -> Vec<u8> {
    match output.format {
        Format::Yaml => yaml::to_string(document).into_bytes(),
        Format::Json => {
            let encoded =
                if output.pretty { serde_json::to_vec_pretty(document) } else { serde_json::to_vec(document) };
            let mut out = encoded.unwrap_or_default();
            out.push(b'\n');
            out
        }
    }
}

/// A failure as a `Status` (or the few that are plain text).
pub(crate) fn failure(failure: &Failure, format: ErrorFormat) -> Response<Body> {
    let code = StatusCode::from_u16(failure.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match (failure.as_status(), format) {
        (Err(plain), _) => text(code, plain),
        (Ok(status), ErrorFormat::Object(format)) => value(code, &status.to_value(), Output { format, ..Output::JSON }),
        (Ok(status), ErrorFormat::Protobuf) => {
            bytes(code, "application/vnd.kubernetes.protobuf", protobuf::status(status))
        }
    };
    if let Some(value) = failure.retry_after().and_then(|s| HeaderValue::from_str(&s.to_string()).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// Adds `Warning` headers, each once. Texts are bounded, as Kubernetes bounds them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    const TOTAL: usize = 4096;
    let mut total = 0;
    for (index, warning) in warnings.iter().enumerate() {
        if warnings[..index].contains(warning) {
            continue;
        }
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let header = format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
        total += header.len();
        if total > TOTAL {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
