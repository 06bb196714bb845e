//! Paths that are not about an object: discovery, OpenAPI, health, version, metrics.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::Call;
use crate::request::negotiate::{Offers, negotiate};
use crate::status::{Failure, Result};
use crate::{discovery, reply};

/// The Kubernetes version whose behaviour is served.
pub(crate) const MINOR: &str = "36";
const GIT_VERSION: &str = "v1.36.2";
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

/// Answers everything that is not below a group and version.
pub(crate) async fn other(call: Call) -> Result<Response<Body>> {
    let path = call.parts.uri.path().to_owned();
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", rest @ ..] => health(&call, segments[0], rest),
        ["version"] => get_only(&call, version),
        ["metrics"] => get_only(&call, |call| Ok(metrics(call))),
        ["api" | "apis", ..] => discovery::handle(&call, &segments),
        ["openapi", ..] => discovery::openapi::handle(&call, &segments),
        ["openid", "v1", "jwks"] => {
            get_only(&call, |call| Ok(reply::json(StatusCode::OK, &call.server.auth.key.jwks())))
        }
        [".well-known", "openid-configuration"] => get_only(&call, openid),
        [""] => get_only(&call, |call| Ok(root(call))),
        _ => Err(Failure::page_not_found()),
    }
}

pub(crate) fn get_only(call: &Call, answer: impl FnOnce(&Call) -> Result<Response<Body>>) -> Result<Response<Body>> {
    if matches!(call.parts.method, Method::GET | Method::HEAD) {
        answer(call)
    } else {
        Err(Failure::method_not_allowed())
    }
}

fn health(call: &Call, kind: &str, rest: &[&str]) -> Result<Response<Body>> {
    if !matches!(call.parts.method, Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed());
    }
    match rest {
        [] => {}
        [check] if CHECKS.contains(check) => return Ok(reply::text(StatusCode::OK, "ok")),
        _ => return Err(Failure::page_not_found()),
    }
    let ready = !call.server.watches.is_cancelled() && !call.server.draining.is_cancelled();
    if kind == "readyz" && !ready {
        return Ok(reply::text(StatusCode::INTERNAL_SERVER_ERROR, "[-]shutdown failed: the server is shutting down\n"));
    }
    if !call.query.has("verbose") {
        return Ok(reply::text(StatusCode::OK, "ok"));
    }
    let mut out: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
    out.push_str(&format!("{kind} check passed\n"));
    Ok(reply::text(StatusCode::OK, out))
}

fn version(call: &Call) -> Result<Response<Body>> {
    let info = &call.server.version;
    let program = if info.program.is_empty() { String::new() } else { format!("+kubetask-{}", info.program) };
    let platform = format!(
        "{}/{}",
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    );
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let document = json!({
        "major": "1", "minor": MINOR, "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": format!("{GIT_VERSION}{program}"), "gitCommit": or(&info.git_commit, "unknown"),
        "gitTreeState": "clean", "buildDate": or(&info.build_date, "1970-01-01T00:00:00Z"),
        "goVersion": "go1.25", "compiler": "gc", "platform": platform,
    });
    let offers = Offers { transforms: false, custom: false, watch: false };
    let output = negotiate(&call.parts.headers, &call.query, offers).unwrap_or(crate::request::Output::JSON);
    Ok(reply::value(StatusCode::OK, &document, output))
}

fn metrics(call: &Call) -> Response<Body> {
    let text = call.server.metrics.render(&call.server);
    reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn openid(_: &Call) -> Result<Response<Body>> {
    let issuer = crate::auth::token::ISSUER;
    Ok(reply::json(
        StatusCode::OK,
        &json!({"issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]}),
    ))
}

fn root(call: &Call) -> Response<Body> {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for (group, versions) in discovery::groups(&call.server.registry.snapshot()) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        }
    }
    paths.sort();
    reply::json(StatusCode::OK, &json!({"paths": paths}))
}
