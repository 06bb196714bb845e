//! Who may run when an Agent has `maxConcurrentTasks`: higher priority first, then older.
//!
//! One [`Queue`] an Agent, kept by the operator as Tasks come and go. A Task is *active* from the moment it is admitted
//! (before its Job is written) until it ended, so that two decisions made at once never add up to one too many. After a
//! restart everything that has a Job or `status.jobName` is active before anything is admitted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kubetask_api::Task;

use crate::task::Admission;

/// Where a Task stands among those that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Higher first.
    pub priority: i32,
    /// Older first.
    pub created: Timestamp,
    /// The Task's name, so that the order is total.
    pub name: String,
}

impl Place {
    /// A Task's place.
    pub fn of(task: &Task) -> Self {
        Self {
            priority: task.spec.priority.unwrap_or(0),
            created: task.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            name: task.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.priority, self.created, &self.name).cmp(&(self.priority, other.created, &other.name))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The Tasks of one Agent: those it carries out, and those that wait in order.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    active: BTreeSet<String>,
    order: BTreeSet<Place>,
    places: BTreeMap<String, Place>,
}

impl Queue {
    /// The Task waits for this Agent and has everything else it needs. Its place may be new (priority changed); says
    /// whether it is.
    pub fn wait(&mut self, place: Place) -> bool {
        if self.active.contains(&place.name) || self.places.get(&place.name) == Some(&place) {
            return false;
        }
        if let Some(old) = self.places.insert(place.name.clone(), place.clone()) {
            self.order.remove(&old);
        }
        self.order.insert(place);
        true
    }

    /// The Task has a Job.
    pub fn activate(&mut self, name: &str) {
        self.leave_order(name);
        self.active.insert(name.to_owned());
    }

    /// The Task ended, was deleted, or does not wait for this Agent any more.
    pub fn remove(&mut self, name: &str) {
        self.leave_order(name);
        self.active.remove(name);
    }

    fn leave_order(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.order.remove(&place);
        }
    }

    /// Admits as many as there are places, in order, and says whom. They count as active from now on.
    pub fn admit(&mut self, limit: Option<usize>) -> Vec<String> {
        let free = limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.active.len()));
        let admitted: Vec<String> = self.order.iter().take(free).map(|place| place.name.clone()).collect();
        admitted.iter().for_each(|name| self.activate(name));
        admitted
    }

    /// What a Task is to be told.
    pub fn admission(&self, name: &str, limit: Option<usize>) -> Admission {
        let (Some(limit), false) = (limit, self.active.contains(name)) else {
            return Admission::Free;
        };
        let Some(place) = self.places.get(name) else {
            let position = self.order.len() + 1;
            let behind = self.order.last().map(|p| p.name.clone());
            return if self.active.len() + self.order.len() < limit {
                Admission::Free
            } else {
                Admission::Queued { position, limit, behind }
            };
        };
        let ahead = self.order.range(..place).count();
        if self.active.len() + ahead < limit {
            return Admission::Free;
        }
        let behind = self.order.range(..place).next_back().map(|p| p.name.clone());
        Admission::Queued { position: ahead + 1, limit, behind }
    }

    /// Whether the Task has a place.
    pub fn is_active(&self, name: &str) -> bool {
        self.active.contains(name)
    }

    /// Those that wait, first to last.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|place| place.name.as_str())
    }

    /// How many Tasks are carried out, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.active.len(), self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(name: &str, priority: i32, created: i64) -> Place {
        Place { priority, created: Timestamp::from_second(created).unwrap(), name: name.to_owned() }
    }

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        for p in [place("old", 0, 1), place("new", 0, 2), place("urgent", 5, 3), place("later", -1, 0)] {
            queue.wait(p);
        }
        assert_eq!(queue.waiting().collect::<Vec<_>>(), ["urgent", "old", "new", "later"]);
        assert_eq!(queue.admit(Some(1)), ["urgent"]);
        assert_eq!(
            queue.admission("new", Some(1)),
            Admission::Queued { position: 2, limit: 1, behind: Some("old".to_owned()) }
        );
        assert_eq!(queue.admission("urgent", Some(1)), Admission::Free);
        assert!(queue.wait(place("later", 9, 0)));
        assert!(!queue.wait(place("later", 9, 0)) && !queue.wait(place("urgent", 1, 0)));
        queue.remove("urgent");
        assert_eq!(queue.admission("later", Some(1)), Admission::Free);
        assert_eq!(queue.admit(Some(3)), ["later", "old", "new"]);
        assert_eq!(queue.counts(), (3, 0));
    }

    #[test]
    fn without_a_limit_all_run() {
        let mut queue = Queue::default();
        queue.wait(place("a", 0, 1));
        assert_eq!(queue.admission("a", None), Admission::Free);
        assert_eq!(queue.admit(None), ["a"]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(steps in proptest::collection::vec((0u8..4, 0u8..12, -2i32..3), 0..200), limit in 1usize..4) {
            let mut queue = Queue::default();
            for (step, who, priority) in steps {
                let name = format!("t{who}");
                match step {
                    0 => {
                        queue.wait(place(&name, priority, i64::from(who)));
                    }
                    1 => queue.remove(&name),
                    _ => {
                        for admitted in queue.admit(Some(limit)) {
                            prop_assert_eq!(queue.admission(&admitted, Some(limit)), Admission::Free);
                        }
                    }
                }
                prop_assert!(queue.active.len() <= limit);
                prop_assert_eq!(queue.places.len(), queue.order.len());
            }
        }
    }
}
