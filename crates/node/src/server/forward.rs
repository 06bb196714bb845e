//! `/portForward`: TCP connections over a WebSocket, in one of two ways. kubectl sends SPDY frames (see `spdy`); other clients
//! use channels, two for each port: data, and an error text.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::{Channels, Incoming, LONGEST_MESSAGE, Sender};
use super::{Query, error, spdy};
use crate::shared::Shared;

/// Each port takes two of the channels that a byte can number.
const MOST_PORTS: usize = 100;
const PROTOCOLS: [&str; 3] = [spdy::PROTOCOL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// Where a pod's ports are: pods share the host's network.
#[derive(Clone)]
pub(super) struct Destination {
    pod: String,
    addresses: [String; 3],
}

impl Destination {
    /// Connects to a port; an error is in the words for the user.
    pub(super) async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let mut refused = None;
        for address in &self.addresses {
            match TcpStream::connect((address.as_str(), port)).await {
                Ok(stream) => return Ok(stream),
                Err(problem) => drop(refused.get_or_insert(problem)),
            }
        }
        let why = match refused {
            Some(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            Some(error) => error.to_string(),
            None => "no address".to_owned(),
        };
        Err(format!("error forwarding port {port} to pod {}: dial tcp localhost:{port}: connect: {why}", self.pod))
    }
}

pub(super) async fn forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod)): Path<(String, String)>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let values =
        query.iter().filter(|(name, _)| name == "port" || name == "ports").flat_map(|(_, value)| value.split(','));
    let ports: Result<Vec<u16>, _> = values.map(str::parse).collect();
    let ports = match ports {
        Ok(ports) if ports.len() <= MOST_PORTS && !ports.contains(&0) => ports,
        _ => return error(StatusCode::BAD_REQUEST, "query parameter \"port\" must name ports between 1 and 65535"),
    };
    let view = shared.find(&namespace, &pod).map(|handle| handle.view.borrow().clone());
    let Some(view) = view.filter(|view| !view.over) else {
        return error(StatusCode::NOT_FOUND, format!("pod {pod:?} is not running"));
    };
    if view.isolated {
        let text = format!("pod {pod:?} has no network: its ports cannot be reached from outside");
        return error(StatusCode::BAD_REQUEST, text);
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols(PROTOCOLS).max_message_size(LONGEST_MESSAGE),
        Err(_) => return error(StatusCode::BAD_REQUEST, "this needs a WebSocket"),
    };
    if upgrade.selected_protocol().is_none() {
        let text =
            format!("unable to upgrade: none of the protocols is supported; use one of {}", PROTOCOLS.join(", "));
        return error(StatusCode::FORBIDDEN, text);
    }
    let tunnel = upgrade.selected_protocol().is_some_and(|protocol| protocol.as_bytes() == spdy::PROTOCOL.as_bytes());
    if !tunnel && ports.is_empty() {
        return error(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
    }
    let addresses = ["127.0.0.1".to_owned(), "::1".to_owned(), shared.facts.address.clone()];
    let (stop, destination) = (shared.stop.clone(), Destination { pod, addresses });
    upgrade.on_upgrade(move |socket| async move {
        if tunnel {
            stop.run_until_cancelled(spdy::serve(socket, destination)).await;
        } else if let Some(channels) = Channels::new(socket) {
            stop.run_until_cancelled(serve(channels, destination, ports)).await;
        }
    })
}

async fn serve(mut channels: Channels, destination: Destination, ports: Vec<u16>) {
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let sender = channels.sender();
        // The first message of each channel is the port it is for.
        sender.send(channel, &port.to_le_bytes()).await;
        sender.send(channel + 1, &port.to_le_bytes()).await;
        let (input, queue) = mpsc::channel(16);
        inputs.push(Some(input));
        connections.spawn(connection(destination.clone(), port, channel, sender, queue));
    }
    loop {
        tokio::select! {
            incoming = channels.next() => match incoming {
                None => return,
                Some(Incoming::Data(channel, data)) if channel % 2 == 0 => {
                    let slot = inputs.get_mut(usize::from(channel / 2));
                    if let Some(slot) = slot && let Some(input) = slot && input.send(data).await.is_err() {
                        *slot = None;
                    }
                }
                Some(_) => {}
            },
            done = connections.join_next() => if done.is_none() { break },
        }
    }
    channels.close().await;
}

async fn connection(destination: Destination, port: u16, channel: u8, sender: Sender, input: mpsc::Receiver<Bytes>) {
    let send = |said: Bytes| {
        let sender = sender.clone();
        async move { sender.send(channel, &said).await }
    };
    if let Err(problem) = carry(&destination, port, input, send).await {
        sender.send(channel + 1, problem.as_bytes()).await;
    }
}

/// Carries data both ways between a client and a port until the far end has said everything, or `send`, which takes what
/// it says, answers that nobody listens. The near end's closing only ends its own direction.
///
/// # Errors
/// In the words that the client is told.
pub(super) async fn carry<F: Future<Output = bool>>(
    destination: &Destination,
    port: u16,
    mut input: mpsc::Receiver<Bytes>,
    send: impl Fn(Bytes) -> F,
) -> Result<(), String> {
    let (mut reader, mut writer) = destination.connect(port).await?.into_split();
    let upstream = async {
        while let Some(data) = input.recv().await {
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    let downstream = async {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match reader.read(&mut buffer).await {
                Ok(length @ 1..) if send(Bytes::copy_from_slice(&buffer[..length])).await => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(format!("error forwarding port {port}: {error}")),
            }
        }
    };
    tokio::select! {
        result = downstream => result,
        () = async { upstream.await; std::future::pending::<()>().await } => Ok(()),
    }
}
