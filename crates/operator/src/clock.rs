//! The clock on the wall, as schedules read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use k8s_openapi::jiff::Timestamp;

/// The clock on the wall. Tests set it; clones share what was set.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// How many milliseconds it is ahead of the system's.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let system = Timestamp::now();
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead == 0 {
            return system;
        }
        Timestamp::from_millisecond(system.as_millisecond().saturating_add(ahead)).unwrap_or(system)
    }

    /// Sets it; it goes on from there.
    pub fn set(&self, to: Timestamp) {
        self.ahead.store(to.as_millisecond() - Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }
}
