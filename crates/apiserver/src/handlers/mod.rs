//! One generic handler for each verb, and the dispatch to them.

mod admit;
mod create;
mod delete;
mod evict;
mod get;
mod list;
pub(crate) mod metrics;
mod nonresource;
mod patch;
mod proxy;
mod review;
mod scale;
mod select;
mod subresource;
mod token;
mod update;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use kubetask_kinds::Part;

use crate::auth::User;
use crate::registry::{self, Resource};
use crate::reply;
use crate::request::{self, Info, Output, Query, Target, negotiate};
use crate::server::Inner;
use crate::status::{Failure, Result};

pub(crate) use nonresource::{get_only, other};
pub(crate) use watch::Watchers;

/// One request on its way through.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) user: Arc<User>,
    pub(crate) parts: Parts,
    pub(crate) query: Query,
    pub(crate) info: Info,
    /// In a mutex because bodies cannot be shared between threads, and the rest of a call is.
    pub(crate) body: std::sync::Mutex<Option<Body>>,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

impl Call {
    /// The `User-Agent` header.
    pub(crate) fn user_agent(&self) -> &str {
        self.parts.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Reads the whole body.
    pub(crate) async fn read_body(&mut self) -> Result<Bytes> {
        let body = self.take_body();
        let limits = &self.server.limits;
        match body {
            Some(body) => request::body::read(body, limits.body_bytes, limits.body_timeout).await,
            None => Ok(Bytes::new()),
        }
    }

    /// The body, once.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.body.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// Negotiates the form of the answer.
    pub(crate) fn output(&self, resource: &Resource, watch: bool) -> Result<Output> {
        let offers = negotiate::Offers { transforms: true, custom: resource.is_custom(), watch };
        negotiate::negotiate(&self.parts.headers, &self.query, offers)
    }

    /// Adds what was collected to warn about.
    pub(crate) fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        if !self.warnings.is_empty() {
            reply::warn(&mut response, &self.warnings);
        }
        response
    }
}

/// Which part of an object a path is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Object(Part),
    Scale,
    Log,
    Stream,
    Binding,
    Eviction,
    Token,
}

/// Answers a request below `/api/v1/` or `/apis/GROUP/VERSION/`.
pub(crate) async fn resource(mut call: Call) -> Result<Response<Body>> {
    let Some(target) = call.info.target.clone() else { return Err(Failure::page_not_found()) };
    let Some(resource) = call.server.registry.find(&target.group, &target.version, &target.resource) else {
        let known = target.group.is_empty() || registry::builtin_groups().iter().any(|(g, _)| *g == target.group);
        return Err(if known { Failure::unknown_resource() } else { Failure::page_not_found() });
    };
    if let Some(text) = resource.custom().and_then(|version| version.deprecation.clone()) {
        call.warnings.push(text);
    }
    let outcome = dispatch(&mut call, &resource, &target).await;
    match outcome {
        Ok(response) => Ok(call.finish(response)),
        Err(failure) if call.warnings.is_empty() => Err(failure),
        Err(failure) => {
            let format = negotiate::error_format(&call.parts.headers);
            Ok(call.finish(reply::failure(&failure, format)))
        }
    }
}

async fn dispatch(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    check_scope(call, resource, target)?;
    let route = route(resource, target)?;
    let method = call.parts.method.clone();
    match route {
        Route::Object(part) => object(call, resource, target, part, &method).await,
        Route::Scale => scale::handle(call, resource, target, &method).await,
        Route::Log => proxy::log(call, target, &method).await,
        Route::Stream => proxy::stream(call, target, &method).await,
        Route::Binding => subresource::bind(call, target, &method).await,
        Route::Eviction => evict::handle(call, target, &method).await,
        Route::Token => token::handle(call, target, &method).await,
    }
}

async fn object(
    call: &mut Call,
    resource: &Arc<Resource>,
    target: &Target,
    part: Part,
    method: &Method,
) -> Result<Response<Body>> {
    let custom = resource.is_custom();
    let named = !target.name.is_empty();
    let offers = |verb: &str| part != Part::Main || resource.has_verb(verb);
    match *method {
        Method::GET | Method::HEAD if call.info.verb == "watch" && offers("watch") => {
            watch::handle(call, resource, target)
        }
        Method::GET | Method::HEAD if named && offers("get") && part != Part::Finalize => {
            get::handle(call, resource, target).await
        }
        Method::GET | Method::HEAD if !named && offers("list") => list::handle(call, resource, target).await,
        Method::POST if part == Part::Main && (!named || custom) && offers("create") => {
            if resource.bucket.is_empty() {
                return review::handle(call, resource, target).await;
            }
            create::handle(call, resource, target).await
        }
        Method::PUT if named && offers("update") => update::handle(call, resource, target, part).await,
        Method::PATCH if named && offers("patch") && part != Part::Finalize => {
            patch::handle(call, resource, target, part).await
        }
        Method::PUT | Method::PATCH if custom && !named => Err(Failure::bad_request("name must be provided")),
        Method::DELETE if part == Part::Main && named && offers("delete") => delete::one(call, resource, target).await,
        Method::DELETE if part == Part::Main && !named && offers("deletecollection") => {
            delete::collection(call, resource, target).await
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

/// A namespaced object needs its namespace, a cluster-scoped one must not have one.
fn check_scope(call: &Call, resource: &Resource, target: &Target) -> Result<()> {
    let unknown = || if resource.is_custom() { Failure::page_not_found() } else { Failure::unknown_resource() };
    if resource.namespaced {
        let collection = target.name.is_empty();
        if target.namespace.is_empty() {
            if !collection {
                return Err(unknown());
            }
            if !matches!(call.info.verb, "list" | "watch") && call.parts.method != Method::HEAD {
                return Err(if resource.is_custom() { unknown() } else { Failure::method_not_allowed() });
            }
        }
        return Ok(());
    }
    if target.namespace.is_empty() || resource.is_core("namespaces") { Ok(()) } else { Err(unknown()) }
}

fn route(resource: &Resource, target: &Target) -> Result<Route> {
    if target.subresource.is_empty() {
        return Ok(Route::Object(Part::Main));
    }
    if let Some(version) = resource.custom() {
        return match target.subresource.as_str() {
            "status" if version.status => Ok(Route::Object(Part::Status)),
            "scale" if version.scale.is_some() => Ok(Route::Scale),
            _ => Err(Failure::not_found(resource.gr(), &target.name)),
        };
    }
    let known = resource.builtin_kind().is_some_and(|k| k.subresources.iter().any(|s| s.name == target.subresource));
    if !known {
        return Err(Failure::unknown_resource());
    }
    match (resource.plural.as_str(), target.subresource.as_str()) {
        (_, "status") => Ok(Route::Object(Part::Status)),
        ("namespaces", "finalize") => Ok(Route::Object(Part::Finalize)),
        ("pods", "ephemeralcontainers") => Ok(Route::Object(Part::EphemeralContainers)),
        ("pods", "log") => Ok(Route::Log),
        ("pods", "exec" | "attach" | "portforward") => Ok(Route::Stream),
        ("pods", "binding") => Ok(Route::Binding),
        ("pods", "eviction") => Ok(Route::Eviction),
        ("serviceaccounts", "token") => Ok(Route::Token),
        ("pods", "resize") => Ok(Route::Object(Part::Resize)),
        _ => Err(Failure::unknown_resource()),
    }
}
