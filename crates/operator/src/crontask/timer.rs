//! One timer for all CronTasks, by the clock on the wall.
//!
//! A machine that sleeps does not count the time, and clocks are set; so the timer never sleeps longer than
//! [`LOOK_AT_CLOCK`]. It wakes up only while somebody waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::due::Due;
use crate::world::TaskKey;

/// How often the clock is looked at while somebody waits.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);

/// Who is to be woken when. Clones share it.
#[derive(Clone)]
pub(super) struct Timer {
    shared: Arc<Shared>,
    clock: Clock,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Due<Timestamp>>,
    sooner: Notify,
}

impl Timer {
    pub(super) fn new(clock: Clock) -> Self {
        Self { shared: Arc::default(), clock }
    }

    /// The time by which it wakes.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Wakes that CronTask then, and not when it was to be woken before.
    pub(super) fn set(&self, key: &TaskKey, at: Option<Timestamp>) {
        if self.lock().set(key, at) {
            self.shared.sooner.notify_one();
        }
    }

    /// Tells who is to be woken, as long as somebody listens.
    pub(super) async fn run(self, wake: UnboundedSender<TaskKey>) {
        loop {
            let now = self.now();
            let (due, next) = {
                let mut waiting = self.lock();
                (waiting.take(now), waiting.next())
            };
            for key in due {
                if wake.send(key).is_err() {
                    return;
                }
            }
            let sooner = self.shared.sooner.notified();
            match next {
                None => sooner.await,
                Some(next) => {
                    let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                    // The timer of the runtime has steps of a millisecond.
                    let nap = left.min(LOOK_AT_CLOCK).max(Duration::from_millis(1));
                    // Woken or not, the clock is looked at again.
                    let _ = tokio::time::timeout(nap, sooner).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Due<Timestamp>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_comes_first_is_woken_first() {
        let timer = Timer::new(Clock::default());
        let (sender, mut woken) = tokio::sync::mpsc::unbounded_channel();
        let running = tokio::spawn(timer.clone().run(sender));
        let now = Timestamp::now();
        timer.set(&TaskKey::new("n", "far"), Some(now + Duration::from_secs(3600)));
        timer.set(&TaskKey::new("n", "near"), Some(now + Duration::from_millis(50)));
        assert_eq!(woken.recv().await, Some(TaskKey::new("n", "near")));
        assert!(Timestamp::now() >= now + Duration::from_millis(50));
        running.abort();
    }
}
