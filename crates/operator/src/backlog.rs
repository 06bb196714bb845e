//! Work beside the reconciliations, a Task at a time: what fails is tried again later, and nothing waits for it.
//!
//! Only keys are kept, so that a hundred thousand Tasks that wait for a dead endpoint are no burden.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::time::DelayQueue;

use crate::world::TaskKey;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// There is nothing more to do.
    Done,
    /// It must be repeated.
    Failed,
}

/// Takes work.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(mpsc::UnboundedSender<TaskKey>);

impl Backlog {
    /// There is something to do for the Task; what is known already is not done twice.
    pub(crate) fn add(&self, key: &TaskKey) {
        // Nobody works only when the operator ends.
        let _ = self.0.send(key.clone());
    }
}

/// How much is done at a time, and how long to wait after failures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// So many at a time.
    pub together: usize,
    /// Before the second attempt; doubled with each failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Pace {
    fn after(self, failures: u32) -> Duration {
        (self.first * 2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(self.most)
    }
}

/// A backlog, and the future that works it off; it ends when the last clone of the backlog is gone.
/// `count` is told how much there is to do.
pub(crate) fn backlog<F>(
    pace: Pace,
    count: impl Fn(usize) + Send + 'static,
    attempt: F,
) -> (Backlog, BoxFuture<'static, ()>)
where
    F: Fn(TaskKey) -> BoxFuture<'static, Attempt> + Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    (Backlog(sender), Box::pin(work(receiver, pace, count, attempt)))
}

async fn work<F>(mut incoming: mpsc::UnboundedReceiver<TaskKey>, pace: Pace, count: impl Fn(usize) + Send, attempt: F)
where
    F: Fn(TaskKey) -> BoxFuture<'static, Attempt> + Send,
{
    let mut failures: HashMap<TaskKey, u32> = HashMap::new();
    let mut ready: VecDeque<TaskKey> = VecDeque::new();
    let mut later: DelayQueue<TaskKey> = DelayQueue::new();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < pace.together
            && let Some(key) = ready.pop_front()
        {
            let doing = attempt(key.clone());
            running.push(async move { (key, doing.await) });
        }
        tokio::select! {
            key = incoming.recv() => match key {
                Some(key) if failures.contains_key(&key) => {}
                Some(key) => {
                    failures.insert(key.clone(), 0);
                    ready.push_back(key);
                }
                None => return,
            },
            Some(expired) = later.next(), if !later.is_empty() => ready.push_back(expired.into_inner()),
            Some((key, how)) = running.next(), if !running.is_empty() => match how {
                Attempt::Done => drop(failures.remove(&key)),
                Attempt::Failed => {
                    let failed = failures.entry(key.clone()).or_default();
                    *failed = failed.saturating_add(1);
                    later.insert(key, pace.after(*failed));
                }
            },
        }
        count(failures.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const PACE: Pace = Pace { together: 2, first: Duration::from_secs(1), most: Duration::from_secs(5) };

    #[test]
    fn pauses_grow() {
        assert_eq!([1, 2, 3, 4, 40].map(|n| PACE.after(n).as_secs()), [1, 2, 4, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_repeated_and_holds_up_nobody() {
        let tried: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = tried.clone();
        let (backlog, work) = backlog(
            PACE,
            |_| {},
            move |key| {
                let told = told.clone();
                Box::pin(async move {
                    let mut told = told.lock().unwrap();
                    told.push(key.name.to_string());
                    let times = told.iter().filter(|name| **name == *key.name).count();
                    if *key.name == *"bad" && times < 4 { Attempt::Failed } else { Attempt::Done }
                })
            },
        );
        let working = tokio::spawn(work);
        for name in ["bad", "bad", "good", "fine"] {
            backlog.add(&TaskKey::new("n", name));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut so_far = tried.lock().unwrap().clone();
        so_far.sort();
        assert_eq!(so_far, ["bad", "fine", "good"], "asked for twice is done once");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(tried.lock().unwrap().len(), 6, "one, two and four seconds later");
        // What is done may be asked for again.
        backlog.add(&TaskKey::new("n", "good"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tried.lock().unwrap().len(), 7);
        drop(backlog);
        working.await.unwrap();
    }
}
