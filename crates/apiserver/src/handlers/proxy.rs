//! `pods/NAME/log`, `exec`, `attach` and `portforward`: checked here, answered by the kubelet service. An upgraded
//! connection passes through untouched: hyper's handle to it travels in the request's extensions.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{Call, get};
use crate::object;
use crate::registry;
use crate::request::{Target, negotiate};
use crate::status::{Failure, Result};

/// Query parameters that a kubelet understands under the same name.
const LOG_PARAMETERS: [&str; 8] =
    ["follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "previous", "limitBytes", "stream"];

pub(crate) async fn log(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed());
    }
    negotiate::negotiate_log(&call.parts.headers, &call.query)?;
    let pod = pod(call, target)?;
    check_log_options(call, &target.name)?;
    let container = container(call, target, &pod)?;
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let mut parameters = Vec::new();
    for name in LOG_PARAMETERS {
        if call.query.has(name) {
            let value = match name {
                "follow" | "timestamps" | "previous" => call.query.flag(name).unwrap_or(false).to_string(),
                _ => call.query.get(name).to_owned(),
            };
            parameters.push((name, value));
        }
    }
    let path = format!("/containerLogs/{}/{}/{}", encode(&target.namespace), encode(&target.name), encode(&container));
    forward(call, Method::GET, &path, &parameters).await
}

pub(crate) async fn stream(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if !matches!(*method, Method::GET | Method::POST) {
        return Err(Failure::method_not_allowed());
    }
    let pod = pod(call, target)?;
    let mut parameters: Vec<(&str, String)> = Vec::new();
    let base = format!("{}/{}", encode(&target.namespace), encode(&target.name));
    let path = if target.subresource == "portforward" {
        parameters.extend(call.query.all("ports").map(|port| ("port", port.to_owned())));
        format!("/portForward/{base}")
    } else {
        let container = container(call, target, &pod)?;
        check_running(target, &pod)?;
        for name in ["stdin", "stdout", "stderr", "tty"] {
            if call.query.flag(name) == Some(true) {
                parameters.push((name, "true".to_owned()));
            }
        }
        if target.subresource == "exec" {
            parameters.extend(call.query.all("command").map(|word| ("command", word.to_owned())));
        }
        format!("/{}/{base}/{}", target.subresource, encode(&container))
    };
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return Err(Failure::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    forward(call, method.clone(), &path, &parameters).await
}

fn pod(call: &Call, target: &Target) -> Result<Value> {
    let pods = registry::builtin("", "v1", "pods").ok_or_else(Failure::unknown_resource)?;
    Ok(object::decode(&*get::find(call, &pods, target)?))
}

fn check_log_options(call: &Call, name: &str) -> Result<()> {
    use kubetask_schema::field::{Error, Path};
    let mut errors = Vec::new();
    let query = &call.query;
    for (option, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(value) = query.int(option)?
            && value < least
        {
            let why = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.push(Error::invalid(&Path::new(option), value, why));
        }
    }
    if query.has("sinceSeconds") && query.has("sinceTime") {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        // Go's empty path prints as a list without elements.
        errors.push(Error::forbidden(&Path::new("[]"), why));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let gk = crate::status::GroupResource { group: "", resource: "PodLogOptions" };
    Err(Failure::invalid(gk, name, &errors))
}

/// Annotation that names the container which commands mean that name none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The container that is meant: the one named, or the only one.
fn container(call: &Call, target: &Target, pod: &Value) -> Result<String> {
    let names = |list: &str| -> Vec<String> {
        let items = pod["spec"][list].as_array().into_iter().flatten();
        items.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let asked = call.query.get("container");
    if !asked.is_empty() {
        let known = containers.iter().chain(&init).chain(&ephemeral).any(|name| name == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Failure::bad_request(format!("container {asked} is not valid for pod {}", target.name)))
        };
    }
    if let [only] = containers.as_slice() {
        return Ok(only.clone());
    }
    if let Some(default) = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str()
        && containers.iter().any(|name| name == default)
    {
        return Ok(default.to_owned());
    }
    let choice = format!("choose one of: [{}]", containers.join(" "));
    let more =
        if init.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", init.join(" ")) };
    Err(Failure::bad_request(format!("a container name must be specified for pod {}, {choice}{more}", target.name)))
}

fn check_running(target: &Target, pod: &Value) -> Result<()> {
    match pod["status"]["phase"].as_str() {
        Some(phase @ ("Succeeded" | "Failed")) => Err(Failure::plain_internal(format!(
            "cannot {} into a container in a completed pod; current phase is {phase}",
            target.subresource
        ))),
        _ => Ok(()),
    }
}

async fn forward(call: &mut Call, method: Method, path: &str, parameters: &[(&str, String)]) -> Result<Response<Body>> {
    let Some(kubelet) = call.server.kubelet.get().cloned() else {
        return Err(Failure::plain_internal("no node answers for containers yet"));
    };
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    let mut request = Request::new(call.take_body().unwrap_or_default());
    *request.method_mut() = method;
    *request.version_mut() = call.parts.version;
    *request.uri_mut() =
        uri.parse().map_err(|_| Failure::bad_request("the request has parameters that make no URL"))?;
    *request.headers_mut() = std::mem::take(&mut call.parts.headers);
    // Credentials are not the node's business.
    request.headers_mut().remove(http::header::AUTHORIZATION);
    *request.extensions_mut() = std::mem::take(&mut call.parts.extensions);
    let response = match kubelet.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    pass(response).await
}

/// The kubelet's answer. Its refusals are plain text; clients expect a `Status`.
async fn pass(response: Response<Body>) -> Result<Response<Body>> {
    let code = response.status();
    if code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS || code.is_redirection() {
        return Ok(response);
    }
    let json = response
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    if json {
        return Ok(response);
    }
    let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    Err(match code {
        StatusCode::BAD_REQUEST => Failure::bad_request(text),
        StatusCode::NOT_FOUND => Failure::kubelet_not_found(text),
        _ => Failure::plain_internal(text),
    })
}

/// Percent-encodes everything but unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
