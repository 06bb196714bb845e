//! A server of HTTP for tests: writes down what it is asked, and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

type Answers = dyn Fn(usize, &Asked) -> StatusCode + Send + Sync;

/// The server; it ends when it is dropped.
pub(crate) struct Stub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Answers the nth request (from 0) with what the function says.
    pub(crate) async fn start(
        answers: impl Fn(usize, &Asked) -> StatusCode + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), answers).await
    }

    /// The same at an address.
    pub(crate) async fn at(
        address: SocketAddr,
        answers: impl Fn(usize, &Asked) -> StatusCode + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        type Shared = (Arc<Mutex<Vec<Asked>>>, Arc<Answers>);
        async fn handle(
            State((asked, answers)): State<Shared>,
            method: Method,
            uri: Uri,
            headers: HeaderMap,
            body: Bytes,
        ) -> (StatusCode, [(&'static str, &'static str); 1]) {
            let request = Asked { method, uri, headers, body };
            let mut asked = asked.lock().unwrap();
            let answer = answers(asked.len(), &request);
            asked.push(request);
            // What stores answer to a PUT.
            (answer, [("etag", "\"1\"")])
        }
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answers: Arc<Answers> = Arc::new(answers);
        let app = Router::new().fallback(handle).with_state((asked.clone(), answers));
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Ok(Self { address, asked, task })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Waits until something holds that no watch tells of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + kubetask_testkit::WAIT;
    while !holds() {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}
