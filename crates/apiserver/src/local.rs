//! The server as an in-process tower service: no socket, no TLS, no copy of bodies. For `kube::Client::new`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};

use crate::ApiServer;
use crate::auth::User;

/// A service with a fixed identity.
#[derive(Clone, Debug)]
pub struct LocalService {
    api: ApiServer,
    user: Arc<User>,
    user_agent: Option<HeaderValue>,
}

/// Who calls in-process.
#[derive(Debug, Clone)]
pub(crate) struct LocalUser(pub(crate) Arc<User>);

impl LocalService {
    pub(crate) fn new(api: ApiServer, user: User, user_agent: &str) -> Self {
        Self { api, user: Arc::new(user), user_agent: HeaderValue::from_str(user_agent).ok() }
    }
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(LocalUser(self.user.clone()));
        if let Some(agent) = &self.user_agent {
            // A client's own choice wins; kube sets none.
            request.headers_mut().entry(http::header::USER_AGENT).or_insert_with(|| agent.clone());
        }
        let api = self.api.clone();
        Box::pin(async move { Ok(api.handle(request).await) })
    }
}
