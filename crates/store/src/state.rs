//! [`State`]: everything in memory — the current maps, the history and who watches — behind one lock in [`Shared`].
//!
//! Lists take a persistent map out of the lock and read it outside. The history is one log per bucket, which
//! watchers read with cursors, and one global queue that says which event is forgotten next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use imbl::OrdMap;
use tokio::sync::Notify;

use crate::batch::Planned;
use crate::entry::{Entry, Event, EventKind, Revision};
use crate::error::{ListError, TooOld, WatchError};
use crate::options::{ListOptions, Options, Snapshot};
use crate::watch::{CHUNK, Slot};

type Map = OrdMap<Arc<str>, Arc<Entry>>;
type Pairs = Vec<(Arc<str>, Arc<Entry>)>;

/// What an event costs beside the values it keeps alive.
const EVENT_OVERHEAD: usize = 160;

/// One bucket: what is in it, what happened in it, and who wants to know.
#[derive(Default)]
struct Bucket {
    map: Map,
    log: VecDeque<Arc<Event>>,
    /// Absolute index of `log[0]`.
    base: u64,
    slots: BTreeMap<u64, Arc<Slot>>,
}

impl Bucket {
    fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    fn unused(&self) -> bool {
        self.map.is_empty() && self.log.is_empty() && self.slots.is_empty()
    }
}

/// An event in the order in which events are forgotten.
struct Remembered {
    bucket: Arc<str>,
    revision: Revision,
    cost: usize,
    at: Instant,
}

struct Limits {
    events: usize,
    bytes: usize,
    least: usize,
    settled: usize,
    age: Duration,
}

impl Limits {
    /// How many bytes the history of a store with so many current ones may have.
    fn history(&self, current: usize) -> usize {
        (current / 2).max(self.least).min(self.bytes)
    }
}

/// The store in memory.
pub(crate) struct State {
    revision: Revision,
    compacted: Revision,
    buckets: HashMap<Arc<str>, Bucket>,
    order: VecDeque<Remembered>,
    /// Of the values that are current.
    current_bytes: usize,
    history_bytes: usize,
    limits: Limits,
    next_watch: u64,
    closed: bool,
}

impl State {
    /// The state as read from disk; its history begins now.
    pub(crate) fn loaded(revision: Revision, entries: Pairs, options: &Options) -> State {
        let current_bytes = entries.iter().map(|(_, entry)| entry.bytes.len()).sum();
        let mut sorted: HashMap<Arc<str>, Pairs> = HashMap::new();
        for (bucket, entry) in entries {
            sorted.entry(bucket).or_default().push((entry.key.clone(), entry));
        }
        let buckets = sorted
            .into_iter()
            .map(|(name, mut entries)| {
                // Nearly sorted input makes building the tree several times faster.
                entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                (name, Bucket { map: entries.into_iter().collect(), ..Bucket::default() })
            })
            .collect();
        State {
            revision,
            compacted: revision,
            buckets,
            order: VecDeque::new(),
            current_bytes,
            history_bytes: 0,
            limits: Limits {
                events: options.history_events,
                bytes: options.history_bytes,
                least: options.history_least,
                settled: options.history_settled,
                age: options.history_age,
            },
            next_watch: 0,
            closed: false,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<Arc<Entry>> {
        self.buckets.get(bucket)?.map.get(key).cloned()
    }

    pub(crate) fn count(&self, bucket: &str) -> usize {
        self.buckets.get(bucket).map_or(0, |b| b.map.len())
    }

    pub(crate) fn buckets(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> =
            self.buckets.iter().filter(|(_, b)| !b.map.is_empty()).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    fn check_history(&self, requested: Revision) -> Result<(), TooOld> {
        if requested < self.compacted { Err(TooOld { requested, compacted: self.compacted }) } else { Ok(()) }
    }

    /// Makes durable changes visible and wakes who watches them. Returns what is no longer needed, to be dropped
    /// outside the lock.
    fn publish(&mut self, planned: Vec<Planned>, revision: Revision, now: Instant) -> Vec<Arc<Event>> {
        let mut touched: Vec<(Arc<str>, u64)> = Vec::new();
        for change in planned {
            let bucket = self.buckets.entry(change.bucket.clone()).or_default();
            if !touched.iter().any(|(name, _)| *name == change.bucket) {
                touched.push((change.bucket.clone(), bucket.end()));
            }
            let replaced = change.prev.as_ref().map_or(0, |e| e.bytes.len());
            let mut cost = EVENT_OVERHEAD + replaced;
            self.current_bytes -= replaced;
            match change.kind {
                EventKind::Put => {
                    self.current_bytes += change.entry.bytes.len();
                    bucket.map.insert(change.entry.key.clone(), change.entry.clone());
                }
                EventKind::Delete => {
                    bucket.map.remove(&change.entry.key);
                    cost += change.entry.bytes.len();
                }
            }
            let event =
                Event { revision: change.entry.revision, kind: change.kind, entry: change.entry, prev: change.prev };
            self.history_bytes += cost;
            self.order.push_back(Remembered { bucket: change.bucket, revision: event.revision, cost, at: now });
            bucket.log.push_back(Arc::new(event));
        }
        self.revision = self.revision.max(revision);
        for (name, old_end) in touched {
            if let Some(bucket) = self.buckets.get(&name) {
                wake(bucket, old_end);
            }
        }
        self.trim(now)
    }

    fn trim(&mut self, now: Instant) -> Vec<Arc<Event>> {
        self.trim_to(self.limits.history(self.current_bytes), now)
    }

    /// Keeps less of the history than while there is much going on, and no room for more.
    fn settle(&mut self, now: Instant) -> Vec<Arc<Event>> {
        let forgotten = self.trim_to(self.limits.settled.min(self.limits.history(self.current_bytes)), now);
        self.order.shrink_to_fit();
        for bucket in self.buckets.values_mut() {
            bucket.log.shrink_to_fit();
        }
        forgotten
    }

    fn trim_to(&mut self, most: usize, now: Instant) -> Vec<Arc<Event>> {
        let mut forgotten = Vec::new();
        while let Some(first) = self.order.front() {
            let over = self.order.len() > self.limits.events
                || self.history_bytes > most
                || now.duration_since(first.at) > self.limits.age;
            if !over {
                break;
            }
            self.forget_first(&mut forgotten);
        }
        forgotten
    }

    fn forget_first(&mut self, forgotten: &mut Vec<Arc<Event>>) {
        let Some(first) = self.order.pop_front() else { return };
        self.history_bytes -= first.cost;
        self.compacted = self.compacted.max(first.revision);
        let Some(bucket) = self.buckets.get_mut(&first.bucket) else { return };
        forgotten.extend(bucket.log.pop_front());
        bucket.base += 1;
        // Nobody needs waking: whoever has not read this event was woken when it happened.
        if bucket.unused() {
            self.buckets.remove(&first.bucket);
        }
    }

    fn compact(&mut self, revision: Revision) -> Vec<Arc<Event>> {
        let mut forgotten = Vec::new();
        let revision = revision.min(self.revision);
        while self.order.front().is_some_and(|first| first.revision <= revision) {
            self.forget_first(&mut forgotten);
        }
        self.compacted = self.compacted.max(revision);
        forgotten
    }
}

/// Wakes the watchers that a bucket's new events concern, and moves the others past them, so that a watcher of a
/// quiet prefix neither wakes for its neighbours nor lags because of them.
fn wake(bucket: &Bucket, old_end: u64) {
    let fresh = bucket.log.range((old_end - bucket.base) as usize..);
    let end = bucket.end();
    for slot in bucket.slots.values() {
        let concerned = slot.prefix.is_empty() || fresh.clone().any(|e| e.entry.key.starts_with(&*slot.prefix));
        if concerned {
            slot.wake.notify_one();
        } else if slot.cursor.load(Ordering::Relaxed) == old_end {
            slot.cursor.store(end, Ordering::Relaxed);
        }
    }
}

/// The state and its lock.
pub(crate) struct Shared {
    state: RwLock<State>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Shared {
        Shared { state: RwLock::new(state) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, planned: Vec<Planned>, revision: Revision) {
        let now = Instant::now();
        let forgotten = self.write().publish(planned, revision, now);
        drop(forgotten);
    }

    pub(crate) fn compact(&self, revision: Revision) {
        let forgotten = self.write().compact(revision);
        drop(forgotten);
    }

    pub(crate) fn settle(&self) {
        let forgotten = self.write().settle(Instant::now());
        drop(forgotten);
    }

    /// Ends every watch once it has delivered what it still has to.
    pub(crate) fn close(&self) {
        let mut state = self.write();
        state.closed = true;
        for slot in state.buckets.values().flat_map(|b| b.slots.values()) {
            slot.wake.notify_one();
        }
    }

    pub(crate) fn list(&self, bucket: &str, options: &ListOptions<'_>) -> Result<Snapshot, ListError> {
        let (map, revision) = {
            let state = self.read();
            let requested = options.at_revision.unwrap_or(state.revision);
            if requested > state.revision {
                return Err(ListError::Future { requested, current: state.revision });
            }
            state.check_history(requested)?;
            match state.buckets.get(bucket) {
                None => (Map::new(), requested),
                Some(bucket) if requested == state.revision => (bucket.map.clone(), requested),
                Some(bucket) => {
                    let mut map = bucket.map.clone();
                    let undo: Vec<_> =
                        bucket.log.iter().rev().take_while(|e| e.revision > requested).cloned().collect();
                    drop(state);
                    for event in undo {
                        match &event.prev {
                            Some(prev) => map.insert(prev.key.clone(), prev.clone()),
                            None => map.remove(&event.entry.key),
                        };
                    }
                    (map, requested)
                }
            }
        };
        Ok(page(&map, revision, options))
    }

    /// Registers a watcher; gives the bucket's name, the watcher's number and its slot.
    pub(crate) fn subscribe(
        &self,
        bucket: &str,
        prefix: &str,
        after: Revision,
    ) -> Result<(Arc<str>, u64, Arc<Slot>), TooOld> {
        let mut state = self.write();
        state.check_history(after)?;
        let id = state.next_watch;
        state.next_watch += 1;
        let name: Arc<str> = match state.buckets.get_key_value(bucket) {
            Some((name, _)) => name.clone(),
            None => bucket.into(),
        };
        let bucket = state.buckets.entry(name.clone()).or_default();
        let cursor = bucket.base + bucket.log.partition_point(|e| e.revision <= after) as u64;
        let slot = Arc::new(Slot { prefix: prefix.into(), cursor: AtomicU64::new(cursor), wake: Notify::new() });
        bucket.slots.insert(id, slot.clone());
        Ok((name, id, slot))
    }

    pub(crate) fn unwatch(&self, bucket: &str, id: u64) {
        let mut state = self.write();
        if let Some(found) = state.buckets.get_mut(bucket) {
            found.slots.remove(&id);
            if found.unused() {
                state.buckets.remove(bucket);
            }
        }
    }

    /// Moves events that a watcher has not seen into its buffer.
    pub(crate) fn fill(
        &self,
        bucket: &str,
        slot: &Slot,
        after: Revision,
        buffer: &mut VecDeque<Arc<Event>>,
    ) -> Result<(), WatchError> {
        let state = self.read();
        let Some(bucket) = state.buckets.get(bucket) else { return Err(WatchError::Closed) };
        let cursor = slot.cursor.load(Ordering::Relaxed);
        let Some(start) = cursor.checked_sub(bucket.base) else { return Err(WatchError::Lagged) };
        let mut read = 0;
        for event in bucket.log.range(start as usize..) {
            read += 1;
            if event.revision > after && event.entry.key.starts_with(&*slot.prefix) {
                buffer.push_back(event.clone());
                if buffer.len() == CHUNK {
                    break;
                }
            }
        }
        slot.cursor.store(cursor + read, Ordering::Relaxed);
        if buffer.is_empty() && state.closed { Err(WatchError::Closed) } else { Ok(()) }
    }

    /// Moves a watcher's cursor past the events up to a revision.
    pub(crate) fn skip(&self, bucket: &str, slot: &Slot, after: Revision) -> Result<(), WatchError> {
        let state = self.read();
        let Some(bucket) = state.buckets.get(bucket) else { return Err(WatchError::Closed) };
        let cursor = slot.cursor.load(Ordering::Relaxed);
        let past = bucket.base + bucket.log.partition_point(|e| e.revision <= after) as u64;
        // What was forgotten unread may be no more than what is passed over.
        if cursor < bucket.base && after < state.compacted {
            return Err(WatchError::Lagged);
        }
        slot.cursor.store(cursor.max(past), Ordering::Relaxed);
        Ok(())
    }

    /// How far a watcher with an empty buffer has got.
    pub(crate) fn progress(&self, bucket: &str, slot: &Slot, after: Revision) -> Revision {
        let state = self.read();
        match state.buckets.get(bucket) {
            Some(bucket) if slot.cursor.load(Ordering::Relaxed) == bucket.end() => state.revision.max(after),
            _ => after,
        }
    }
}

/// Reads a page out of a map.
fn page(map: &Map, revision: Revision, options: &ListOptions<'_>) -> Snapshot {
    let start = match options.start_after {
        Some(key) if key >= options.prefix => Bound::Excluded(key),
        _ => Bound::Included(options.prefix),
    };
    let mut range = map
        .range::<(Bound<&str>, Bound<&str>), str>((start, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(options.prefix));
    let mut entries = Vec::new();
    if options.limit == 0 {
        entries.extend(range.map(|(_, entry)| entry.clone()));
        return Snapshot { revision, entries, remaining: 0 };
    }
    entries.extend(range.by_ref().take(options.limit).map(|(_, entry)| entry.clone()));
    // The first page of a whole bucket, the most frequent one, need not count.
    let whole = options.prefix.is_empty() && options.start_after.is_none();
    let remaining = match options.rest {
        _ if whole => map.len() - entries.len(),
        Some(rest) => rest.saturating_sub(entries.len()),
        None => range.count(),
    };
    Snapshot { revision, entries, remaining }
}
