//! HTTP to a Docker Engine, or to Podman in its place, over a unix socket.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::NAME;
use crate::traits::EngineError;

/// A call that only asks or orders takes no longer than this, unless the daemon hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest answer that is read into memory.
const LONGEST: usize = 32 << 20;

/// A body to send.
pub(super) type Body = BoxBody<Bytes, std::io::Error>;
/// Both directions of a connection that was taken over for a program's streams.
pub(super) type Hijacked = TokioIo<hyper::upgrade::Upgraded>;

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The daemon said no.
    Refused { status: u16, message: String },
    /// There is no daemon, or it went away.
    Gone(String),
}

impl Failure {
    /// Whether what was asked for does not exist.
    pub(super) fn not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { status, message } => {
                EngineError::Io { step: format!("docker ({status})"), source: std::io::Error::other(message) }
            }
            Failure::Gone(reason) => EngineError::Unavailable { engine: NAME, reason },
        }
    }
}

/// The daemon's interface.
#[derive(Debug)]
pub(super) struct Api {
    candidates: Vec<PathBuf>,
    /// The socket that answered, and will be used from now on.
    chosen: Mutex<Option<PathBuf>>,
}

impl Api {
    /// Sockets to try, the best first; `known` is the one that has containers of ours.
    pub(super) fn new(candidates: Vec<PathBuf>, known: Option<PathBuf>) -> Self {
        Self { candidates, chosen: Mutex::new(known) }
    }

    /// The socket in use.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.chosen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        if let Some(socket) = self.socket() {
            let stream = UnixStream::connect(&socket).await;
            return stream.map_err(|error| Failure::Gone(unreachable(&socket, &error)));
        }
        let mut trouble = None;
        for socket in &self.candidates {
            match UnixStream::connect(socket).await {
                Ok(stream) => {
                    *self.chosen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(socket.clone());
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => drop(trouble.get_or_insert_with(|| unreachable(socket, &error))),
            }
        }
        Err(Failure::Gone(trouble.unwrap_or_else(|| {
            let tried: Vec<_> = self.candidates.iter().map(|socket| socket.display().to_string()).collect();
            format!("no Docker or Podman socket (looked at {}): start the daemon, or set DOCKER_HOST", tried.join(", "))
        })))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let gone = |error: hyper::Error| Failure::Gone(format!("the daemon went away: {error}"));
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        tokio::spawn(async move {
            // Its errors reach whoever reads the answer.
            let _ = connection.with_upgrades().await;
        });
        let response = sender.send_request(request).await.map_err(gone)?;
        if response.status().is_client_error() || response.status().is_server_error() {
            let status = response.status().as_u16();
            let body = read(response).await?;
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            let message = value["message"].as_str().map(str::to_owned);
            let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
            return Err(Failure::Refused { status, message });
        }
        Ok(response)
    }

    /// A call whose answer comes bit by bit.
    pub(super) async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, Failure> {
        self.send(request(method, path, body, headers)?).await
    }

    /// A call with a JSON body, or none, and a short answer.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request(method, path, full(body.into()), &[("content-type", "application/json")])?;
        let answer = async { read(self.send(request).await?).await };
        let late = || Failure::Gone(format!("the daemon did not answer within {} s", PATIENCE.as_secs()));
        let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| late())??;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Takes a connection over.
    pub(super) async fn hijack(&self, path: &str, body: Option<&Value>) -> Result<Hijacked, Failure> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let headers = [("content-type", "application/json"), ("connection", "Upgrade"), ("upgrade", "tcp")];
        let response = self.send(request(Method::POST, path, full(body.into()), &headers)?).await?;
        let upgraded = hyper::upgrade::on(response).await;
        upgraded.map(TokioIo::new).map_err(|error| Failure::Gone(format!("the daemon gave no stream: {error}")))
    }
}

fn request(method: Method, path: &str, body: Body, headers: &[(&str, &str)]) -> Result<Request<Body>, Failure> {
    let mut request = Request::builder().method(method).uri(path).header("host", "docker");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).map_err(|error| Failure::Refused { status: 400, message: error.to_string() })
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = http_body_util::Limited::new(response.into_body(), LONGEST).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Failure::Gone(format!("no complete answer: {error}")))
}

/// A body of known bytes.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A part of a path or query.
pub(super) fn encode(text: &str) -> String {
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

fn unreachable(socket: &Path, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ": add this user to the group \"docker\", or run the daemon rootless",
        std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => ": is the daemon running?",
        _ => "",
    };
    format!("cannot connect to {}: {error}{advice}", socket.display())
}
