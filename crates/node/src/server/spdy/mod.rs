//! Port-forwarding as kubectl does it: SPDY/3.1 frames inside the messages of a WebSocket.
//!
//! For every connection that kubectl takes it opens a pair of streams that share a `requestid`: one for data, one for the
//! words of an error. The data stream becomes a TCP connection; its end is told by the end of both streams.

mod frame;
mod header;

use std::collections::HashMap;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::forward::{self, Destination};
use frame::{Decoder, Frame, Refusal};
use header::{Headers, Packer, Unpacker};

/// The subprotocol.
pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Most streams at once.
const MOST_STREAMS: usize = 2_000;

type Outgoing = mpsc::Sender<Vec<u8>>;

/// What a stream is for.
enum Stream {
    /// It carries words of an error, from here only.
    Errors,
    /// It carries data; `input` leads to the TCP connection until the client has said everything.
    Data { input: Option<mpsc::Sender<Bytes>>, end: CancellationToken },
}

/// A pair of streams of which the second has not come yet.
#[derive(Default)]
struct Half {
    errors: Option<u32>,
    data: Option<(u32, u16, mpsc::Receiver<Bytes>, CancellationToken)>,
}

/// Serves one client until it goes.
pub(super) async fn serve(socket: WebSocket, destination: Destination) {
    let (mut sink, mut incoming) = socket.split();
    let (outgoing, mut queue) = mpsc::channel::<Vec<u8>>(16);
    let writer = tokio::spawn(async move {
        while let Some(frame) = queue.recv().await {
            if sink.send(Message::Binary(frame.into())).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await;
    });
    let mut tunnel = Tunnel {
        destination,
        outgoing,
        unpacker: Unpacker::new(),
        packer: Packer::default(),
        streams: HashMap::new(),
        halves: HashMap::new(),
        connections: JoinSet::new(),
    };
    let mut decoder = Decoder::default();
    'read: loop {
        let message = tokio::select! {
            message = incoming.next() => message,
            Some(done) = tunnel.connections.join_next() => {
                if let Ok((errors, data)) = done {
                    tunnel.streams.remove(&errors);
                    tunnel.streams.remove(&data);
                }
                continue;
            }
        };
        match message {
            Some(Ok(Message::Binary(data))) => decoder.push(&data),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            _ => break,
        }
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    if !tunnel.hear(frame).await {
                        break 'read;
                    }
                }
                Ok(None) => break,
                Err(_) => break 'read,
            }
        }
    }
    // The connections end with the set that holds them.
    drop(tunnel);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), writer).await;
}

struct Tunnel {
    destination: Destination,
    outgoing: Outgoing,
    unpacker: Unpacker,
    packer: Packer,
    streams: HashMap<u32, Stream>,
    halves: HashMap<String, Half>,
    /// Each gives the ids of its two streams when it is over.
    connections: JoinSet<(u32, u32)>,
}

impl Tunnel {
    /// Does what a frame asks for; `false`: the tunnel is over.
    async fn hear(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Open { id, headers, fin } => {
                let Some(headers) = self.unpacker.unpack(&headers) else { return false };
                let answer = match self.open(id, &headers, fin) {
                    Ok(()) => frame::accept(id, &self.packer.pack(&[])),
                    Err(why) => frame::reset(id, why),
                };
                if self.outgoing.send(answer).await.is_err() {
                    return false;
                }
                self.connect(&headers);
                true
            }
            Frame::Headers(headers) => self.unpacker.unpack(&headers).is_some(),
            Frame::Data { id, data, fin } => {
                if let Some(Stream::Data { input, .. }) = self.streams.get_mut(&id) {
                    if let Some(queue) = input
                        && !data.is_empty()
                        && queue.send(data).await.is_err()
                    {
                        *input = None;
                    }
                    if fin {
                        *input = None;
                    }
                }
                true
            }
            Frame::Reset { id } => {
                if let Some(Stream::Data { end, .. }) = self.streams.remove(&id) {
                    end.cancel();
                }
                true
            }
            Frame::Ping(id) => self.outgoing.send(frame::pong(id)).await.is_ok(),
            Frame::GoAway | Frame::Other => true,
        }
    }

    fn open(&mut self, id: u32, headers: &Headers, fin: bool) -> Result<(), Refusal> {
        if self.streams.len() >= MOST_STREAMS {
            return Err(Refusal::Refused);
        }
        if self.streams.contains_key(&id) {
            return Err(Refusal::Protocol);
        }
        let request = value(headers, "requestid").ok_or(Refusal::Protocol)?;
        let port = value(headers, "port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let port: u16 = port.ok_or(Refusal::Protocol)?;
        let half = self.halves.entry(request.to_owned()).or_default();
        let stream = match value(headers, "streamtype") {
            Some("error") if half.errors.is_none() => {
                half.errors = Some(id);
                Stream::Errors
            }
            Some("data") if half.data.is_none() => {
                let (input, queue) = mpsc::channel(16);
                let end = CancellationToken::new();
                half.data = Some((id, port, queue, end.clone()));
                Stream::Data { input: Some(input).filter(|_| !fin), end }
            }
            _ => return Err(Refusal::Protocol),
        };
        self.streams.insert(id, stream);
        Ok(())
    }

    /// Connects, once both streams of a pair are there.
    fn connect(&mut self, headers: &Headers) {
        let Some(request) = value(headers, "requestid") else { return };
        if self.halves.get(request).is_none_or(|half| half.errors.is_none() || half.data.is_none()) {
            return;
        }
        let Some(Half { errors: Some(errors), data: Some((data, port, input, end)) }) = self.halves.remove(request)
        else {
            return;
        };
        let (destination, outgoing) = (self.destination.clone(), self.outgoing.clone());
        self.connections.spawn(async move {
            let send = |said: Bytes| {
                let outgoing = outgoing.clone();
                async move { outgoing.send(frame::data(data, &said, false)).await.is_ok() }
            };
            let run = forward::carry(&destination, port, input, send);
            let problem = end.run_until_cancelled(run).await.and_then(Result::err);
            if let Some(problem) = problem {
                let _ = outgoing.send(frame::data(errors, problem.as_bytes(), false)).await;
            }
            let _ = outgoing.send(frame::data(errors, &[], true)).await;
            let _ = outgoing.send(frame::data(data, &[], true)).await;
            (errors, data)
        });
    }
}

fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
