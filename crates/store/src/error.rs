//! The ways in which store operations fail, an enum per operation.

use std::path::PathBuf;
use std::sync::Arc;

use crate::entry::{Entry, Revision};

/// Why a store could not be opened. None of these changes anything on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the store open.
    #[error("{} is in use by another process{}; stop it, or choose another directory", path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, if it left its number.
        pid: Option<u32>,
    },
    /// The files are damaged.
    #[error("the store in {} is damaged: {detail}; restore it from a backup, or move the directory away to start afresh", path.display())]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The directory holds something else.
    #[error("{} is not a store: {detail}; choose an empty directory", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer program wrote the files.
    #[error("the store in {} has format version {found}, this program knows up to {supported}; use the newer program", path.display())]
    NewerVersion {
        /// The directory.
        path: PathBuf,
        /// The version on disk.
        found: u64,
        /// The newest version this program reads.
        supported: u64,
    },
    /// The operating system refused something.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Why a write did not happen. Nothing of it is visible.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// [`crate::Expect::Absent`], but the key exists.
    #[error("the key exists at revision {}", current.revision)]
    Exists {
        /// What is there.
        current: Arc<Entry>,
    },
    /// The key does not exist.
    #[error("the key does not exist")]
    NotFound,
    /// [`crate::Expect::Revision`], but the key is at another one.
    #[error("the key is at revision {}", current.revision)]
    Conflict {
        /// What is there.
        current: Arc<Entry>,
    },
    /// The value (or the key) is larger than [`crate::Options::max_value_bytes`] (or 4 KiB) allows.
    #[error("{size} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The size that was asked for.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The caller's closure panicked; nothing was written.
    #[error("making the bytes failed: {0}")]
    Aborted(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The disk did not take it. The store is as it was before, and a later write may succeed. Should the process die
    /// before one does, the write may turn out to have happened.
    #[error("the disk refused the write: {0}")]
    Io(Arc<str>),
}

/// The revision is no longer in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} is too old, the history begins after {compacted}")]
pub struct TooOld {
    /// What was asked for.
    pub requested: Revision,
    /// Changes up to this revision are forgotten.
    pub compacted: Revision,
}

/// Why a list was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The snapshot is no longer in the history.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// The snapshot is not there yet.
    #[error("revision {requested} is in the future, the store is at {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The revision of the store.
        current: Revision,
    },
}

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watcher read too slowly, and changes it had not read left the history. List and watch again.
    #[error("the watcher lagged behind the history")]
    Lagged,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why [`crate::Store::wait_for`] gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The revision did not come in time.
    #[error("the store is at revision {current}")]
    Timeout {
        /// The revision of the store.
        current: Revision,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}
