//! A client in front of another client: what stands between them sees and changes every request and answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::Client;
use kube::client::Body;

/// Any error.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
/// An answer.
pub(crate) type Answer = Result<http::Response<AnswerBody>, BoxError>;

/// What stands between.
pub(crate) trait Middle: Send + Sync + 'static {
    /// Handles a request; `inner` is where it was to go.
    fn handle(
        self: Arc<Self>,
        request: http::Request<Body>,
        inner: Client,
    ) -> impl Future<Output = Answer> + Send + 'static;
}

/// The client with something before it.
pub(crate) fn put_before<M: Middle>(middle: Arc<M>, inner: Client) -> Client {
    let namespace = inner.default_namespace().to_owned();
    Client::new(Service { middle, inner }, namespace)
}

/// Passes a request on as it is.
pub(crate) async fn pass(request: http::Request<Body>, inner: &Client) -> Answer {
    let answer = inner.send(request).await?;
    Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}

struct Service<M> {
    middle: Arc<M>,
    inner: Client,
}

impl<M: Middle> tower::Service<http::Request<Body>> for Service<M> {
    type Response = http::Response<AnswerBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.middle.clone().handle(request, self.inner.clone()))
    }
}
