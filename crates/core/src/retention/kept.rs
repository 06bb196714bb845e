//! Retention by count: which finished Tasks are the newest.
//!
//! One [`Kept`] a namespace, kept by the operator as Tasks end and go. Every change costs the logarithm of how many there
//! are, and answers with the Tasks that have become too many.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use kubetask_api::config::KeepLast;
use kubetask_api::{Task, TaskPhase};

/// A finished Task, as far as retention by count is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// Completed or Failed.
    pub phase: TaskPhase,
    /// When.
    pub completed: Timestamp,
}

impl Finished {
    /// A Task that has ended; `None` for one that has not.
    pub fn of(task: &Task) -> Option<Self> {
        let status = task.status.as_ref()?;
        let phase = status.phase.filter(|phase| phase.is_finished())?;
        let completed = status.completion_time.as_ref()?.0;
        Some(Self { name: task.metadata.name.clone()?, phase, completed })
    }
}

/// The Tasks that are too many, oldest first: for a few, computed from the whole.
pub fn surplus(finished: &[Finished], keep: &KeepLast) -> Vec<String> {
    let mut out: Vec<&Finished> = Vec::new();
    for (phase, limit) in [(TaskPhase::Completed, keep.completed), (TaskPhase::Failed, keep.failed)] {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
        let mut of_phase: Vec<&Finished> = finished.iter().filter(|f| f.phase == phase).collect();
        of_phase.sort_by(|a, b| b.completed.cmp(&a.completed).then_with(|| a.name.cmp(&b.name)));
        out.extend(of_phase.into_iter().skip(limit));
    }
    out.sort_by(|a, b| a.completed.cmp(&b.completed).then_with(|| a.name.cmp(&b.name)));
    out.into_iter().map(|f| f.name.clone()).collect()
}

/// The newest first; of those that ended together, by name.
type Place = (Reverse<Timestamp>, String);

/// The finished Tasks of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    completed: OfPhase,
    failed: OfPhase,
    known: HashMap<String, (TaskPhase, Timestamp)>,
}

#[derive(Clone, Debug, Default)]
struct OfPhase {
    limit: Option<usize>,
    kept: BTreeSet<Place>,
    surplus: BTreeSet<Place>,
}

impl OfPhase {
    /// Keeps as many as there may be; answers who has become too many.
    fn settle(&mut self) -> Vec<String> {
        let limit = self.limit.unwrap_or(usize::MAX);
        while self.kept.len() < limit {
            let Some(newest) = self.surplus.pop_first() else { break };
            self.kept.insert(newest);
        }
        let mut out = Vec::new();
        while self.kept.len() > limit {
            let Some(oldest) = self.kept.pop_last() else { break };
            out.push(oldest.1.clone());
            self.surplus.insert(oldest);
        }
        out
    }

    fn insert(&mut self, place: Place) -> Vec<String> {
        // What is too many is older than what is kept.
        if self.surplus.first().is_some_and(|newest| place > *newest) {
            let name = place.1.clone();
            self.surplus.insert(place);
            return vec![name];
        }
        self.kept.insert(place);
        self.settle()
    }

    fn remove(&mut self, place: &Place) {
        if self.kept.remove(place) {
            self.settle();
        } else {
            self.surplus.remove(place);
        }
    }
}

impl Kept {
    /// How many are kept from now on. Answers who has become too many.
    pub fn limit(&mut self, keep: &KeepLast) -> Vec<String> {
        let limit = |limit: Option<i32>| limit.and_then(|limit| usize::try_from(limit).ok());
        self.completed.limit = limit(keep.completed);
        self.failed.limit = limit(keep.failed);
        let mut out = self.completed.settle();
        out.extend(self.failed.settle());
        out
    }

    /// A Task has ended. Answers who has become too many.
    pub fn insert(&mut self, task: Finished) -> Vec<String> {
        if self.known.get(&task.name) == Some(&(task.phase, task.completed)) {
            return Vec::new();
        }
        self.remove(&task.name);
        self.known.insert(task.name.clone(), (task.phase, task.completed));
        self.of(task.phase).insert((Reverse(task.completed), task.name))
    }

    /// A Task is gone.
    pub fn remove(&mut self, name: &str) {
        if let Some((phase, completed)) = self.known.remove(name) {
            self.of(phase).remove(&(Reverse(completed), name.to_owned()));
        }
    }

    /// Whether newer ones are as many as are kept.
    pub fn is_surplus(&self, name: &str) -> bool {
        let Some((phase, completed)) = self.known.get(name) else { return false };
        let of = if *phase == TaskPhase::Failed { &self.failed } else { &self.completed };
        of.surplus.contains(&(Reverse(*completed), name.to_owned()))
    }

    fn of(&mut self, phase: TaskPhase) -> &mut OfPhase {
        if phase == TaskPhase::Failed { &mut self.failed } else { &mut self.completed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(name: &str, phase: TaskPhase, second: i64) -> Finished {
        Finished { name: name.to_owned(), phase, completed: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn keep_last() {
        let all = [
            task("c1", TaskPhase::Completed, 1),
            task("f1", TaskPhase::Failed, 2),
            task("c3", TaskPhase::Completed, 3),
            task("c2", TaskPhase::Completed, 2),
        ];
        let keep = |completed, failed| surplus(&all, &KeepLast { completed, failed });
        assert_eq!(keep(None, None), Vec::<String>::new());
        assert_eq!(keep(Some(1), None), ["c1", "c2"]);
        assert_eq!(keep(Some(0), Some(0)), ["c1", "c2", "f1", "c3"]);
        assert_eq!(keep(Some(9), Some(1)), Vec::<String>::new());
    }

    #[test]
    fn the_newest_of_each_phase_are_kept() {
        let mut kept = Kept::default();
        for one in [
            task("c1", TaskPhase::Completed, 1),
            task("f1", TaskPhase::Failed, 2),
            task("c3", TaskPhase::Completed, 3),
            task("c2", TaskPhase::Completed, 2),
        ] {
            assert!(kept.insert(one).is_empty(), "without a limit all are kept");
        }
        let mut surplus = kept.limit(&KeepLast { completed: Some(1), failed: None });
        surplus.sort();
        assert_eq!(surplus, ["c1", "c2"]);
        assert!(kept.is_surplus("c1") && kept.is_surplus("c2") && !kept.is_surplus("c3") && !kept.is_surplus("f1"));
        assert_eq!(kept.insert(task("c4", TaskPhase::Completed, 4)), ["c3"]);
        assert_eq!(kept.insert(task("old", TaskPhase::Completed, 0)), ["old"]);
        // Somebody deleted the newest: the next newest is kept.
        kept.remove("c4");
        assert!(!kept.is_surplus("c3"));
        assert_eq!(kept.limit(&KeepLast { completed: Some(0), failed: Some(0) }), ["c3", "f1"]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_whole(
            steps in proptest::collection::vec((0u8..6, 0u8..10, 0i64..8, any::<bool>()), 0..80),
            completed in proptest::option::of(0i32..4),
            failed in proptest::option::of(0i32..4),
        ) {
            let mut kept = Kept::default();
            let mut all: Vec<Finished> = Vec::new();
            let mut keep = KeepLast { completed, failed };
            kept.limit(&keep);
            for (step, who, second, fails) in steps {
                let name = format!("t{who}");
                match step {
                    0 => {
                        kept.remove(&name);
                        all.retain(|f| f.name != name);
                    }
                    1 => {
                        keep.completed = Some(i32::from(who) / 3);
                        kept.limit(&keep);
                    }
                    _ => {
                        let phase = if fails { TaskPhase::Failed } else { TaskPhase::Completed };
                        let one = task(&name, phase, second);
                        all.retain(|f| f.name != name);
                        all.push(one.clone());
                        kept.insert(one);
                    }
                }
                let expect: BTreeSet<String> = surplus(&all, &keep).into_iter().collect();
                let is: BTreeSet<String> = all.iter().filter(|f| kept.is_surplus(&f.name)).map(|f| f.name.clone()).collect();
                prop_assert_eq!(is, expect);
            }
        }
    }
}
