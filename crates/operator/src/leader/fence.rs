//! Until when this replica may write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment of the clock that goes on while the machine sleeps and that nobody sets: nanoseconds since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// A number below `below` that differs from replica to replica and from time to time.
    pub(super) fn spread(self, below: u32) -> u32 {
        u32::try_from(self.0 / 1000 % u64::from(below.max(1))).unwrap_or(0)
    }

    /// How long ago it was; nothing for what is to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }
}

/// Until when this replica may write. Clones share it. At first it is shut.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<AtomicU64>);

impl Fence {
    /// Whether this replica may write now.
    #[must_use]
    pub fn holds(&self) -> bool {
        Moment::now().0 < self.0.load(Ordering::Acquire)
    }

    /// It may write until then.
    pub fn hold_until(&self, until: Moment) {
        self.0.store(until.0, Ordering::Release);
    }

    /// It may write for so long from now.
    pub fn hold_for(&self, time: Duration) {
        self.hold_until(Moment::now().plus(time));
    }

    /// It may not write any more.
    pub fn shut(&self) {
        self.0.store(0, Ordering::Release);
    }
}
