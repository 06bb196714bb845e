//! Waits between attempts at what has to be done in the end.

use std::time::Duration;

/// How long to wait before the next attempt: twice as long each time, up to a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    next: Duration,
    longest: Duration,
}

impl Patience {
    /// The first wait, and the longest.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The wait that is due; the next is longer.
    pub(super) fn lose(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// Waits so long.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.lose()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut patience = Patience::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| patience.lose().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
    }
}
