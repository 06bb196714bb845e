//! What an engine and a shim say to each other over the container's control socket.
//!
//! One connection, one [`Request`] (an attach may be followed by [`Request::Resize`] and [`Request::CloseInput`]), then
//! [`Reply`]s until either side closes. A message is a length (four bytes, little endian) and JSON; descriptors travel
//! beside its first byte.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::spec::Exit;

/// Longest message; a command line is at most two megabytes.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Most descriptors with one message.
const MAX_FDS: usize = 4;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answer [`Reply::Exit`] once it ended.
    Wait,
    /// End it; answer [`Reply::Exit`].
    Stop { grace_millis: u64 },
    /// Run a program beside it. Without a terminal its input (if any), output and error output come along.
    /// Answers [`Reply::Running`], then [`Reply::Code`]. Hanging up kills the program.
    Exec(Program),
    /// Copy its output into the descriptors that come along: output, error output, input if `input`.
    Attach { input: bool },
    /// For an attach: the terminal's new size.
    Resize { columns: u16, rows: u16 },
    /// For an attach: when what was sent has been passed on, the container's input ends.
    CloseInput,
}

/// A program to run by exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) user: Option<u32>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) working_dir: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The container ended.
    Exit(Exit),
    /// The program of an exec runs (with a terminal, its master comes along), or the attach is connected.
    Running,
    /// The program of an exec ended.
    Code(i32),
    /// It cannot be done.
    Refused(String),
}

/// What the shim tells the engine that started it, once, over its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs.
    Started { program: i32, started_at_nanos: i128 },
    /// It did not start, and counts as ended.
    Failed(Exit),
    /// Another shim has this container.
    Busy,
    /// Nothing was launched: this host does not allow sandboxes.
    Unavailable(String),
    /// The answer of a probe: a sandbox can be made, in this way.
    Works(String),
    /// Nothing was launched: the container's directory or log cannot be written.
    Broken(String),
}

/// Encodes a message.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE {
        return Err(io::Error::other("message too long"));
    }
    bytes[..4].copy_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    Ok(bytes)
}

/// Takes one message off the front of what was received; `None`: not all of it is there.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other("message too long"));
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

/// Sends bytes, with descriptors beside the first one. Returns how many bytes were taken.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(rustix::net::sendmsg(socket, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Waits for a message on a socket that keeps messages apart, and gives its length without taking it.
pub(crate) fn next_length(socket: impl AsFd) -> io::Result<usize> {
    let nothing: &mut [u8] = &mut [];
    Ok(rustix::net::recv(socket, nothing, RecvFlags::PEEK | RecvFlags::TRUNC)?.1)
}

/// What one receive gave.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// How many bytes; zero: the other side closed.
    pub(crate) length: usize,
    pub(crate) fds: Vec<OwnedFd>,
    /// Process that sent it, where the socket asks for credentials.
    pub(crate) sender: Option<i32>,
}

/// Receives bytes and the descriptors that came with them.
pub(crate) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Received { length: message.bytes, ..Received::default() };
    for part in ancillary.drain() {
        match part {
            RecvAncillaryMessage::ScmRights(fds) => received.fds.extend(fds),
            RecvAncillaryMessage::ScmCredentials(sender) => received.sender = Some(sender.pid.as_raw_nonzero().get()),
            _ => {}
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Messages come out as they went in, wherever the stream is cut; garbage is an error or incomplete, never a panic.
        #[test]
        fn messages_survive_any_cut(grace in any::<u64>(), cut in 0usize..40, noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = encode(&Request::Stop { grace_millis: grace }).unwrap();
            let cut = cut.min(bytes.len() - 1);
            let mut buffer = bytes[..cut].to_vec();
            prop_assert!(decode::<Request>(&mut buffer).unwrap().is_none());
            buffer.extend_from_slice(&bytes[cut..]);
            let decoded = decode::<Request>(&mut buffer).unwrap().unwrap();
            let same = matches!(decoded, Request::Stop { grace_millis } if grace_millis == grace);
            prop_assert!(same);
            prop_assert!(buffer.is_empty());
            let mut noise = noise;
            let _ = decode::<Request>(&mut noise);
        }
    }
}
