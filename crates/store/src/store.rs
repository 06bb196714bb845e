//! [`Store`]: the public handle. Reads go to the shared state, writes to the writer thread.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::dir::Dir;
use crate::disk::Disk;
use crate::entry::{Entry, Revision};
use crate::error::{ListError, OpenError, TooOld, WaitError, WriteError};
use crate::options::{ListOptions, Options, Snapshot, Write, Written};
use crate::state::{Shared, State};
use crate::watch::Watcher;
use crate::writer::{self, Request};

/// A store. Clones share it; it closes with [`Store::close`] or when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
    revisions: watch::Receiver<Revision>,
}

impl Store {
    /// Opens the store in `dir`, creating both if need be, and reads all of it into memory. Blocks.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Store, OpenError> {
        let dir = Dir::lock(dir.as_ref(), options.locking)?;
        let (disk, loaded) = Disk::open(dir)?;
        let state = State::loaded(loaded.revision, loaded.entries, &options);
        Store::start(state, Some(disk), options)
    }

    /// A store that is gone when the last clone is dropped; otherwise it behaves the same.
    pub fn in_memory(options: Options) -> Result<Store, OpenError> {
        Store::start(State::loaded(0, Vec::new(), &options), None, options)
    }

    fn start(state: State, disk: Option<Disk>, options: Options) -> Result<Store, OpenError> {
        let (revision_sender, revisions) = watch::channel(state.revision());
        let (queue, requests) = mpsc::channel(options.queue.max(1));
        let shared = Arc::new(Shared::new(state));
        writer::spawn(shared.clone(), disk, requests, revision_sender, &options)?;
        Ok(Store { shared, queue, revisions })
    }

    /// The revision of the latest durable change.
    pub fn revision(&self) -> Revision {
        self.shared.read().revision()
    }

    /// The revision, and a wake-up whenever it grows.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }

    /// Changes up to this revision are forgotten: watches must begin at it or later.
    pub fn compacted(&self) -> Revision {
        self.shared.read().compacted()
    }

    /// One entry.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Arc<Entry>> {
        self.shared.read().get(bucket, key)
    }

    /// A consistent list in key order, as of now or of an earlier revision.
    pub fn list(&self, bucket: &str, options: &ListOptions<'_>) -> Result<Snapshot, ListError> {
        self.shared.list(bucket, options)
    }

    /// How many keys the bucket has.
    pub fn count(&self, bucket: &str) -> usize {
        self.shared.read().count(bucket)
    }

    /// The buckets that have keys, sorted.
    pub fn buckets(&self) -> Vec<Arc<str>> {
        self.shared.read().buckets()
    }

    /// Every change of keys with this prefix after the given revision. A revision in the future is allowed: the watcher
    /// is silent until the store has passed it.
    pub fn watch(&self, bucket: &str, prefix: &str, after: Revision) -> Result<Watcher, TooOld> {
        let (bucket, id, slot) = self.shared.subscribe(bucket, prefix, after)?;
        Ok(Watcher::new(self.shared.clone(), bucket, id, slot, after))
    }

    /// Writes, and returns when the change is durable and visible. If the future is dropped the write may still happen.
    pub async fn write(&self, write: Write) -> Result<Written, WriteError> {
        let mut written = self.transact(vec![write]).await?;
        written.pop().ok_or(WriteError::Closed)
    }

    /// Several writes at once, all or none; each gets its own revision. The error is that of the first write refused.
    pub async fn transact(&self, writes: Vec<Write>) -> Result<Vec<Written>, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request::Transact { writes, reply }).await.map_err(|_| WriteError::Closed)?;
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Forgets the history up to a revision. A revision beyond the current one forgets all of it.
    pub fn compact(&self, revision: Revision) {
        self.shared.compact(revision);
    }

    /// What gives back memory when nothing has been written for a while: those who watch have read what there was, and
    /// whoever comes back later than the short history that is left reads everything again. It does not keep the store open.
    pub fn settler(&self) -> impl Fn() + Send + 'static + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.settle();
            }
        }
    }

    /// Waits until the store has reached a revision.
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<Revision, WaitError> {
        let mut revisions = self.revisions.clone();
        match tokio::time::timeout(timeout, revisions.wait_for(|now| *now >= revision)).await {
            Ok(Ok(now)) => Ok(*now),
            Ok(Err(_)) => Err(WaitError::Closed),
            Err(_) => Err(WaitError::Timeout { current: self.revision() }),
        }
    }

    /// Finishes the queued writes and closes the files. Afterwards writes and watches say `Closed`, reads still work,
    /// and the directory can be opened again.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Request::Close { reply }).await.is_ok() {
            // An error means that the writer has ended already, which is what was wanted.
            let _ = answer.await;
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}
