//! HTTP to others than the Kubernetes API: webhooks, object stores, trace collectors.
//!
//! The roots of trust are the system's. They are read when the first request is made: most operators make none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Any error.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request.
pub(crate) type RequestBody = BoxBody<Bytes, BoxError>;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How much of an answer is read where only its beginning is of interest.
const ANSWER_MAX: usize = 4096;

type Inner = Client<HttpsConnector<HttpConnector>, RequestBody>;

/// A client for HTTP and HTTPS. Clones share its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http(Arc<OnceLock<Inner>>);

impl Http {
    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<hyper::body::Incoming>, BoxError> {
        let client = match self.0.get() {
            Some(client) => client,
            None => {
                let made = connect()?;
                self.0.get_or_init(|| made)
            }
        };
        Ok(client.request(request).await?)
    }

    /// Sends a request with this body; answers the status and the beginning of the answer.
    ///
    /// # Errors
    /// When there is no answer within the time.
    pub(crate) async fn post(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(http::StatusCode, String), BoxError> {
        let request = request.body(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed())?;
        let exchange = async {
            let answer = self.send(request).await?;
            let status = answer.status();
            let said = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let said = said.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
            Ok((status, said))
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {} seconds", within.as_secs()).into()),
        }
    }
}

fn connect() -> Result<Inner, BoxError> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(CONNECT_WITHIN));
    http.enforce_http(false);
    let provider = rustls::crypto::ring::default_provider();
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(https))
}
