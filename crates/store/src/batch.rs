//! [`Batch`]: what one commit will do. Checks each write against the published state and the writes before it in the
//! same batch; knows nothing of disks and threads.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::entry::{Entry, EventKind, Revision};
use crate::error::WriteError;
use crate::options::{Change, Expect, Write, Written};

/// Longer keys and bucket names are refused; Kubernetes' own are under 600 bytes.
pub(crate) const MAX_KEY_BYTES: usize = 4096;

/// A checked change, ready to be committed and then published.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) bucket: Arc<str>,
    pub(crate) kind: EventKind,
    pub(crate) entry: Arc<Entry>,
    pub(crate) prev: Option<Arc<Entry>>,
}

type Place = (Arc<str>, Arc<str>);

/// The changes of one commit.
pub(crate) struct Batch<F> {
    /// Looks up the published state.
    lookup: F,
    /// What this batch has changed; `None` is deleted.
    overlay: HashMap<Place, Option<Arc<Entry>>>,
    planned: Vec<Planned>,
    revision: Revision,
    max_value_bytes: usize,
}

impl<F: Fn(&str, &str) -> Option<Arc<Entry>>> Batch<F> {
    /// A batch on top of a state at `revision`.
    pub(crate) fn new(revision: Revision, max_value_bytes: usize, lookup: F) -> Self {
        Batch { lookup, overlay: HashMap::new(), planned: Vec::new(), revision, max_value_bytes }
    }

    /// Adds a transaction: all of its writes, or none and the reason.
    pub(crate) fn add(&mut self, writes: Vec<Write>) -> Result<Vec<Written>, WriteError> {
        let first = self.planned.len();
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            match self.plan(write) {
                Ok(done) => written.push(done),
                Err(error) => {
                    self.undo(first);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// The changes, and the revision after them. Revisions of transactions that were refused are not used again.
    pub(crate) fn finish(self) -> (Vec<Planned>, Revision) {
        (self.planned, self.revision)
    }

    fn current(&self, place: &Place) -> Option<Arc<Entry>> {
        match self.overlay.get(place) {
            Some(changed) => changed.clone(),
            None => (self.lookup)(&place.0, &place.1),
        }
    }

    fn plan(&mut self, write: Write) -> Result<Written, WriteError> {
        let Write { bucket, key, expect, change } = write;
        for name in [&bucket, &key] {
            if name.len() > MAX_KEY_BYTES {
                return Err(WriteError::TooLarge { size: name.len(), limit: MAX_KEY_BYTES });
            }
        }
        let place = (bucket.clone(), key.clone());
        let prev = self.current(&place);
        match (expect, &prev) {
            (Expect::Absent, Some(current)) => return Err(WriteError::Exists { current: current.clone() }),
            (Expect::Revision(_) | Expect::Present, None) => return Err(WriteError::NotFound),
            (Expect::Revision(wanted), Some(current)) if current.revision != wanted => {
                return Err(WriteError::Conflict { current: current.clone() });
            }
            _ => {}
        }
        let revision = self.revision + 1;
        let (kind, bake) = match change {
            Change::Put(bake) => (EventKind::Put, bake),
            Change::Delete(_) if prev.is_none() => return Err(WriteError::NotFound),
            Change::Delete(bake) => (EventKind::Delete, bake),
        };
        let bytes = catch_unwind(AssertUnwindSafe(|| bake(revision)))
            .map_err(|panic| WriteError::Aborted(panic_message(&*panic)))?;
        if bytes.len() > self.max_value_bytes {
            return Err(WriteError::TooLarge { size: bytes.len(), limit: self.max_value_bytes });
        }
        let created = prev.as_ref().map_or(revision, |e| e.created);
        // One allocation per key for as long as the key lives.
        let key = prev.as_ref().map_or(key, |e| e.key.clone());
        let entry = Entry::new(key, bytes, created, revision);
        self.revision = revision;
        self.overlay.insert(place, (kind == EventKind::Put).then(|| entry.clone()));
        self.planned.push(Planned { bucket, kind, entry: entry.clone(), prev: prev.clone() });
        Ok(Written { revision, entry, prev })
    }

    /// Takes back everything planned since `first`.
    fn undo(&mut self, first: usize) {
        while self.planned.len() > first {
            let Some(last) = self.planned.pop() else { break };
            // Also right when `prev` is what was published: the overlay then repeats it.
            self.overlay.insert((last.bucket, last.entry.key.clone()), last.prev);
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic").to_owned()
}
