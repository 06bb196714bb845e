//! The input of a program at the far end of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// A connection's own half does not end the input by being dropped; this does.
pub(crate) struct Input<W: AsyncWrite + Send + Unpin + 'static> {
    pub(crate) half: Option<W>,
    /// Whether its end can be told.
    pub(crate) tells: bool,
    /// Whether its end is told when this is dropped.
    pub(crate) ends: bool,
}

impl<W: AsyncWrite + Send + Unpin + 'static> Drop for Input<W> {
    fn drop(&mut self) {
        if !(self.tells && self.ends) {
            return;
        }
        if let (Some(mut half), Ok(runtime)) = (self.half.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { half.shutdown().await });
        }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> AsyncWrite for Input<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.half {
            Some(half) => Pin::new(half).poll_write(context, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half.as_mut().map_or(Poll::Ready(Ok(())), |half| Pin::new(half).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tells = self.tells;
        let half = self.half.as_mut().filter(|_| tells);
        half.map_or(Poll::Ready(Ok(())), |half| Pin::new(half).poll_shutdown(context))
    }
}
