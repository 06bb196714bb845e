//! Reading many watches with as little work as can be: what the reader takes of the processor, the server lacks.
//!
//! HTTP/2 is spoken by hand: requests are written as they are, answers are cut into frames, and nothing but the time that
//! was written into each object is looked for in them.

use std::time::Instant;

use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::Target;

/// What stands before the time, in microseconds, at which an object was sent; a space follows it.
const MARK: &str = "\"sent\":\"at ";
/// Bytes of a stream after which its window is opened again.
const REFRESH: u32 = 64 * 1024;
/// What client-go allows each stream to be ahead.
const WINDOW: u32 = 4 << 20;
/// What it allows a connection to be ahead, beyond what every connection may.
const CONNECTION_WINDOW: u32 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
/// Of SETTINGS and PING.
const ACK: u8 = 1;

/// How old each object was when it came, in microseconds.
pub(crate) struct Ages {
    finder: Finder<'static>,
    started: Instant,
    /// The end of what came, without the end of its event.
    rest: Vec<u8>,
    pub(crate) ages: Vec<u32>,
}

impl Ages {
    pub(crate) fn new(started: Instant, capacity: usize) -> Self {
        Self { finder: Finder::new(MARK), started, rest: Vec::new(), ages: Vec::with_capacity(capacity) }
    }

    /// Bytes of a watch, in the order in which they come.
    fn take(&mut self, bytes: &[u8], now: u64) {
        if self.rest.is_empty() {
            let taken = self.scan(bytes, now);
            self.rest.extend_from_slice(&bytes[taken..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let taken = self.scan(&rest, now);
            rest.drain(..taken);
            self.rest = rest;
        }
    }

    /// Finds the times of whole events; how much of the bytes is done with.
    fn scan(&mut self, bytes: &[u8], now: u64) -> usize {
        let whole = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let mut from = 0;
        while let Some(at) = self.finder.find(&bytes[from..whole]) {
            from += at + MARK.len();
            let digits = bytes[from..whole].iter().take_while(|b| b.is_ascii_digit());
            let sent = digits.fold(0, |n, b| n * 10 + u64::from(b - b'0'));
            self.ages.push(u32::try_from(now - sent).unwrap());
        }
        whole
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap()
    }
}

/// One watch over a connection of HTTP/1.1, until so many objects came. The sizes of the chunks pass as part of the events.
pub(crate) struct Http1 {
    stream: TlsStream<BufReader<TcpStream>>,
    ages: Ages,
    count: usize,
    buffer: Vec<u8>,
}

impl Http1 {
    /// Sends the request; returns when it is answered.
    pub(crate) async fn open(target: &Target, path: &str, ages: Ages, count: usize) -> Self {
        let mut stream = target.tls_through(|stream| BufReader::with_capacity(64 * 1024, stream)).await.unwrap();
        let Target { address, token, .. } = target;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut buffer = Vec::with_capacity(16 * 1024);
        while memchr::memmem::find(&buffer, b"\r\n\r\n").is_none() {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "no answer");
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "the status is not 200");
        Self { stream, ages, count, buffer }
    }

    /// Reads to the end.
    pub(crate) async fn read(mut self) -> Vec<Ages> {
        loop {
            let now = self.ages.now();
            self.ages.take(&self.buffer, now);
            if self.ages.ages.len() >= self.count {
                return vec![self.ages];
            }
            self.buffer.clear();
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the watch has ended");
        }
    }
}

/// Watches that share a connection of HTTP/2, until so many objects came to each.
pub(crate) struct Http2 {
    stream: TlsStream<BufReader<TcpStream>>,
    watches: Vec<(Ages, u32)>,
    count: usize,
    buffer: Vec<u8>,
    answer: Vec<u8>,
}

impl Http2 {
    /// Sends the requests; returns when all are answered.
    pub(crate) async fn open(target: &Target, path: &str, ages: Vec<Ages>, count: usize) -> Self {
        let mut stream = target.tls_through(|stream| BufReader::with_capacity(64 * 1024, stream)).await.unwrap();
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // No pushes, and the window of each stream.
        frame(&mut hello, SETTINGS, 0, 0, &[&[0, 2, 0, 0, 0, 0, 0, 4], &WINDOW.to_be_bytes()[..]].concat());
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &CONNECTION_WINDOW.to_be_bytes());
        // From the static table: GET, https, and the names of the others.
        let mut fields = vec![0x82, 0x87];
        for (name, value) in [
            (&[0x04][..], path),
            (&[0x01][..], target.address.as_str()),
            (&[0x0f, 0x08][..], &format!("Bearer {}", target.token)),
        ] {
            fields.extend_from_slice(name);
            length(&mut fields, value.len());
            fields.extend_from_slice(value.as_bytes());
        }
        for index in 0..ages.len() {
            // The end of the header block and of the stream.
            frame(&mut hello, HEADERS, 0x5, id(index), &fields);
        }
        stream.write_all(&hello).await.unwrap();
        stream.flush().await.unwrap();
        let watches: Vec<_> = ages.into_iter().map(|ages| (ages, 0)).collect();
        let mut this = Self { stream, watches, count, buffer: Vec::with_capacity(256 * 1024), answer: Vec::new() };
        let mut answered = 0;
        while answered < this.watches.len() {
            answered += this.step().await;
        }
        this
    }

    /// Reads to the end.
    pub(crate) async fn read(mut self) -> Vec<Ages> {
        while self.watches.iter().any(|(watch, _)| watch.ages.len() < self.count) {
            self.step().await;
        }
        self.watches.into_iter().map(|(ages, _)| ages).collect()
    }

    /// Reads what is there; how many requests were answered.
    async fn step(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the connection has ended");
        let now = self.watches[0].0.now();
        let mut at = 0;
        let mut answered = 0;
        while let Some(head) = self.buffer.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = self.buffer.get(at + 9..at + 9 + length) else { break };
            at += 9 + length;
            match kind {
                DATA => {
                    let (ages, unacknowledged) = &mut self.watches[stream as usize / 2];
                    ages.take(payload, now);
                    *unacknowledged += u32::try_from(length).unwrap();
                    if *unacknowledged >= REFRESH {
                        frame(&mut self.answer, WINDOW_UPDATE, 0, stream, &unacknowledged.to_be_bytes());
                        frame(&mut self.answer, WINDOW_UPDATE, 0, 0, &unacknowledged.to_be_bytes());
                        *unacknowledged = 0;
                    }
                }
                HEADERS => {
                    assert!(payload.first() == Some(&0x88), "the status is not 200");
                    answered += 1;
                }
                SETTINGS | PING if flags & ACK == 0 => {
                    let back = if kind == PING { payload.to_vec() } else { Vec::new() };
                    frame(&mut self.answer, kind, ACK, 0, &back);
                }
                other => assert!(
                    matches!(other, SETTINGS | PING | WINDOW_UPDATE),
                    "a frame of type {other}: {:?}",
                    String::from_utf8_lossy(payload)
                ),
            }
        }
        self.buffer.drain(..at);
        if !self.answer.is_empty() {
            self.stream.write_all(&self.answer).await.unwrap();
            self.stream.flush().await.unwrap();
            self.answer.clear();
        }
        answered
    }
}

/// The number of a connection's request.
fn id(index: usize) -> u32 {
    u32::try_from(index * 2 + 1).unwrap()
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A length as HPACK writes it, of a text that is not compressed.
fn length(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return out.push(u8::try_from(length).unwrap()) };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}
