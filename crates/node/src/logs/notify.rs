//! Tells readers that a log grew, with one inotify descriptor for the whole node.
//!
//! A follower watches the directory of its log file. Where inotify is not to be had (its limits are per user), followers
//! look again twice a second.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that it waits for")]

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How often a follower looks again where the kernel does not tell.
const FALLBACK: Duration = Duration::from_millis(500);

/// The node's one source of news about log files.
#[derive(Clone, Default)]
pub(crate) struct Notifier(Arc<Mutex<Option<Arc<Inner>>>>);

struct Inner {
    descriptor: Arc<AsyncFd<OwnedFd>>,
    watches: Mutex<HashMap<i32, (Arc<Notify>, usize)>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// One follower's interest in a directory.
pub(crate) struct Interest {
    inner: Option<(Arc<Inner>, i32)>,
    notify: Arc<Notify>,
}

impl Notifier {
    /// News of files in `directory` from now on.
    pub(crate) fn watch(&self, directory: &Path) -> Interest {
        let watched = self.inner().and_then(|inner| {
            let descriptor = inner.descriptor.get_ref();
            let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
            let mut watches = lock(&inner.watches);
            let id = inotify::add_watch(descriptor, directory, flags).ok()?;
            let entry = watches.entry(id).or_default();
            entry.1 += 1;
            let notify = Arc::clone(&entry.0);
            drop(watches);
            Some((inner, id, notify))
        });
        match watched {
            Some((inner, id, notify)) => Interest { inner: Some((inner, id)), notify },
            None => Interest { inner: None, notify: Arc::default() },
        }
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        let mut slot = lock(&self.0);
        if slot.is_none() {
            *slot = Inner::new();
        }
        slot.clone()
    }
}

impl Inner {
    fn new() -> Option<Arc<Self>> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        // SAFETY: an `OwnedFd` that nobody else has stays open, and stays the same file, until it is dropped.
        let descriptor = Arc::new(unsafe { AsyncFd::register(descriptor) }.ok()?);
        let inner =
            Arc::new(Self { descriptor: Arc::clone(&descriptor), watches: Mutex::default(), task: Mutex::default() });
        let task = tokio::spawn(read_events(descriptor, Arc::downgrade(&inner)));
        *lock(&inner.task) = Some(task.abort_handle());
        Some(inner)
    }
}

async fn read_events(descriptor: Arc<AsyncFd<OwnedFd>>, inner: Weak<Inner>) {
    loop {
        let Ok(mut ready) = descriptor.readable().await else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(descriptor.get_ref(), &mut buffer);
        let Some(inner) = inner.upgrade() else { return };
        loop {
            match reader.next() {
                Ok(event) => {
                    if let Some((notify, _)) = lock(&inner.watches).get(&event.wd()) {
                        notify.notify_waiters();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(_) => return,
            }
        }
        ready.clear_ready();
    }
}

impl Interest {
    /// Waits for the next news. What happens after this future was made is not missed.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + '_ {
        // `notified` counts from its creation, not from its first poll.
        let notified = self.notify.notified();
        let fallback = self.inner.is_none();
        async move { if fallback { tokio::time::sleep(FALLBACK).await } else { notified.await } }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let Some((inner, id)) = self.inner.take() else { return };
        let mut watches = lock(&inner.watches);
        if let Some((_, users)) = watches.get_mut(&id) {
            *users -= 1;
            if *users == 0 {
                watches.remove(&id);
                let _ = inotify::remove_watch(inner.descriptor.get_ref(), id);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_hear_of_their_own_directory_only() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let notifier = Notifier::default();
        let (first, second, other) = (notifier.watch(a.path()), notifier.watch(a.path()), notifier.watch(b.path()));
        let (heard, heard_too, unheard) = (first.changed(), second.changed(), other.changed());
        std::fs::write(a.path().join("f"), "x").unwrap();
        let both = async { tokio::join!(heard, heard_too) };
        tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), unheard).await.is_err());
        drop(first);
        let heard = second.changed();
        std::fs::write(a.path().join("f"), "y").unwrap();
        tokio::time::timeout(Duration::from_secs(5), heard).await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_is_looked_at_again() {
        let interest = Notifier::default().watch(Path::new("/nonexistent/kubetask"));
        tokio::time::timeout(Duration::from_secs(5), interest.changed()).await.unwrap();
    }
}
