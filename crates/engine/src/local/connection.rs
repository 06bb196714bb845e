//! The engine's side of a container's control socket.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::control::{self, Reply, Request};
use crate::dir::{ContainerDir, SOCKET};
use crate::sys;

/// One connection.
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the shim of a container.
    pub(super) async fn open(directory: &ContainerDir) -> io::Result<Self> {
        // A socket's path must fit into 108 bytes; through the descriptor of its directory it always does.
        let parent = sys::open_path(directory.path())?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", parent.as_raw_fd());
        let stream = UnixStream::connect(path).await?;
        Ok(Self { stream, received: Vec::new(), fds: Vec::new() })
    }

    /// Connects and asks.
    pub(super) async fn ask(directory: &ContainerDir, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let mut connection = Self::open(directory).await?;
        connection.send(request, fds).await?;
        Ok(connection)
    }

    pub(super) async fn send(&mut self, request: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = control::encode(request)?;
        let (mut rest, mut fds) = (bytes.as_slice(), fds);
        while !rest.is_empty() {
            let write = || control::send(self.stream.as_fd(), rest, fds);
            let sent = self.stream.async_io(Interest::WRITABLE, write).await?;
            rest = &rest[sent..];
            fds = &[];
        }
        Ok(())
    }

    /// The next answer; `None`: the shim closed, and is gone. May be cancelled without losing anything.
    pub(super) async fn next(&mut self) -> io::Result<Option<Reply>> {
        loop {
            if let Some(reply) = control::decode(&mut self.received)? {
                return Ok(Some(reply));
            }
            let (stream, bytes) = (&self.stream, &mut self.received);
            // The buffer is not kept while waiting, which is what most connections do for hours.
            let read = || {
                let mut buffer = [0; 2048];
                let received = control::receive(stream.as_fd(), &mut buffer)?;
                bytes.extend_from_slice(&buffer[..received.length]);
                Ok(received)
            };
            let received = match stream.async_io(Interest::READABLE, read).await {
                Ok(received) if received.length == 0 => return Ok(None),
                Ok(received) => received,
                // Said once, when it closed without reading everything; what it had said before is still to come.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(error) => return Err(error),
            };
            self.fds.extend(received.fds);
        }
    }

    /// A descriptor that came with an answer.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop()
    }
}
