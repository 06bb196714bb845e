//! How long a watch gathers events before it sends them.
//!
//! Every event costs every watcher a wake-up, a frame and its share of a write to the network, and that is most of what a
//! busy kind with many watchers costs. So the more watchers there are, the longer each of them gathers: a quiet watch is
//! told at once, one that was told a moment ago waits for the next tick. All wake at the same ticks, so that watches of
//! one connection share its writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Added to the time between ticks by every watcher: about what it costs to tell one.
const EACH: Duration = Duration::from_micros(10);
/// Ticks that are closer than this are none: timers are no finer.
const LEAST: Duration = Duration::from_millis(1);
/// No watcher waits longer.
const MOST: Duration = Duration::from_millis(10);

/// How many watches there are.
#[derive(Debug)]
pub(crate) struct Watchers {
    /// Ticks are counted from here.
    epoch: Instant,
    count: Arc<AtomicUsize>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { epoch: Instant::now(), count: Arc::default() }
    }
}

impl Watchers {
    /// A new watch.
    pub(super) fn enter(&self, now: Instant) -> Pace {
        self.count.fetch_add(1, Ordering::Relaxed);
        Pace { epoch: self.epoch, count: self.count.clone(), last: now.checked_sub(MOST).unwrap_or(now) }
    }
}

/// The pace of one watch, which is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Pace {
    epoch: Instant,
    count: Arc<AtomicUsize>,
    /// When something was sent last.
    last: Instant,
}

impl Pace {
    /// Something was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last = now;
    }

    /// Until when to gather before the next frame is sent; `None`: send it now.
    pub(super) fn gather_until(&self, now: Instant) -> Option<Instant> {
        let watchers = u32::try_from(self.count.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let tick = EACH.saturating_mul(watchers).min(MOST);
        if tick < LEAST || now.saturating_duration_since(self.last) >= tick {
            return None;
        }
        let ticks = now.saturating_duration_since(self.epoch).as_nanos() / tick.as_nanos() + 1;
        let next = tick.as_nanos().saturating_mul(ticks);
        Some(self.epoch + Duration::from_nanos(u64::try_from(next).ok()?))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn few_watchers_are_told_at_once() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 5 * MS;
        let mut paces: Vec<Pace> = (0..99).map(|_| watchers.enter(now)).collect();
        paces[0].sent(now);
        assert_eq!(paces[0].gather_until(now), None);
        drop(paces);
        assert_eq!(watchers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_are_told_together() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 103 * MS;
        let mut paces: Vec<Pace> = (0..500).map(|_| watchers.enter(now)).collect();
        assert_eq!(paces[0].gather_until(now), None, "a quiet one is told at once");
        for (pace, at) in paces.iter_mut().zip([100, 101, 102]) {
            pace.sent(watchers.epoch + at * MS);
            assert_eq!(pace.gather_until(now), Some(watchers.epoch + 105 * MS));
        }
        assert_eq!(paces[0].gather_until(watchers.epoch + 105 * MS), None);
    }

    #[test]
    fn nobody_waits_long() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 101 * MS;
        let mut paces: Vec<Pace> = (0..50_000).map(|_| watchers.enter(now)).collect();
        paces[0].sent(now);
        assert_eq!(paces[0].gather_until(now), Some(watchers.epoch + 110 * MS));
    }
}
