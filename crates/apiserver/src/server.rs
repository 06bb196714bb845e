//! [`ApiServer`]: shared state, and the way of a request through authentication, authorisation and dispatch.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;
use http::{HeaderMap, Method, Request, Response};
use kubetask_store::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::rbac::{self, Attributes};
use crate::auth::token::TokenError;
use crate::auth::{AuthConfig, Authenticator, User};
use crate::handlers::{self, Call};
use crate::kubelet::KubeletService;
use crate::local::{LocalService, LocalUser};
use crate::registry::Registry;
use crate::request::{Info, Query, negotiate};
use crate::status::{Failure, GroupResource, Result};
use crate::tls::{FromNetwork, PeerUser};
use crate::{discovery, reply};

/// Bounds on what one request may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes: usize,
    /// Time for a request body to arrive.
    pub body_timeout: Duration,
    /// Time for a request that is not a watch or a stream.
    pub request_timeout: Duration,
    /// Shortest time after which the server ends a watch that names no timeout; the longest is twice that.
    pub watch_timeout: Duration,
    /// How often a watch that allows bookmarks gets one.
    pub bookmark_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 << 20,
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(1800),
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

/// What `/version` says beyond the Kubernetes version.
#[derive(Debug, Clone, Default)]
pub struct VersionInfo {
    /// Version of the program, shown as build metadata of `gitVersion`.
    pub program: String,
    /// Commit of the program.
    pub git_commit: String,
    /// When it was built, RFC 3339.
    pub build_date: String,
}

/// What a server is made of.
#[derive(Debug)]
pub struct Config {
    /// Where objects are.
    pub store: Store,
    /// Accepted credentials.
    pub auth: AuthConfig,
    /// Facts for `/version`.
    pub version: VersionInfo,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A server over `store` with defaults for the rest.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, auth: AuthConfig::default(), version: VersionInfo::default(), limits: Limits::default() }
    }
}

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key for service account tokens is of no use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The first objects could not be stored.
    #[error("cannot make the system namespaces")]
    Bootstrap(#[from] kubetask_store::WriteError),
}

/// An API server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) auth: Authenticator,
    pub(crate) version: VersionInfo,
    pub(crate) limits: Limits,
    pub(crate) kubelet: OnceLock<KubeletService>,
    /// Cancelled when watches must end.
    pub(crate) watches: CancellationToken,
    /// How many there are.
    pub(crate) watchers: crate::handlers::Watchers,
    /// Cancelled when no new objects are taken over the network.
    pub(crate) draining: CancellationToken,
    pub(crate) metrics: crate::handlers::metrics::Metrics,
    pub(crate) documents: discovery::Cache,
    /// Taken by creates in namespaces with quotas.
    pub(crate) quota: Arc<tokio::sync::Mutex<()>>,
    /// Namespaces whose quotas are about to be counted.
    pub(crate) counting: std::sync::Mutex<std::collections::HashSet<String>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Makes a server. CustomResourceDefinitions in the store are served at once.
    pub fn new(config: Config) -> std::result::Result<Self, StartError> {
        let inner = Inner {
            store: config.store,
            registry: Registry::default(),
            auth: Authenticator::new(config.auth)?,
            version: config.version,
            limits: config.limits,
            kubelet: OnceLock::new(),
            watches: CancellationToken::new(),
            watchers: Default::default(),
            draining: CancellationToken::new(),
            metrics: Default::default(),
            documents: discovery::Cache::default(),
            quota: Arc::default(),
            counting: std::sync::Mutex::default(),
        };
        inner.registry.refresh(&inner.store);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes what every cluster has (the system namespaces, the well-known ClusterRoles) and forgets the history up to
    /// there. To be called once, before serving.
    pub async fn bootstrap(&self) -> std::result::Result<(), StartError> {
        crate::bootstrap::run(&self.inner).await?;
        self.inner.store.compact(self.inner.store.revision());
        Ok(())
    }

    /// The service that answers for containers (logs, exec, attach, portforward). Only the first call counts.
    pub fn set_kubelet(&self, service: KubeletService) {
        if self.inner.kubelet.set(service).is_err() {
            tracing::warn!("the kubelet service was set before");
        }
    }

    /// The server as an axum router, to be mounted or tested. Requests without credentials are anonymous.
    pub fn router(&self) -> axum::Router {
        let api = self.clone();
        axum::Router::new().fallback(move |mut request: Request<Body>| {
            let api = api.clone();
            async move {
                if request.extensions().get::<LocalUser>().is_none() {
                    request.extensions_mut().insert(FromNetwork::default());
                }
                api.handle(request).await
            }
        })
    }

    /// An in-process service that acts as `user`; `user_agent` names the field manager of requests that name none.
    pub fn service_as(&self, user: User, user_agent: &str) -> LocalService {
        LocalService::new(self.clone(), user, user_agent)
    }

    /// Takes no new objects over the network from here on, and says so in `/readyz`. Everything else goes on.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Ends all watches; clients will start new ones.
    pub fn end_watches(&self) {
        self.inner.watches.cancel();
    }

    /// Answers one request. Never panics and never fails: every failure is a `Status`.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let started = std::time::Instant::now();
        let method = request.method().clone();
        let format = negotiate::error_format(request.headers());
        let head = method == Method::HEAD;
        let outcome = AssertUnwindSafe(self.answer(request)).catch_unwind().await;
        let mut response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => reply::failure(&failure, format),
            Err(_) => reply::failure(&Failure::internal("the request handler panicked"), format),
        };
        self.inner.metrics.observe(&method, response.status(), started.elapsed());
        if head {
            *response.body_mut() = Body::empty();
        }
        response
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query());
        let info = Info::parse(&parts.method, parts.uri.path(), &query);
        let user = self.authenticate(&parts)?;
        let user = impersonated(&self.inner, &parts.headers, user)?;
        self.authorize(&user, &info)?;
        if self.inner.draining.is_cancelled() && parts.extensions.get::<FromNetwork>().is_some() && is_new_work(&info) {
            return Err(Failure::unavailable("the server is shutting down", 5));
        }
        let limit = time_limit(&info, &query, self.inner.limits.request_timeout)?;
        let call = Call {
            server: self.inner.clone(),
            user,
            parts,
            query,
            info,
            body: Some(body).into(),
            warnings: Vec::new(),
        };
        let work = async {
            if call.info.target.is_some() { handlers::resource(call).await } else { handlers::other(call).await }
        };
        match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                Err(Failure::timeout("Timeout: request did not complete within the allotted timeout"))
            }),
        }
    }

    fn authenticate(&self, parts: &http::request::Parts) -> Result<Arc<User>> {
        if parts.extensions.get::<FromNetwork>().is_none()
            && let Some(LocalUser(user)) = parts.extensions.get()
        {
            return Ok(user.clone());
        }
        let peer = parts.extensions.get::<PeerUser>().map(|peer| &*peer.0);
        let check = |claims: &crate::auth::token::Claims| account_exists(&self.inner, claims);
        self.inner.auth.user(&parts.headers, peer, check).map(Arc::new)
    }

    fn authorize(&self, user: &User, info: &Info) -> Result<()> {
        let attributes = attributes(info);
        if rbac::authorize(&self.inner.store, user, &attributes).is_some() {
            return Ok(());
        }
        Err(forbidden(user, &attributes))
    }
}

/// Whether a request makes an object that something would have to be done about. Questions that are asked by creating
/// something (reviews, tokens), events and leases are none.
fn is_new_work(info: &Info) -> bool {
    let Some(target) = &info.target else { return false };
    let review = matches!(target.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io");
    let note = matches!(target.group.as_str(), "events.k8s.io" | "coordination.k8s.io") || target.resource == "events";
    info.verb == "create" && target.subresource.is_empty() && !review && !note
}

/// How long a request may take: what it asks for with `timeout`, up to the server's limit. `None` for requests that
/// are meant to last: watches and streams.
fn time_limit(info: &Info, query: &Query, most: Duration) -> Result<Option<Duration>> {
    let lasts = |subresource: &str| matches!(subresource, "attach" | "exec" | "log" | "portforward" | "proxy");
    if info.verb == "watch" || info.target.as_ref().is_some_and(|target| lasts(&target.subresource)) {
        return Ok(None);
    }
    let asked = match query.get("timeout") {
        "" => return Ok(Some(most)),
        text => kubetask_schema::format::go_duration(text).ok_or_else(|| {
            let why = wrong_duration(text);
            Failure::bad_request(format!("invalid timeout specified in the request URL - time: {why}"))
        })?,
    };
    // None at all, and more than there is, both mean the limit.
    let asked = u64::try_from(asked).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    Ok(Some(asked.map_or(most, |asked| asked.min(most))))
}

/// What Go says of a text that is no duration.
fn wrong_duration(text: &str) -> String {
    let quoted = crate::text::quote(text);
    let unit: String = text
        .trim_start_matches(['-', '+'])
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        .chars()
        .take_while(|c| *c != '.' && !c.is_ascii_digit())
        .collect();
    let numeric = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
    match (numeric, unit.is_empty()) {
        (true, true) => format!("missing unit in duration {quoted}"),
        (true, false) => format!("unknown unit {} in duration {quoted}", crate::text::quote(&unit)),
        (false, _) => format!("invalid duration {quoted}"),
    }
}

/// What a request wants, in the terms of authorisation.
fn attributes(info: &Info) -> Attributes<'_> {
    match &info.target {
        None => Attributes { verb: info.verb, path: Some(&info.path), ..Attributes::default() },
        Some(target) => Attributes {
            verb: info.verb,
            group: &target.group,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            path: None,
        },
    }
}

/// 403 in Kubernetes' words.
pub(crate) fn forbidden(user: &User, what: &Attributes<'_>) -> Failure {
    let who = crate::text::quote(&user.name);
    if let Some(path) = what.path {
        let nothing = GroupResource { group: "", resource: "" };
        return Failure::forbidden(nothing, "", &format!("User {who} cannot {} path \"{path}\"", what.verb));
    }
    let slash = if what.subresource.is_empty() { "" } else { "/" };
    let scope = if what.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", what.namespace)
    };
    let (resource, group) = (what.resource, what.group);
    let why = format!(
        "User {who} cannot {} resource \"{resource}{slash}{}\" in API group \"{group}\" {scope}",
        what.verb, what.subresource
    );
    Failure::forbidden(GroupResource { group, resource }, what.name, &why)
}

/// Whether the account (and the pod) of a token are still the ones it was issued for.
pub(crate) fn account_exists(inner: &Inner, claims: &crate::auth::token::Claims) -> bool {
    let uid_of = |bucket: &str, key: String| {
        let entry = inner.store.get(bucket, &key)?;
        crate::object::decode(&entry)["metadata"]["uid"].as_str().map(str::to_owned)
    };
    let account = uid_of("serviceaccounts", format!("{}/{}", claims.namespace, claims.account));
    let bound = claims.bound.as_ref().is_none_or(|bound| {
        let (name, namespace) = (&bound.name, &claims.namespace);
        let found = match bound.kind {
            "pod" => uid_of("pods", format!("{namespace}/{name}")),
            "secret" => uid_of("secrets", format!("{namespace}/{name}")),
            _ => uid_of("nodes", name.clone()),
        };
        found.as_deref() == Some(bound.uid.as_str())
    });
    account.as_deref() == Some(claims.account_uid.as_str()) && bound
}

/// Applies the `Impersonate-*` headers.
fn impersonated(inner: &Inner, headers: &HeaderMap, user: Arc<User>) -> Result<Arc<User>> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let groups: Vec<&str> = headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok()).collect();
    let name = text("impersonate-user");
    let extra: Vec<(String, &str)> = headers
        .iter()
        .filter_map(|(header, value)| Some((header.as_str().strip_prefix("impersonate-extra-")?, value.to_str().ok()?)))
        .map(|(key, value)| (crate::request::query::decode(key, false).into_owned(), value))
        .collect();
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && text("impersonate-uid").is_empty() {
            return Ok(user);
        }
        return Err(Failure::plain_internal("requested impersonation without impersonating a user"));
    }
    let check = |resource: &str, namespace: &str, name: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let group = if matches!(resource, "uids" | "userextras") { "authentication.k8s.io" } else { "" };
        let what =
            Attributes { verb: "impersonate", group, resource, subresource, namespace, name, ..Attributes::default() };
        match rbac::authorize(&inner.store, &user, &what) {
            Some(_) => Ok(()),
            None => Err(forbidden(&user, &what)),
        }
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => check("serviceaccounts", namespace, account)?,
        None => check("users", "", name)?,
    }
    for group in &groups {
        check("groups", "", group)?;
    }
    for (key, value) in &extra {
        check(&format!("userextras/{key}"), "", value)?;
    }
    if !text("impersonate-uid").is_empty() {
        check("uids", "", text("impersonate-uid"))?;
    }
    let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let mut target = User::new(name, groups);
    target.uid = text("impersonate-uid").to_owned();
    for (key, value) in extra {
        target.extra.entry(key).or_default().push(value.to_owned());
    }
    if name == crate::auth::ANONYMOUS {
        target = User::anonymous();
    }
    Ok(Arc::new(target))
}
