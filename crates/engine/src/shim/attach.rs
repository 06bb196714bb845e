//! One attached client: copies of the container's output go out to it, its input comes in.
//!
//! A client that does not read slows the container down, as a terminal would, but only for [`PATIENCE`]: then it is dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::log::Stream;
use crate::sys;

/// How long a client may hold the container up.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A client's ends of its streams.
pub(super) struct Attach {
    outputs: [Option<OwnedFd>; 2],
    pending: [Vec<u8>; 2],
    stalled_since: Option<Instant>,
    pub(super) input: Option<OwnedFd>,
    /// The client closed its input on purpose, so the container's input ends too.
    pub(super) closes_input: bool,
}

impl Attach {
    /// Takes over what came with the request: output, error output, input if any.
    pub(super) fn new(fds: Vec<OwnedFd>, input: bool) -> io::Result<Self> {
        fds.iter().try_for_each(sys::set_nonblocking)?;
        let mut fds = fds.into_iter();
        let outputs = [fds.next(), fds.next()];
        let input = if input { fds.next() } else { None };
        Ok(Self { outputs, pending: [Vec::new(), Vec::new()], stalled_since: None, input, closes_input: false })
    }

    /// Passes output on, as much as the client takes now.
    pub(super) fn write(&mut self, stream: Stream, data: &[u8]) {
        self.pending[stream as usize].extend_from_slice(data);
        self.flush();
    }

    /// Passes on what was held back.
    pub(super) fn flush(&mut self) {
        for (output, pending) in self.outputs.iter_mut().zip(&mut self.pending) {
            while let Some(fd) = output
                && !pending.is_empty()
            {
                match rustix::io::write(&*fd, pending) {
                    Ok(written) => {
                        pending.drain(..written);
                        self.stalled_since = None;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    // It reads no more; the other stream goes on.
                    Err(_) => *output = None,
                }
            }
            if output.is_none() {
                pending.clear();
            }
        }
        if self.is_behind() {
            self.stalled_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether something is held back.
    pub(super) fn is_behind(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_empty())
    }

    /// When patience ends with a client that does not read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_behind() { self.stalled_since.map(|since| since + PATIENCE) } else { None }
    }

    /// The descriptors that wait to be written to.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &OwnedFd> {
        self.outputs.iter().zip(&self.pending).filter_map(|(fd, pending)| fd.as_ref().filter(|_| !pending.is_empty()))
    }
}
