//! [`Queue`]: keys that need work. A key is worked on by one worker at a time, however often it is added meanwhile;
//! added while being worked on, it is done once more afterwards. Keys can be due later, and wait longer after each failure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::Context;
use crate::error::Error;

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What a worker wants after it has done a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Wait,
    /// To look again after this time.
    After(Duration),
    /// To look again after a delay that grows each time in a row.
    Retry,
}

struct Inner<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when the worker is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The keys of `later`, by their number.
    later_keys: HashMap<u64, K>,
    /// When each of them is due first; later wishes are dropped, since whoever works on a key wishes anew.
    due: HashMap<K, Instant>,
    next_number: u64,
    failures: HashMap<K, u32>,
}

/// A queue of keys.
pub(crate) struct Queue<K> {
    inner: Mutex<Inner<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash + Debug + Send + Sync + 'static> Queue<K> {
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: BinaryHeap::new(),
            later_keys: HashMap::new(),
            due: HashMap::new(),
            next_number: 0,
            failures: HashMap::new(),
        };
        Arc::new(Queue { inner: Mutex::new(inner), wake: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key needs work now.
    pub(crate) fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// The key needs work after a while.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        // Far in the future is as good as never, and must not overflow.
        let at = Instant::now() + delay.min(Duration::from_secs(365 * 24 * 3600));
        let mut inner = self.lock();
        if inner.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        let number = inner.next_number;
        inner.next_number += 1;
        inner.due.insert(key.clone(), at);
        inner.later.push(Reverse((at, number)));
        inner.later_keys.insert(number, key);
        drop(inner);
        self.wake.notify_one();
    }

    /// The next key to work on; [`Queue::done`] must follow.
    async fn next(&self) -> K {
        loop {
            let due = {
                let mut inner = self.lock();
                let due = inner.promote(Instant::now());
                if let Some(key) = inner.take() {
                    return key;
                }
                due
            };
            match due {
                None => self.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn done(&self, key: &K, next: Next) {
        let delay = {
            let mut inner = self.lock();
            inner.working.remove(key);
            if inner.dirty.contains(key) {
                inner.ready.push_back(key.clone());
                self.wake.notify_one();
            }
            match next {
                Next::Retry => {
                    let failures = inner.failures.entry(key.clone()).or_insert(0);
                    *failures += 1;
                    Some(FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(20)).min(LAST_RETRY))
                }
                Next::After(delay) => {
                    inner.failures.remove(key);
                    Some(delay)
                }
                Next::Wait => {
                    inner.failures.remove(key);
                    None
                }
            }
        };
        if let Some(delay) = delay {
            self.add_after(key.clone(), delay);
        }
    }

    /// Works on keys until the controllers stop. A failure is logged and tried again later.
    pub(crate) async fn run<F, Fut>(self: Arc<Self>, context: Context, name: &'static str, work: F)
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let workers = Arc::new(Semaphore::new(context.concurrency));
        loop {
            let Ok(permit) = workers.clone().acquire_owned().await else { return };
            let key = self.next().await;
            let working = work(key.clone());
            let queue = self.clone();
            context.spawn(async move {
                let next = working.await.unwrap_or_else(|error| {
                    tracing::debug!(controller = name, ?key, error = %error.report(), "will try again");
                    Next::Retry
                });
                queue.done(&key, next);
                drop(permit);
            });
        }
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    /// Whether somebody has to be woken.
    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Moves what is due to the ready ones; says when the next one is.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.later.peek().copied() {
            if at > now {
                return Some(at);
            }
            self.later.pop();
            let Some(key) = self.later_keys.remove(&number) else { continue };
            // Otherwise it was due earlier, and that was done.
            if self.due.get(&key) == Some(&at) {
                self.due.remove(&key);
                self.add(key);
            }
        }
        None
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_done_once_and_again_if_it_was_added_meanwhile() {
        let queue = Queue::new();
        queue.add(1);
        queue.add(1);
        queue.add(2);
        assert_eq!(queue.next().await, 1);
        queue.add(1);
        assert_eq!(queue.next().await, 2);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err(), "1 is being worked on");
        queue.done(&1, Next::Wait);
        assert_eq!(queue.next().await, 1);
        queue.done(&1, Next::Wait);
        queue.done(&2, Next::Wait);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wish_counts() {
        let queue = Queue::new();
        for seconds in [5, 9, 3, 4] {
            queue.add_after("k", Duration::from_secs(seconds));
        }
        let started = Instant::now();
        let key = queue.next().await;
        assert_eq!(started.elapsed(), Duration::from_secs(3));
        queue.done(&key, Next::Wait);
        let again = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(again.is_err(), "the later wishes were made before the work was done");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time() {
        let queue = Queue::new();
        queue.add("k");
        let mut waits = Vec::new();
        let mut last = Instant::now();
        for _ in 0..16 {
            let key = queue.next().await;
            waits.push((Instant::now() - last).as_millis());
            last = Instant::now();
            queue.done(&key, Next::Retry);
        }
        assert_eq!(waits[..5], [0, 20, 40, 80, 160]);
        assert_eq!(waits[15], 60_000);
        let key = queue.next().await;
        queue.done(&key, Next::After(Duration::from_secs(3)));
        last = Instant::now();
        queue.next().await;
        assert_eq!(last.elapsed(), Duration::from_secs(3));
    }
}
