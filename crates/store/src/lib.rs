//! A small durable revisioned store: bytes, keys, revisions, watches.
//!
//! **Purpose.** Keeps opaque values under `(bucket, key)`, gives every change one strictly increasing
//! [`Revision`], answers only after the change is durable, and tells watchers about it in order.
//!
//! **Main type.** [`Store`]: a cheap handle; clone it freely.
//!
//! **Data flow.** `write` → queue → the writer thread checks the expectation, lets the caller bake the revision
//! into the bytes, and commits everything that was queued with one fsync (group commit) → the changes are
//! published to the in-memory maps and to the history → the caller is answered and watchers are woken.
//! `get`, `list` and `watch` never touch the disk.
//!
//! **Invariants.**
//! * Readers and watchers only ever see durable data.
//! * Revisions grow by at least one with each change, across deletes, failures and restarts.
//! * A watcher sees each change of its prefix exactly once and in order, or it is told that it lagged.
//! * A transaction is visible as a whole or not at all, in memory and after a crash.
//!
//! What is on disk is described in `FORMAT.md`.

mod batch;
mod dir;
mod disk;
mod entry;
mod error;
mod options;
mod record;
mod state;
mod store;
mod watch;
mod writer;

pub use entry::{Cached, Entry, Event, EventKind, Revision};
pub use error::{ListError, OpenError, TooOld, WaitError, WatchError, WriteError};
pub use options::{Bake, Change, Expect, ListOptions, Locking, Options, Permit, Snapshot, Write, Written};
pub use store::Store;
pub use watch::Watcher;
