//! One timer for all CronTasks, by the clock on the wall.
//!
//! A machine that sleeps does not count the time, and clocks are set; so the timer never sleeps longer than
//! [`LOOK_AT_CLOCK`]. It wakes up only while somebody waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
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
    waiting: Mutex<Waiting>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: BTreeSet<(Timestamp, TaskKey)>,
    at: HashMap<TaskKey, Timestamp>,
}

impl Waiting {
    /// Sets or clears when somebody is woken; tells whether that is before all others.
    fn set(&mut self, key: &TaskKey, at: Option<Timestamp>) -> bool {
        if let Some(old) = self.at.remove(key) {
            self.order.remove(&(old, key.clone()));
        }
        let Some(at) = at else { return false };
        let sooner = self.next().is_none_or(|first| at < first);
        self.at.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
        sooner
    }

    fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Who is to be woken now. They wait no more.
    fn due(&mut self, now: Timestamp) -> Vec<TaskKey> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.order.pop_first() {
            if at > now {
                self.order.insert((at, key));
                break;
            }
            self.at.remove(&key);
            due.push(key);
        }
        due
    }
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
                (waiting.due(now), waiting.next())
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

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn everybody_is_woken_once_and_in_order() {
        let mut waiting = Waiting::default();
        let key = |name: &str| TaskKey::new("n", name);
        assert!(waiting.set(&key("b"), Some(at(20))));
        assert!(waiting.set(&key("a"), Some(at(10))));
        assert!(!waiting.set(&key("c"), Some(at(15))));
        assert!(!waiting.set(&key("c"), Some(at(30))), "moved");
        assert!(!waiting.set(&key("d"), None));
        assert_eq!(waiting.due(at(9)), []);
        assert_eq!(waiting.due(at(25)), [key("a"), key("b")]);
        assert_eq!((waiting.due(at(25)), waiting.next()), (vec![], Some(at(30))));
        waiting.set(&key("c"), None);
        assert!(waiting.order.is_empty() && waiting.at.is_empty());
    }

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
