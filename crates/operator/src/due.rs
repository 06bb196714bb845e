//! Who is to be looked at when: nothing here takes longer the more there are who wait.

use std::collections::{BTreeSet, HashMap};

use crate::world::TaskKey;

/// Keys, and a moment for each.
#[derive(Debug)]
pub(crate) struct Due<Moment> {
    order: BTreeSet<(Moment, TaskKey)>,
    at: HashMap<TaskKey, Moment>,
}

impl<Moment> Default for Due<Moment> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), at: HashMap::new() }
    }
}

impl<Moment: Copy + Ord> Due<Moment> {
    /// Sets or clears when somebody's time comes; tells whether that is before all others.
    pub(crate) fn set(&mut self, key: &TaskKey, at: Option<Moment>) -> bool {
        if let Some(old) = self.at.remove(key) {
            self.order.remove(&(old, key.clone()));
        }
        let Some(at) = at else { return false };
        let sooner = self.next().is_none_or(|first| at < first);
        self.at.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
        sooner
    }

    /// When somebody's time comes.
    pub(crate) fn get(&self, key: &TaskKey) -> Option<Moment> {
        self.at.get(key).copied()
    }

    /// When the first one's time comes.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Whose time has come, in order. They wait no more.
    pub(crate) fn take(&mut self, now: Moment) -> Vec<TaskKey> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_taken_once_and_in_order() {
        let mut due = Due::default();
        let key = |name: &str| TaskKey::new("n", name);
        assert!(due.set(&key("b"), Some(20)));
        assert!(due.set(&key("a"), Some(10)));
        assert!(!due.set(&key("c"), Some(15)));
        assert!(!due.set(&key("c"), Some(30)), "moved");
        assert!(!due.set(&key("d"), None));
        assert_eq!((due.get(&key("c")), due.get(&key("d"))), (Some(30), None));
        assert_eq!(due.take(9), []);
        assert_eq!(due.take(25), [key("a"), key("b")]);
        assert_eq!((due.take(25), due.next()), (vec![], Some(30)));
        due.set(&key("c"), None);
        assert!(due.order.is_empty() && due.at.is_empty());
    }

    #[test]
    fn many_who_wait_cost_little() {
        let mut due = Due::default();
        let keys: Vec<TaskKey> = (0..10_000).map(|n| TaskKey::new("n", &n.to_string())).collect();
        let started = std::time::Instant::now();
        // Ten thousand of them, each moved ten times: a scan for each would be a thousand million steps.
        for round in 0..10 {
            for (n, key) in keys.iter().enumerate() {
                due.set(key, Some(round + n % 100));
                due.next();
            }
        }
        assert_eq!(due.take(usize::MAX).len(), keys.len());
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
