//! The channel protocols of exec, attach and port-forward over WebSocket: the first byte of a message is its channel.
//!
//! With `v5.channel.k8s.io` a client (never the server) can close a channel (255 and its number), with `v4.channel.k8s.io` not, and
//! `v4.base64.channel.k8s.io` (an older form for browsers) writes both the number and the data as text.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Protocols, the best first.
pub(super) const PROTOCOLS: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// Longest message that is taken.
pub(super) const LONGEST_MESSAGE: usize = 1 << 20;

/// The number that announces the end of a channel.
const CLOSE: u8 = 255;

/// Which form messages have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    V5,
    V4,
    V4Base64,
}

impl Protocol {
    /// The protocol of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "v5.channel.k8s.io" => Some(Self::V5),
            "v4.channel.k8s.io" => Some(Self::V4),
            "v4.base64.channel.k8s.io" => Some(Self::V4Base64),
            _ => None,
        }
    }

    /// A message with data for a channel.
    fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self == Self::V4Base64 {
            let mut text = String::with_capacity(1 + data.len() * 4 / 3 + 4);
            text.push(char::from(b'0'.saturating_add(channel)));
            STANDARD.encode_string(data, &mut text);
            return Message::Text(text.into());
        }
        let mut bytes = Vec::with_capacity(1 + data.len());
        bytes.push(channel);
        bytes.extend_from_slice(data);
        Message::Binary(bytes.into())
    }

    /// What a message says; `None` where it is not one of this protocol.
    fn decode(self, message: Message) -> Option<Incoming> {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text.as_str().to_owned()),
            _ => return None,
        };
        let channel = *data.first()?;
        let rest = data.slice(1..);
        match self {
            Self::V5 if channel == CLOSE => Some(Incoming::Closed(*rest.first()?)),
            Self::V4Base64 => {
                let channel = channel.checked_sub(b'0').filter(|channel| *channel < 10)?;
                Some(Incoming::Data(channel, STANDARD.decode(&rest).ok()?.into()))
            }
            Self::V5 | Self::V4 => Some(Incoming::Data(channel, rest)),
        }
    }
}

/// Something that the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Data on a channel.
    Data(u8, Bytes),
    /// Nothing more will come on a channel.
    Closed(u8),
}

/// A connection with channels.
pub(super) struct Channels {
    protocol: Protocol,
    incoming: SplitStream<WebSocket>,
    outgoing: mpsc::Sender<Message>,
    writer: JoinHandle<()>,
}

/// Sends on the channels of a connection.
#[derive(Clone)]
pub(super) struct Sender {
    protocol: Protocol,
    outgoing: mpsc::Sender<Message>,
}

impl Channels {
    /// The channels of `socket`; `None` where the client speaks none of the protocols.
    pub(super) fn new(socket: WebSocket) -> Option<Self> {
        let protocol = Protocol::named(socket.protocol()?.to_str().ok()?)?;
        let (mut sink, incoming) = socket.split();
        let (outgoing, mut queue) = mpsc::channel::<Message>(8);
        let writer = tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            // Clients take every other code, and none at all, for a failure.
            let _ = sink.send(Message::Close(Some(CloseFrame { code: 1000, reason: Utf8Bytes::default() }))).await;
        });
        Some(Self { protocol, incoming, outgoing, writer })
    }

    /// A sender.
    pub(super) fn sender(&self) -> Sender {
        Sender { protocol: self.protocol, outgoing: self.outgoing.clone() }
    }

    /// What the client sends next; `None` once it is gone.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self.incoming.next().await? {
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(message) => {
                    if let Some(incoming) = self.protocol.decode(message) {
                        return Some(incoming);
                    }
                }
            }
        }
    }

    /// Closes the connection once everything was sent. All senders must be gone.
    pub(super) async fn close(self) {
        drop(self.outgoing);
        let mut incoming = self.incoming;
        let mut writer = self.writer;
        // The client's answer is read, or the connection would be reset under what was sent.
        let wait = async {
            let _ = (&mut writer).await;
            while let Some(Ok(_)) = incoming.next().await {}
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), wait).await;
        writer.abort();
    }
}

impl Sender {
    /// Sends data on a channel; false once the client is gone.
    pub(super) async fn send(&self, channel: u8, data: &[u8]) -> bool {
        self.outgoing.send(self.protocol.encode(channel, data)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_both_ways() {
        for protocol in [Protocol::V5, Protocol::V4, Protocol::V4Base64] {
            for data in [&b""[..], b"x", b"\x00\xff\n"] {
                let message = protocol.encode(2, data);
                assert_eq!(
                    protocol.decode(message),
                    Some(Incoming::Data(2, Bytes::copy_from_slice(data))),
                    "{protocol:?}"
                );
            }
        }
    }

    #[test]
    fn hostile_messages() {
        let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
        assert_eq!(Protocol::V5.decode(binary(&[255, 0])), Some(Incoming::Closed(0)));
        assert_eq!(Protocol::V4.decode(binary(&[255, 0])), Some(Incoming::Data(255, Bytes::from_static(&[0]))));
        assert_eq!(Protocol::V5.decode(binary(&[255])), None);
        assert_eq!(Protocol::V5.decode(binary(&[])), None);
        assert_eq!(Protocol::V4Base64.decode(Message::Text("0!!!".into())), None);
        assert_eq!(Protocol::V4Base64.decode(Message::Text("\u{1}YQ==".into())), None);
        assert_eq!(Protocol::V4Base64.decode(Message::Text("0YQ==".into())), Some(Incoming::Data(0, "a".into())));
        assert_eq!(Protocol::V4.decode(Message::Ping(Bytes::new())), None);
    }
}
