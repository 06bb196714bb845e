//! `/metrics`, `/healthz` and `/readyz`.
//!
//! * `/healthz` fails only when a restart would help: nothing happens in the process any more.
//! * `/readyz` fails when the work is not done and could not be: the cluster does not answer, the lease cannot be asked
//!   for, or the leader has not taken in what is there yet. A replica that waits for its turn is ready.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::Client;
use kubetask_operator::Health;
use kubetask_operator::metrics::{CONTENT_TYPE, Metrics};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long the cluster may take to answer a probe.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What is told.
#[derive(Clone)]
pub(super) struct About {
    pub health: Health,
    pub metrics: Metrics,
    pub client: Client,
}

/// What an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Metrics,
    Health,
    Both,
}

/// The server.
pub(super) struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Ends it.
    pub(super) async fn shutdown(self) {
        self.cancel.cancel();
        // An open connection is not worth waiting for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.task).await;
    }
}

/// Starts it.
///
/// # Errors
/// When the address cannot be used.
pub(super) async fn serve(address: SocketAddr, part: Part, about: About) -> std::io::Result<Endpoint> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let mut app = Router::new();
    if part != Part::Health {
        app = app.route("/metrics", get(metrics));
    }
    if part != Part::Metrics {
        app = app.route("/healthz", get(healthz)).route("/readyz", get(readyz));
    }
    let app = app.with_state(about);
    let cancel = CancellationToken::new();
    let until = cancel.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
            tracing::error!(%error, "metrics and health are not served any more");
        }
    });
    Ok(Endpoint { address, cancel, task })
}

async fn metrics(State(about): State<About>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], about.metrics.text()).into_response()
}

async fn healthz(State(about): State<About>) -> Response {
    told(about.health.alive().map(|()| "ok"))
}

async fn readyz(State(about): State<About>) -> Response {
    let ready = match about.health.ready() {
        Ok(word) => cluster_answers(&about.client).await.map(|()| word),
        Err(why) => Err(why),
    };
    told(ready)
}

async fn cluster_answers(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_WITHIN, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the cluster does not answer: {}", crate::error::chain(&error))),
        Err(_) => Err(format!("the cluster has not answered within {} seconds", ANSWER_WITHIN.as_secs())),
    }
}

fn told(how: Result<&str, String>) -> Response {
    match how {
        Ok(word) => (StatusCode::OK, format!("{word}\n")).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
