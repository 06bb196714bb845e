//! What callers hand in and get back: [`Options`], [`Write`], [`ListOptions`], [`Snapshot`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::entry::{Entry, Revision};

/// What the lock on a store's directory is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locking {
    /// A store that cannot be locked is not opened.
    #[default]
    Required,
    /// Something else makes sure that there is one process; file systems without locks are taken as they are.
    WhereSupported,
}

/// Whether this process may still write, asked before each commit.
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn() -> bool + Send + Sync>);

impl Permit {
    /// A permit that holds as long as the function says so. It is called on the writer thread and must be quick.
    pub fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    pub(crate) fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.holds()).finish()
    }
}

/// Limits of a store, and who may write.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest value. The default, 2 MiB, is etcd's request limit of 1.5 MiB and room for what a server adds.
    pub max_value_bytes: usize,
    /// How many changes the history keeps at most.
    pub history_events: usize,
    /// How many bytes of values that are no longer current the history keeps alive at most. A store with little in it
    /// keeps less, see [`history_least`](Self::history_least).
    pub history_bytes: usize,
    /// How many of these bytes are kept whatever the store contains. Between the two it is as much as half of what is
    /// current: whoever comes back too late reads everything again, which is cheap where there is little.
    pub history_least: usize,
    /// How many of these bytes [`Store::settler`](crate::Store::settler) leaves at most.
    pub history_settled: usize,
    /// How old a change in the history may be; older ones are dropped with the next write.
    pub history_age: Duration,
    /// How many writes may wait for the writer before `write` itself waits.
    pub queue: usize,
    /// What the lock on the directory is worth.
    pub locking: Locking,
    /// Where something besides the lock says who may write: without it nothing is committed.
    pub permit: Option<Permit>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_value_bytes: 2 << 20,
            history_events: 100_000,
            history_bytes: 32 << 20,
            history_least: 4 << 20,
            history_settled: 512 << 10,
            history_age: Duration::from_secs(15 * 60),
            queue: 4096,
            locking: Locking::Required,
            permit: None,
        }
    }
}

/// What must be true of the key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists at exactly this revision.
    Revision(Revision),
    /// The key exists.
    Present,
    /// Nothing (but deleting what does not exist is still `NotFound`).
    Any,
}

/// Makes the bytes once the revision is known. Runs on the writer thread, so it must be quick.
pub type Bake = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// What a write does.
pub enum Change {
    /// Creates or replaces the value.
    Put(Bake),
    /// Removes the key; the bytes are its final state, which watchers are shown.
    Delete(Bake),
}

/// One write.
pub struct Write {
    /// The bucket, for instance `batch/jobs`.
    pub bucket: Arc<str>,
    /// The key inside the bucket, for instance `default/job-1`.
    pub key: Arc<str>,
    /// What must be true.
    pub expect: Expect,
    /// What to do.
    pub change: Change,
}

impl Write {
    /// Creates or replaces a value.
    pub fn put(
        bucket: impl Into<Arc<str>>,
        key: impl Into<Arc<str>>,
        expect: Expect,
        bake: impl FnOnce(Revision) -> Bytes + Send + 'static,
    ) -> Write {
        Write { bucket: bucket.into(), key: key.into(), expect, change: Change::Put(Box::new(bake)) }
    }

    /// Deletes a key; `bake` makes the final state.
    pub fn delete(
        bucket: impl Into<Arc<str>>,
        key: impl Into<Arc<str>>,
        expect: Expect,
        bake: impl FnOnce(Revision) -> Bytes + Send + 'static,
    ) -> Write {
        Write { bucket: bucket.into(), key: key.into(), expect, change: Change::Delete(Box::new(bake)) }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Put(_) => "Put",
            Change::Delete(_) => "Delete",
        };
        f.debug_struct("Write")
            .field("bucket", &self.bucket)
            .field("key", &self.key)
            .field("expect", &self.expect)
            .field("change", &change)
            .finish()
    }
}

/// A write that is durable.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its revision.
    pub revision: Revision,
    /// The new state; after a delete the final state.
    pub entry: Arc<Entry>,
    /// The state before.
    pub prev: Option<Arc<Entry>>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys after this one (exclusive); the last key of the page before.
    pub start_after: Option<&'a str>,
    /// At most this many; 0 is no limit.
    pub limit: usize,
    /// How many there are after `start_after`, where that is known from the page before: they need not be counted.
    pub rest: Option<usize>,
    /// The store as it was at this revision instead of as it is now.
    pub at_revision: Option<Revision>,
}

/// A consistent list in key order.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The revision of the store that this is a picture of.
    pub revision: Revision,
    /// The entries, in key order.
    pub entries: Vec<Arc<Entry>>,
    /// How many more there are after the last one, beyond the limit.
    pub remaining: usize,
}

impl Snapshot {
    /// Whether the limit cut the list off.
    pub fn more(&self) -> bool {
        self.remaining > 0
    }
}
