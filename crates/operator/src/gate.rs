//! The gate: what every request of the operator to the Kubernetes API passes.
//!
//! * It counts them.
//! * It lets no write through unless this operator leads ([`Fence`]): one that was paused past its lease and wakes up
//!   finds the gate shut, whatever it was about to do.
//! * It waits when a busy server says how long (`Retry-After`), and asks again.
//! * It gives up on answers that do not come.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, Uri, header};
use kube::Client;
use kube::client::Body;

use crate::leader::Fence;
use crate::metrics::Metrics;

/// How long an answer is waited for. Watches and logs begin to answer at once, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for; when it asks for more, the error is the caller's.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a request is sent again because the server asked for patience.
const PATIENCE: u32 = 4;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request was not sent, or has no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateError {
    /// This operator does not lead (any more).
    #[error("not sent: this replica does not lead")]
    NotLeader,
    /// The answer did not come.
    #[error("no answer within {} seconds", ANSWER_WITHIN.as_secs())]
    NoAnswer,
}

/// The gate before a client.
#[derive(Clone)]
pub struct Gate {
    fence: Option<Fence>,
    metrics: Metrics,
}

impl Gate {
    /// A gate that counts; with a fence it lets writes through only while that holds.
    #[must_use]
    pub fn new(metrics: Metrics, fence: Option<Fence>) -> Self {
        Self { fence, metrics }
    }

    /// The client behind the gate.
    #[must_use]
    pub fn before(self, inner: Client) -> Client {
        let namespace = inner.default_namespace().to_owned();
        Client::new(Guarded { gate: self, inner }, namespace)
    }

    fn is_open(&self, asked: &Asked) -> bool {
        !asked.is_write() || self.fence.as_ref().is_none_or(Fence::holds)
    }

    async fn pass(self, request: Request<Body>, inner: Client) -> Result<Response<Body>, BoxError> {
        let asked = Asked::of(request.method(), request.uri());
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        for attempt in 0.. {
            let Some(now) = body.take() else { break };
            body = now.try_clone();
            // Checked at the last moment: after every wait, before every send.
            if !self.is_open(&asked) {
                return Err(GateError::NotLeader.into());
            }
            let started = Instant::now();
            let sent = tokio::time::timeout(ANSWER_WITHIN, inner.send(Request::from_parts(parts.clone(), now))).await;
            let code = sent.as_ref().ok().and_then(|sent| sent.as_ref().ok()).map(|answer| answer.status().as_u16());
            self.metrics.api_request(asked.verb, &asked.resource, code, started.elapsed());
            let answer = sent.map_err(|_| GateError::NoAnswer)??;
            match asked_to_wait(&answer) {
                Some(wait) if attempt < PATIENCE && body.is_some() => tokio::time::sleep(wait).await,
                _ => return Ok(answer),
            }
        }
        Err(GateError::NoAnswer.into())
    }
}

/// How long a busy server asks to wait; `None` when it does not, or for too long.
fn asked_to_wait(answer: &Response<Body>) -> Option<Duration> {
    if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds: u64 = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    // Zero means at once; a little patience costs nothing.
    let wait = Duration::from_secs(seconds).max(Duration::from_millis(50));
    (wait <= WAIT_MAX).then_some(wait)
}

struct Guarded {
    gate: Gate,
    inner: Client,
}

impl tower::Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.gate.clone().pass(request, self.inner.clone()))
    }
}

/// What a request asks for, in the words of Kubernetes' authorisation.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    verb: &'static str,
    /// With its subresource: `tasks/status`; empty for what is no resource.
    resource: String,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty());
        let skip = match segments.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return Self { verb: verb(method, true, false), resource: String::new() },
        };
        let rest: Vec<&str> = segments.skip(skip).collect();
        let rest = match rest.as_slice() {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        let watches = uri.query().unwrap_or_default().split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let (resource, named) = match rest {
            [] => (String::new(), false),
            [resource] => ((*resource).to_owned(), false),
            [resource, _] => ((*resource).to_owned(), true),
            [resource, _, subresource, ..] => (format!("{resource}/{subresource}"), true),
        };
        Self { verb: verb(method, named, watches), resource }
    }

    fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

fn verb(method: &Method, named: bool, watches: bool) -> &'static str {
    match (method.as_str(), named) {
        ("GET" | "HEAD", false) if watches => "watch",
        ("GET" | "HEAD", false) => "list",
        ("GET" | "HEAD", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "deletecollection",
        _ => "delete",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;

    use super::*;

    #[test]
    fn requests_are_understood() {
        let check = |method: &str, uri: &str, verb: &'static str, resource: &str| {
            let asked = Asked::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(asked, Asked { verb, resource: resource.to_owned() }, "{method} {uri}");
        };
        check("GET", "/api/v1/pods?watch=true", "watch", "pods");
        check("GET", "/api/v1/namespaces/n/pods", "list", "pods");
        check("GET", "/api/v1/namespaces/n", "get", "namespaces");
        check("GET", "/api/v1/namespaces/n/pods/p/log", "get", "pods/log");
        check("PATCH", "/apis/kubetask.io/v1alpha1/namespaces/n/tasks/t/status", "patch", "tasks/status");
        check("POST", "/apis/batch/v1/namespaces/n/jobs", "create", "jobs");
        check("GET", "/version", "get", "");
    }

    /// A server that answers so, time after time; the last answer for ever.
    fn server(answers: Vec<(u16, Option<&'static str>)>) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let (code, wait) = answers[n.min(answers.len() - 1)];
            let mut answer = Response::builder().status(code).header("content-type", "application/json");
            if let Some(wait) = wait {
                answer = answer.header("retry-after", wait);
            }
            let body = if code == 201 { r#"{"metadata":{"name":"m"}}"# } else { "{}" };
            let answer = answer.body(Body::from(body.as_bytes().to_vec())).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        (Client::new(service, "default"), asked)
    }

    async fn create(client: Client) -> Result<ConfigMap, kube::Error> {
        let object = ConfigMap::default();
        Api::<ConfigMap>::default_namespaced(client).create(&PostParams::default(), &object).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_waited_for() {
        let metrics = Metrics::default();
        let (inner, asked) = server(vec![(429, Some("2")), (503, Some("1")), (201, None)]);
        let started = tokio::time::Instant::now();
        create(Gate::new(metrics.clone(), None).before(inner)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert_eq!(started.elapsed().as_secs(), 3);
        let text = metrics.text();
        assert!(text.contains("verb=\"create\",resource=\"configmaps\",code=\"429\"} 1"), "{text}");
        assert!(text.contains("verb=\"create\",resource=\"configmaps\",code=\"201\"} 1"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (inner, asked) = server(vec![(429, Some("1"))]);
        assert!(create(Gate::new(Metrics::default(), None).before(inner)).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1 + PATIENCE as usize);
        // A server that wants to be left alone for an hour is not waited for here.
        let (inner, asked) = server(vec![(429, Some("3600"))]);
        assert!(create(Gate::new(Metrics::default(), None).before(inner)).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let service =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let error = create(Gate::new(Metrics::default(), None).before(Client::new(service, "default"))).await;
        assert!(format!("{:?}", error.unwrap_err()).contains("NoAnswer"));
    }

    #[tokio::test]
    async fn only_who_leads_writes() {
        let fence = Fence::default();
        let (inner, asked) = server(vec![(201, None)]);
        let client = Gate::new(Metrics::default(), Some(fence.clone())).before(inner);
        assert!(format!("{:?}", create(client.clone()).await.unwrap_err()).contains("NotLeader"));
        Api::<ConfigMap>::default_namespaced(client.clone()).get("m").await.unwrap();
        fence.hold_for(Duration::from_secs(60));
        create(client.clone()).await.unwrap();
        fence.shut();
        assert!(create(client).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fence_is_looked_at_again_after_every_wait() {
        let fence = Fence::default();
        fence.hold_for(Duration::from_secs(60));
        let (inner, asked) = server(vec![(429, Some("5")), (201, None)]);
        let client = Gate::new(Metrics::default(), Some(fence.clone())).before(inner);
        let writing = tokio::spawn(create(client));
        tokio::time::sleep(Duration::from_secs(1)).await;
        fence.shut();
        assert!(writing.await.unwrap().is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
