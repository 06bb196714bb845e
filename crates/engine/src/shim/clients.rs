//! The connections to the control socket: what each asked for, and what it is still to be told.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::attach::Attach;
use crate::control::{self, Reply, Request};

/// Most connections at once; more are closed again.
const MAX_CLIENTS: usize = 512;

/// What a connection is for.
pub(super) enum Role {
    /// It has not said so yet.
    New,
    /// It waits for the end of the container.
    Waits,
    /// It has a program running.
    Exec(u32),
    /// It is attached.
    Attached(Attach),
}

/// One connection.
pub(super) struct Client {
    pub(super) id: u32,
    pub(super) socket: OwnedFd,
    pub(super) role: Role,
    received: Vec<u8>,
    /// Descriptors that came with what was received.
    pub(super) fds: Vec<OwnedFd>,
}

impl Client {
    /// Reads what there is and gives the requests that are complete. An error: the connection is over.
    pub(super) fn read(&mut self) -> io::Result<Vec<Request>> {
        let mut buffer = [0; 16 * 1024];
        let received = match control::receive(&self.socket, &mut buffer) {
            Ok(received) if received.length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.received.extend_from_slice(&buffer[..received.length]);
        self.fds.extend(received.fds);
        if self.fds.len() > 8 {
            return Err(io::Error::other("too many descriptors"));
        }
        let mut requests = Vec::new();
        while let Some(request) = control::decode(&mut self.received)? {
            requests.push(request);
        }
        Ok(requests)
    }

    /// Answers. A client that does not take an answer this small is as good as gone.
    pub(super) fn reply(&self, reply: &Reply, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = control::encode(reply)?;
        let sent = control::send(&self.socket, &bytes, fds)?;
        if sent < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

/// All connections.
#[derive(Default)]
pub(super) struct Clients {
    all: Vec<Client>,
    next: u32,
}

impl Clients {
    /// Takes a new connection.
    pub(super) fn add(&mut self, socket: OwnedFd) {
        if self.all.len() < MAX_CLIENTS {
            self.next += 1;
            let client = Client { id: self.next, socket, role: Role::New, received: Vec::new(), fds: Vec::new() };
            self.all.push(client);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.all.iter()
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Client> {
        self.all.iter_mut().find(|client| client.id == id)
    }

    /// The client whose program this is.
    pub(super) fn of_exec(&self, exec: u32) -> Option<&Client> {
        self.all.iter().find(|client| matches!(client.role, Role::Exec(id) if id == exec))
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Client> {
        let place = self.all.iter().position(|client| client.id == id)?;
        Some(self.all.swap_remove(place))
    }

    /// The attached ones, with their ids.
    pub(super) fn attached(&mut self) -> impl Iterator<Item = (u32, &mut Attach)> {
        self.all.iter_mut().filter_map(|client| match &mut client.role {
            Role::Attached(attach) => Some((client.id, attach)),
            _ => None,
        })
    }
}
