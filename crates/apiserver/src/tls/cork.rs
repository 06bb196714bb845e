//! What one turn of a connection writes leaves together.
//!
//! HTTP/2 flushes after every DATA frame: with many streams on a connection that would be a TLS record, a system call and
//! a packet for each. Here a flush during a turn (one poll of the connection) does nothing, and what was written leaves at
//! the end of the turn, in few large records. A connection of HTTP/2 is woken by the first of its streams that has
//! something; it waits one turn for the others, which were woken by the same event and are about to be polled.

use std::cell::Cell;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait for the end of a turn at most.
const MOST: usize = 64 * 1024;
/// Writes of this size gain nothing by being put together with others.
const LARGE: usize = 16 * 1024;
/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
thread_local! {
    /// Room for what the next connection writes: only who has something to send has any.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream whose writes wait for the end of a turn.
pub(super) struct Corked<S>(Arc<Mutex<Inner<S>>>);

/// Gives turns to the connection that a [`Corked`] stream belongs to.
pub(super) struct Turns<S>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    stream: S,
    waiting: Vec<u8>,
    /// So much of it is sent.
    sent: usize,
    /// A turn is going on.
    corked: bool,
    /// The client has begun to speak HTTP/2.
    http2: Option<bool>,
    /// What waits has waited for a turn already.
    waited: bool,
    /// Why the end of a turn could not send; told at the next occasion.
    error: Option<Error>,
}

/// A stream, and what drives the connection over it.
pub(super) fn corked<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> (Corked<S>, Turns<S>) {
    let inner = Inner { stream, waiting: Vec::new(), sent: 0, corked: false, http2: None, waited: false, error: None };
    let shared = Arc::new(Mutex::new(inner));
    (Corked(shared.clone()), Turns(shared))
}

impl<S: AsyncWrite + Unpin> Turns<S> {
    /// Drives a connection to its end.
    pub(super) async fn drive<F: Future>(self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        std::future::poll_fn(|context| {
            lock(&self.0).corked = true;
            let polled = connection.as_mut().poll(context);
            let mut inner = lock(&self.0);
            inner.corked = false;
            if polled.is_pending() && inner.waits() {
                // Behind those that are to be polled already.
                context.waker().wake_by_ref();
                return polled;
            }
            // Pending: the rest leaves at a later turn, which begins when there is room.
            if let Poll::Ready(Err(error)) = inner.poll_all(context) {
                inner.error = Some(error);
                context.waker().wake_by_ref();
            }
            polled
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// Whether what was written waits for another turn.
    fn waits(&mut self) -> bool {
        let more = self.http2 == Some(true) && (1..MOST).contains(&self.waiting.len());
        self.waited = more && !self.waited;
        self.waited
    }

    /// Hands everything that waits to the stream.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.sent < self.waiting.len() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        if self.waiting.capacity() > 0 {
            give_back(std::mem::take(&mut self.waiting));
        }
        Poll::Ready(Ok(()))
    }

    /// Hands everything that waits to the stream, and the stream's to the network.
    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Whether a write of so many bytes is to be put with what waits, for which there is room then.
    fn poll_gather(&mut self, context: &mut Context<'_>, length: usize) -> Poll<Result<bool>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        if self.waiting.len() >= MOST || (length >= LARGE && !self.waiting.is_empty()) {
            ready!(self.poll_drain(context))?;
        }
        if length < LARGE && self.waiting.capacity() == 0 {
            self.waiting = SPARE.take();
        }
        Poll::Ready(Ok(length < LARGE))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut inner = lock(&self.0);
        let before = buffer.filled().len();
        ready!(Pin::new(&mut inner.stream).poll_read(context, buffer))?;
        if inner.http2.is_none() {
            // In pieces it is not recognised, which costs no more than what is to be saved here.
            inner.http2 = Some(buffer.filled()[before..].starts_with(PREFACE));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let mut inner = lock(&self.0);
        if !ready!(inner.poll_gather(context, bytes.len()))? {
            return Pin::new(&mut inner.stream).poll_write(context, bytes);
        }
        inner.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let mut inner = lock(&self.0);
        let length = parts.iter().map(|part| part.len()).sum();
        if !ready!(inner.poll_gather(context, length))? {
            return Pin::new(&mut inner.stream).poll_write_vectored(context, parts);
        }
        for part in parts {
            inner.waiting.extend_from_slice(part);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut inner = lock(&self.0);
        if let Some(error) = inner.error.take() {
            return Poll::Ready(Err(error));
        }
        // Outside of a turn it is somebody else who writes: a WebSocket, which the connection was handed to.
        if inner.corked { Poll::Ready(Ok(())) } else { inner.poll_all(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_drain(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

/// Keeps the larger one for who comes next.
fn give_back(mut room: Vec<u8>) {
    room.clear();
    SPARE.with(|spare| {
        let other = spare.take();
        spare.set(if other.capacity() > room.capacity() { other } else { room });
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Keeps what is written, write by write, as long as there is room.
    #[derive(Clone, Default)]
    struct Network {
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        full: Arc<AtomicUsize>,
        input: &'static [u8],
    }

    const BROKEN: usize = usize::MAX;

    impl Network {
        fn lengths(&self) -> Vec<usize> {
            lock(&self.writes).iter().map(Vec::len).collect()
        }
    }

    impl AsyncRead for Network {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.input));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Network {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            match self.full.load(Ordering::Relaxed) {
                0 => {
                    lock(&self.writes).push(bytes.to_vec());
                    Poll::Ready(Ok(bytes.len()))
                }
                BROKEN => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
                polls => {
                    self.full.store(polls - 1, Ordering::Relaxed);
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_turn_is_one_write() {
        let network = Network::default();
        let (mut stream, turns) = corked(network.clone());
        turns
            .drive(async {
                for _ in 0..3 {
                    stream.write_all(b"head").await.unwrap();
                    stream.flush().await.unwrap();
                }
                assert_eq!(network.lengths(), [0; 0], "before the end of the turn");
                tokio::task::yield_now().await;
                assert_eq!(network.lengths(), [12]);
                // What is large is not copied, and follows what was written before it.
                stream.write_all(b"head").await.unwrap();
                stream.write_all(&[b'x'; LARGE]).await.unwrap();
                assert_eq!(network.lengths(), [12, 4, LARGE]);
                stream.write_all(b"end").await.unwrap();
            })
            .await;
        assert_eq!(network.lengths(), [12, 4, LARGE, 3]);
        // Whom the connection was handed to writes at once.
        stream.write_all(b"socket").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(network.lengths().pop(), Some(6));
    }

    #[tokio::test]
    async fn streams_of_a_connection_wait_for_each_other() {
        let network = Network { input: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ..Network::default() };
        let (mut stream, turns) = corked(network.clone());
        turns
            .drive(async {
                assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 24);
                for turn in 0..4 {
                    stream.write_all(b"frame").await.unwrap();
                    stream.flush().await.unwrap();
                    assert_eq!(network.lengths(), vec![10; turn / 2]);
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert_eq!(network.lengths(), [10, 10]);
    }

    #[tokio::test]
    async fn a_full_network_holds_the_writer_back() {
        let network = Network { full: Arc::new(AtomicUsize::new(5)), ..Network::default() };
        let (mut stream, turns) = corked(network.clone());
        turns
            .drive(async {
                for _ in 0..100 {
                    stream.write_all(&[b'x'; 4096]).await.unwrap();
                    let waiting = lock(&stream.0).waiting.len();
                    assert!(waiting <= MOST + LARGE, "{waiting} bytes wait");
                }
            })
            .await;
        assert_eq!(network.lengths().iter().sum::<usize>(), 100 * 4096);
    }

    #[tokio::test]
    async fn a_broken_network_is_told() {
        let network = Network::default();
        let (mut stream, turns) = corked(network.clone());
        let error = turns
            .drive(async {
                stream.write_all(b"lost").await.unwrap();
                network.full.store(BROKEN, Ordering::Relaxed);
                tokio::task::yield_now().await;
                stream.flush().await.unwrap_err()
            })
            .await;
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
