//! What is stored and what is told about it: [`Entry`] and [`Event`], shared by `Arc` between readers.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The number of a change; strictly increasing over the whole store and its life.
pub type Revision = u64;

/// Something a reader derived from an entry's bytes and keeps beside them.
pub type Cached = Arc<dyn Any + Send + Sync>;

/// One version of a stored value.
pub struct Entry {
    /// The key inside its bucket.
    pub key: Arc<str>,
    /// The value.
    pub bytes: Bytes,
    /// The revision that created the key; unique in the store.
    pub created: Revision,
    /// The revision of this version.
    pub revision: Revision,
    /// A slot for what a reader decoded from `bytes`, so that decoding happens once per version.
    pub cache: OnceLock<Cached>,
}

impl Entry {
    pub(crate) fn new(key: Arc<str>, bytes: Bytes, created: Revision, revision: Revision) -> Arc<Entry> {
        Arc::new(Entry { key, bytes, created, revision, cache: OnceLock::new() })
    }

    /// What the first caller made of this version, typed. `None` if the slot holds something of another type.
    pub fn cached<T: Any + Send + Sync>(&self, decode: impl FnOnce(&Bytes) -> Arc<T>) -> Option<Arc<T>> {
        let cached = self.cache.get_or_init(|| decode(&self.bytes));
        Arc::downcast(cached.clone()).ok()
    }
}

impl fmt::Debug for Entry {
    /// Without the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("len", &self.bytes.len())
            .field("created", &self.created)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Created (then [`Event::prev`] is `None`) or replaced.
    Put,
    /// Deleted; [`Event::entry`] is the final state given by whoever deleted it.
    Delete,
}

/// One change, as watchers see it.
#[derive(Debug)]
pub struct Event {
    /// The revision of the change, the same as `entry.revision`.
    pub revision: Revision,
    /// What happened.
    pub kind: EventKind,
    /// The state after the change; for a delete the final state.
    pub entry: Arc<Entry>,
    /// The state before the change.
    pub prev: Option<Arc<Entry>>,
}
