//! [`Watcher`]: a cursor into a bucket's history. It has no queue of its own, so a slow one costs nothing and slows
//! nobody; if the history moves on past its cursor it is told that it lagged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::Notify;

use crate::entry::{Event, Revision};
use crate::error::WatchError;
use crate::state::Shared;

/// How many events a watcher takes out of the history at a time.
pub(crate) const CHUNK: usize = 64;

/// The part of a watcher that the publisher sees.
pub(crate) struct Slot {
    pub(crate) prefix: Box<str>,
    /// Absolute index into the bucket's log of the first event not yet looked at. Written under the state lock.
    pub(crate) cursor: AtomicU64,
    /// Has a permit when there may be something to read.
    pub(crate) wake: Notify,
}

/// Delivers the changes of a bucket's prefix in order. Dropping it ends the watch.
pub struct Watcher {
    shared: Arc<Shared>,
    bucket: Arc<str>,
    id: u64,
    slot: Arc<Slot>,
    /// Events up to this revision are not wanted.
    after: Revision,
    buffer: VecDeque<Arc<Event>>,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, bucket: Arc<str>, id: u64, slot: Arc<Slot>, after: Revision) -> Watcher {
        Watcher { shared, bucket, id, slot, after, buffer: VecDeque::new() }
    }

    /// The next change; waits for it. Cancel safe.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            self.slot.wake.notified().await;
        }
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchError> {
        if self.buffer.is_empty() {
            self.shared.fill(&self.bucket, &self.slot, self.after, &mut self.buffer)?;
        }
        let event = self.buffer.pop_front();
        if let Some(event) = &event {
            self.after = event.revision;
        }
        Ok(event)
    }

    /// Waits until there may be a change to read. Cancel safe.
    pub async fn changed(&self) {
        if self.buffer.is_empty() {
            self.slot.wake.notified().await;
        }
    }

    /// The revision of the last change that was delivered; before the first, the one that the watch began after.
    pub fn position(&self) -> Revision {
        self.after
    }

    /// Passes over the changes up to a revision: another watcher of the same bucket and prefix delivered them.
    pub fn skip_to(&mut self, revision: Revision) -> Result<(), WatchError> {
        while self.buffer.front().is_some_and(|event| event.revision <= revision) {
            self.buffer.pop_front();
        }
        self.after = self.after.max(revision);
        if self.buffer.is_empty() { self.shared.skip(&self.bucket, &self.slot, self.after) } else { Ok(()) }
    }

    /// The revision up to which this watcher has delivered every change: what a bookmark may claim.
    pub fn progress(&self) -> Revision {
        if self.buffer.is_empty() { self.shared.progress(&self.bucket, &self.slot, self.after) } else { self.after }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.unwatch(&self.bucket, self.id);
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("bucket", &self.bucket)
            .field("prefix", &self.slot.prefix)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
