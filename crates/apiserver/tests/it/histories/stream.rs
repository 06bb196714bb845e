//! Events of a watch, as long as it goes on.

use anyhow::{Context, Result};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::server::TestServer;

/// One watch that is being read.
pub(super) struct Stream {
    body: Body,
    rest: Vec<u8>,
    ready: std::collections::VecDeque<Value>,
}

impl Stream {
    pub(super) async fn open(server: &TestServer, path: &str, query: &str) -> Result<Self> {
        let uri = format!("{path}?watch=1&{query}");
        let request = Request::get(uri).header("authorization", "Bearer secret").body(Body::empty())?;
        let body = server.api.router().oneshot(request).await?.into_body();
        Ok(Self { body, rest: Vec::new(), ready: std::collections::VecDeque::new() })
    }

    /// The next event; `None` where the watch has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Value>> {
        while self.ready.is_empty() {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            self.rest.extend_from_slice(&frame?.into_data().unwrap_or_default());
            let mut start = 0;
            while let Some(end) = self.rest[start..].iter().position(|b| *b == b'\n') {
                self.ready.push_back(serde_json::from_slice(&self.rest[start..start + end])?);
                start += end + 1;
            }
            self.rest.drain(..start);
        }
        Ok(self.ready.pop_front())
    }

    /// Reads up to a bookmark or event of at least this version.
    pub(super) async fn until(&mut self, revision: u64) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await?.context("the watch has ended")?;
            let reached = version(&event["object"]) >= revision;
            events.push(event);
            if reached {
                return Ok(events);
            }
        }
    }
}

/// An object's resourceVersion.
pub(super) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}
