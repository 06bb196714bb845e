//! Watches: a stream of changes given to a handler, with the restarts of kube's watcher turned into plain changes.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use futures::{Stream, StreamExt, pin_mut};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;

/// What happened to an object.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// It exists and looks like this.
    Seen(K),
    /// It is gone; this is its last state.
    Gone(K),
    /// A list begins. Until it is complete, nothing is known to be gone.
    Listing,
    /// The list is complete: what was not seen since [`Change::Listing`] is gone.
    Listed,
}

/// Gives every change to `handle`, for ever. Errors are waited out.
pub(crate) async fn each<K>(
    name: &'static str,
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    mut handle: impl FnMut(Change<K>) + Send,
) {
    let stream = stream.default_backoff();
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => handle(Change::Seen(object)),
            Ok(watcher::Event::Delete(object)) => handle(Change::Gone(object)),
            Ok(watcher::Event::Init) => handle(Change::Listing),
            Ok(watcher::Event::InitDone) => handle(Change::Listed),
            // Normal while the server starts, restarts, or has forgotten the history.
            Err(error) => tracing::debug!(watch = name, %error, "watch interrupted"),
        }
    }
}

/// Remembers what a list has shown, to know what is gone when it is complete.
#[derive(Debug)]
pub(crate) struct Listing<K> {
    seen: Option<HashSet<K>>,
}

impl<K: Eq + Hash + Debug> Listing<K> {
    pub(crate) fn new() -> Self {
        Listing { seen: None }
    }

    pub(crate) fn begin(&mut self) {
        self.seen = Some(HashSet::new());
    }

    pub(crate) fn see(&mut self, key: impl FnOnce() -> K) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key());
        }
    }

    /// The keys of the complete list.
    pub(crate) fn end(&mut self) -> HashSet<K> {
        self.seen.take().unwrap_or_default()
    }
}
