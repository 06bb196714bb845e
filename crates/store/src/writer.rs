//! The writer thread: takes what is queued, plans it as one batch, commits it with one fsync, publishes it, answers.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::Batch;
use crate::disk::Disk;
use crate::entry::Revision;
use crate::error::{OpenError, WriteError};
use crate::options::{Options, Permit, Write, Written};
use crate::state::Shared;

/// At most this many transactions share a commit, so that nobody waits long behind a flood.
const BATCH: usize = 1024;
/// How long a commit waits for those who took part in the last one to come back with their next write.
const LINGER: Duration = Duration::from_micros(150);

type Answer = Result<Vec<Written>, WriteError>;

/// What the writer is asked to do.
pub(crate) enum Request {
    Transact { writes: Vec<Write>, reply: oneshot::Sender<Answer> },
    Close { reply: oneshot::Sender<()> },
}

struct Writer {
    shared: Arc<Shared>,
    disk: Option<Disk>,
    requests: mpsc::Receiver<Request>,
    revisions: watch::Sender<Revision>,
    max_value_bytes: usize,
    permit: Option<Permit>,
    /// The last revision given out; runs ahead of the published one after a failed commit.
    revision: Revision,
}

/// Starts the thread. It ends with a `Close` request or when nobody can send requests any more.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    disk: Option<Disk>,
    requests: mpsc::Receiver<Request>,
    revisions: watch::Sender<Revision>,
    options: &Options,
) -> Result<(), OpenError> {
    let revision = shared.read().revision();
    let max_value_bytes = options.max_value_bytes;
    let permit = options.permit.clone();
    let writer = Writer { shared, disk, requests, revisions, max_value_bytes, permit, revision };
    let started = thread::Builder::new().name("store-writer".into()).spawn(move || writer.run());
    started.map(drop).map_err(|source| OpenError::Io { step: "start a thread for", path: "the store".into(), source })
}

impl Writer {
    fn run(mut self) {
        let mut transactions = Vec::new();
        let mut last = 0;
        let closing = loop {
            let Some(request) = self.requests.blocking_recv() else { break None };
            let mut closing = collect(request, &mut transactions);
            if closing.is_none() {
                closing = self.gather(&mut transactions, last);
            }
            last = transactions.len();
            if last > 0 {
                self.commit(transactions.drain(..));
            }
            if closing.is_some() {
                break closing;
            }
        };
        self.requests.close();
        // Closes the database and lets go of the directory before anybody is told.
        drop(self.disk.take());
        self.shared.close();
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Takes what else is queued. If the last batch was larger, its writers are probably about to write again: waiting
    /// for them a moment is far cheaper than another fsync.
    fn gather(&mut self, transactions: &mut Vec<Transaction>, last: usize) -> Option<oneshot::Sender<()>> {
        let deadline = Instant::now() + LINGER;
        loop {
            while transactions.len() < BATCH {
                match self.requests.try_recv() {
                    Ok(request) => {
                        let closing = collect(request, transactions);
                        if closing.is_some() {
                            return closing;
                        }
                    }
                    Err(_) => break,
                }
            }
            if self.disk.is_none() || transactions.len() >= last.min(BATCH) || Instant::now() >= deadline {
                return None;
            }
            thread::yield_now();
        }
    }

    fn commit(&mut self, transactions: impl Iterator<Item = Transaction>) {
        let shared = &self.shared;
        let mut batch = Batch::new(self.revision, self.max_value_bytes, |bucket, key| shared.read().get(bucket, key));
        let answers: Vec<_> = transactions.map(|(writes, reply)| (batch.add(writes), reply)).collect();
        let (planned, revision) = batch.finish();
        // As late as can be: whoever lost the right to write must not touch the files any more.
        if !planned.is_empty() && self.permit.as_ref().is_some_and(|permit| !permit.holds()) {
            for (_, reply) in answers {
                let _ = reply.send(Err(WriteError::Closed));
            }
            return;
        }
        self.revision = revision;
        if !planned.is_empty() {
            let changes = planned.len();
            let durable = match &mut self.disk {
                Some(disk) => disk.commit(planned, revision),
                None => Ok(planned),
            };
            match durable {
                Ok(planned) => self.shared.publish(planned, revision),
                Err(error) => {
                    tracing::error!(%error, changes, "commit failed");
                    let error: Arc<str> = error.into();
                    for (_, reply) in answers {
                        // Also those who were refused: it may have been because of a write that now never happened.
                        let _ = reply.send(Err(WriteError::Io(error.clone())));
                    }
                    return;
                }
            }
            self.revisions.send_replace(revision);
        }
        for (answer, reply) in answers {
            // Whoever does not wait for the answer any more does not need it.
            let _ = reply.send(answer);
        }
    }
}

type Transaction = (Vec<Write>, oneshot::Sender<Answer>);

fn collect(request: Request, transactions: &mut Vec<Transaction>) -> Option<oneshot::Sender<()>> {
    match request {
        Request::Transact { writes, reply } => {
            transactions.push((writes, reply));
            None
        }
        Request::Close { reply } => Some(reply),
    }
}
