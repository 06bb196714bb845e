//! How long a watch gathers events before it sends them.
//!
//! Every event costs every watcher a wake-up, a frame and its share of a write to the network, and that is most of what a
//! busy kind with many watchers costs. So the more watchers there are, the longer each of them gathers: a quiet watch is
//! told at once, one that was told a moment ago waits for the next tick. All watches of a connection wake at the same
//! ticks, so that they share its writes; the ticks of different connections are spread, so that none waits for all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Groups;

/// Ticks that are closer than this are none: timers are no finer.
const LEAST: Duration = Duration::from_millis(1);
/// How long watches gather, by what it costs to tell one: on a connection of HTTP/1.1 each is told by a record and a system
/// call of its own.
const SHARED: Gather = Gather { each: Duration::from_micros(7), most: Duration::from_millis(7) };
const ALONE: Gather = Gather { each: Duration::from_micros(15), most: Duration::from_millis(15) };
/// So many different ticks there are; watches of the same one share their frames.
const PHASES: u32 = 8;

#[derive(Debug, Clone, Copy)]
struct Gather {
    /// Added to the time between ticks by every watcher.
    each: Duration,
    /// No watcher waits longer.
    most: Duration,
}

/// How many watches there are, and which of them share their frames.
#[derive(Debug)]
pub(crate) struct Watchers {
    /// Ticks are counted from here.
    epoch: Instant,
    count: Arc<AtomicUsize>,
    pub(super) groups: Arc<Groups>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { epoch: Instant::now(), count: Arc::default(), groups: Arc::default() }
    }
}

impl Watchers {
    /// A new watch, on the connection of this number, which other watches may share.
    pub(super) fn enter(&self, now: Instant, connection: u32, shared: bool) -> Pace {
        self.count.fetch_add(1, Ordering::Relaxed);
        let gather = if shared { SHARED } else { ALONE };
        Pace {
            epoch: self.epoch,
            phase: connection % PHASES,
            gather,
            count: self.count.clone(),
            last: now.checked_sub(gather.most).unwrap_or(now),
        }
    }
}

/// The pace of one watch, which is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Pace {
    epoch: Instant,
    phase: u32,
    gather: Gather,
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
        let tick = self.gather.each.saturating_mul(watchers).min(self.gather.most);
        if tick < LEAST || now.saturating_duration_since(self.last) >= tick {
            return None;
        }
        let epoch = self.epoch + tick * self.phase / PHASES;
        let ticks = now.saturating_duration_since(epoch).as_nanos() / tick.as_nanos() + 1;
        let next = tick.as_nanos().saturating_mul(ticks);
        Some(epoch + Duration::from_nanos(u64::try_from(next).ok()?))
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
        let mut paces: Vec<Pace> = (0..60).map(|_| watchers.enter(now, 0, false)).collect();
        paces[0].sent(now);
        assert_eq!(paces[0].gather_until(now), None);
        drop(paces);
        assert_eq!(watchers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_are_told_together() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 103 * MS;
        let mut paces: Vec<Pace> = (0..400).map(|_| watchers.enter(now, 0, false)).collect();
        assert_eq!(paces[0].gather_until(now), None, "a quiet one is told at once");
        for (pace, at) in paces.iter_mut().zip([100, 101, 102]) {
            pace.sent(watchers.epoch + at * MS);
            assert_eq!(pace.gather_until(now), Some(watchers.epoch + 108 * MS));
        }
        assert_eq!(paces[0].gather_until(watchers.epoch + 106 * MS), None);
    }

    #[test]
    fn connections_take_turns() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 1403 * MS;
        let _others: Vec<Pace> = (0..1000).map(|_| watchers.enter(now, 0, true)).collect();
        for (connection, eighths) in [(0, 8), (4, 4), (5, 5), (7, 7), (8, 8)] {
            let mut pace = watchers.enter(now, connection, true);
            pace.sent(now);
            let until = watchers.epoch + 1400 * MS + 7 * MS * eighths / 8;
            assert_eq!(pace.gather_until(now), Some(until), "{connection}");
        }
    }

    #[test]
    fn nobody_waits_long() {
        let watchers = Watchers::default();
        let now = watchers.epoch + 151 * MS;
        let mut paces: Vec<Pace> = (0..50_000).map(|_| watchers.enter(now, 0, false)).collect();
        paces[0].sent(now);
        assert_eq!(paces[0].gather_until(now), Some(watchers.epoch + 165 * MS));
    }
}
