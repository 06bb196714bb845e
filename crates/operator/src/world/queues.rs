//! Which Task has a place at its Agent, and which waits for one: a [`Queue`] for each Agent.
//!
//! Tasks of Agents without a limit are counted too, so that a limit set later is right at once. Every change answers with
//! the Tasks that must be looked at: those that were admitted, and those whose place in the queue is worth telling.

use std::collections::HashMap;

use kubetask_core::queue::{Place, Queue};
use kubetask_core::task::Admission;

use super::TaskKey;

/// Places up to this one are told exactly; further back a Task is looked at from time to time.
const NEAR: usize = 10;

/// The queues of all Agents.
#[derive(Debug, Default)]
pub struct Queues {
    by_agent: HashMap<(String, String), Agent>,
    /// The Agent under which a Task is counted.
    agent_of: HashMap<TaskKey, String>,
    /// Tasks that were there when the operator started and have not been looked at, and their Agents.
    gathering: HashMap<TaskKey, String>,
    /// How many of those each Agent has.
    missing: HashMap<(String, String), usize>,
}

#[derive(Debug, Default)]
struct Agent {
    queue: Queue,
    /// How often somebody left; decides whose turn it is to be told.
    changes: usize,
}

impl Agent {
    /// Those that wait from a place on and are to be told where they stand.
    fn worth_telling(&self, namespace: &str, from: usize) -> impl Iterator<Item = TaskKey> {
        let waiting = self.queue.waiting().enumerate().skip(from);
        // A place far back is told in steps of a tenth; each Task there has its turn about that often.
        let has_its_turn = |index: usize| index < NEAR || (spread(index) + self.changes).is_multiple_of(index / NEAR);
        waiting.filter(move |(index, _)| has_its_turn(*index)).map(move |(_, name)| TaskKey::new(namespace, name))
    }
}

impl Queues {
    /// The Task has a place at this Agent, whatever its limit.
    pub fn activate(&mut self, task: &TaskKey, agent: &str) {
        self.count_under(task, agent);
        self.agent(task, agent).queue.activate(&task.name);
    }

    /// The Task asks for a place. Answers what it is told, and who else must be looked at.
    pub fn ask(
        &mut self,
        task: &TaskKey,
        agent: &str,
        place: Place,
        limit: Option<usize>,
    ) -> (Option<Admission>, Vec<TaskKey>) {
        self.count_under(task, agent);
        let key = (task.namespace.to_string(), agent.to_owned());
        let gathering = limit.is_some() && self.missing.contains_key(&key);
        let entry = self.agent(task, agent);
        let moved = entry.queue.wait(place);
        if gathering && !entry.queue.is_active(&task.name) {
            return (None, Vec::new());
        }
        let admitted = entry.queue.admit(limit);
        let admission = entry.queue.admission(&task.name, limit);
        let mut others: Vec<TaskKey> = admitted
            .into_iter()
            .filter(|name| **name != *task.name)
            .map(|name| TaskKey::new(&task.namespace, &name))
            .collect();
        if moved && admission != Admission::Free {
            // Whom it has overtaken is further back now. Mostly nobody: who comes later waits later.
            let place = entry.queue.waiting().position(|name| *name == *task.name).unwrap_or(usize::MAX);
            others.extend(entry.worth_telling(&task.namespace, place.saturating_add(1)));
        }
        (Some(admission), others)
    }

    /// The Task ended, went, or cannot start now. Answers at which Agent it had or wanted a place.
    pub fn leave(&mut self, task: &TaskKey) -> Option<String> {
        let agent = self.agent_of.remove(task)?;
        let key = (task.namespace.to_string(), agent);
        if let Some(entry) = self.by_agent.get_mut(&key) {
            entry.queue.remove(&task.name);
            entry.changes += 1;
            if entry.queue.counts() == (0, 0) {
                self.by_agent.remove(&key);
            }
        }
        Some(key.1)
    }

    /// The Task was there when the operator started, and may ask for a place at this Agent.
    pub fn gather(&mut self, task: &TaskKey, agent: &str) {
        if self.gathering.insert(task.clone(), agent.to_owned()).is_none() {
            *self.missing.entry((task.namespace.to_string(), agent.to_owned())).or_default() += 1;
        }
    }

    /// The Task has been looked at. Answers the Agent whose Tasks all have been by now, if it was the last one.
    pub fn gathered(&mut self, task: &TaskKey) -> Option<String> {
        let agent = self.gathering.remove(task)?;
        let key = (task.namespace.to_string(), agent);
        let missing = self.missing.get_mut(&key)?;
        *missing -= 1;
        if *missing > 0 {
            return None;
        }
        self.missing.remove(&key);
        Some(key.1)
    }

    /// All Tasks that were there have been looked at. Answers all that wait: the order is known now, and the first of
    /// them to ask for a place again admits those whose turn it is. Nobody is admitted here, for the watch may not have
    /// shown the Agent yet, and so not its limit.
    pub fn begin(&mut self, namespace: &str, agent: &str) -> Vec<TaskKey> {
        let Some(entry) = self.by_agent.get(&(namespace.to_owned(), agent.to_owned())) else { return Vec::new() };
        entry.queue.waiting().map(|name| TaskKey::new(namespace, name)).collect()
    }

    /// Whether the Task is counted under an Agent.
    #[must_use]
    pub fn is_counted(&self, task: &TaskKey) -> bool {
        self.agent_of.contains_key(task)
    }

    /// Somebody left, or the limit changed: admits as many as there are places. Answers who must be looked at.
    pub fn advance(&mut self, namespace: &str, agent: &str, limit: Option<usize>) -> Vec<TaskKey> {
        let key = (namespace.to_owned(), agent.to_owned());
        if self.missing.contains_key(&key) {
            return Vec::new();
        }
        let Some(entry) = self.by_agent.get_mut(&key) else { return Vec::new() };
        let mut looks: Vec<TaskKey> =
            entry.queue.admit(limit).iter().map(|name| TaskKey::new(namespace, name)).collect();
        looks.extend(entry.worth_telling(namespace, 0));
        looks
    }

    /// How many Tasks of an Agent have a place, and how many wait.
    #[must_use]
    pub fn counts(&self, namespace: &str, agent: &str) -> (usize, usize) {
        self.by_agent.get(&(namespace.to_owned(), agent.to_owned())).map_or((0, 0), |entry| entry.queue.counts())
    }

    /// How many Tasks of each Agent, by namespace and name, have a place, and how many wait.
    #[must_use]
    pub fn all_counts(&self) -> Vec<((String, String), (usize, usize))> {
        let mut all: Vec<_> = self.by_agent.iter().map(|(key, agent)| (key.clone(), agent.queue.counts())).collect();
        all.sort_unstable();
        all
    }

    fn agent(&mut self, task: &TaskKey, agent: &str) -> &mut Agent {
        self.by_agent.entry((task.namespace.to_string(), agent.to_owned())).or_default()
    }

    /// A Task is counted under one Agent only: agentRef may change as long as it waits.
    fn count_under(&mut self, task: &TaskKey, agent: &str) {
        if self.agent_of.get(task).is_some_and(|known| known == agent) {
            return;
        }
        self.leave(task);
        self.agent_of.insert(task.clone(), agent.to_owned());
    }
}

/// Turns that come at regular distances would all come at once now and then.
fn spread(index: usize) -> usize {
    // Knuth's multiplicative hash; the high bits are the good ones.
    index.wrapping_mul(2_654_435_761) >> 8 & 0xffff
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn place(name: &str) -> Place {
        Place { priority: 0, created: Timestamp::UNIX_EPOCH, name: name.to_owned() }
    }

    fn key(name: &str) -> TaskKey {
        TaskKey::new("n", name)
    }

    #[test]
    fn a_place_that_becomes_free_goes_to_the_next() {
        let mut queues = Queues::default();
        let ask = |queues: &mut Queues, name: &str| queues.ask(&key(name), "a", place(name), Some(1));
        assert_eq!(ask(&mut queues, "t1"), (Some(Admission::Free), vec![]));
        assert!(matches!(ask(&mut queues, "t2").0, Some(Admission::Queued { position: 1, .. })));
        assert!(matches!(ask(&mut queues, "t3").0, Some(Admission::Queued { position: 2, .. })));
        assert_eq!(queues.leave(&key("t1")).as_deref(), Some("a"));
        // The first is admitted, the second has moved up.
        assert_eq!(queues.advance("n", "a", Some(1)), [key("t2"), key("t3")]);
        assert_eq!(ask(&mut queues, "t2").0, Some(Admission::Free));
        assert_eq!(queues.counts("n", "a"), (1, 1));
        for name in ["t2", "t3"] {
            queues.leave(&key(name));
        }
        assert_eq!(queues.leave(&key("t3")), None);
        assert!(queues.by_agent.is_empty() && queues.agent_of.is_empty());
    }

    #[test]
    fn at_the_start_nobody_is_admitted_before_it_is_known_who_is_first() {
        let mut queues = Queues::default();
        let names = ["low", "high", "other"];
        names.iter().for_each(|name| queues.gather(&key(name), "a"));
        let place = |name: &str| Place { priority: i32::from(name == "high"), ..place(name) };
        let ask = |queues: &mut Queues, name: &str| queues.ask(&key(name), "a", place(name), Some(1)).0;
        assert_eq!(ask(&mut queues, "low"), None);
        assert_eq!(queues.gathered(&key("low")), None);
        // Somebody who comes now waits like the others.
        assert_eq!(ask(&mut queues, "new"), None);
        assert_eq!(queues.gathered(&key("other")), None);
        assert_eq!(ask(&mut queues, "high"), None);
        assert_eq!(queues.gathered(&key("high")).as_deref(), Some("a"));
        assert_eq!(queues.begin("n", "a"), ["high", "low", "new"].map(key));
        assert_eq!(queues.counts("n", "a"), (0, 3), "the limit is known to those who ask");
        assert!(matches!(ask(&mut queues, "low"), Some(Admission::Queued { position: 1, .. })));
        assert_eq!(ask(&mut queues, "high"), Some(Admission::Free));
        assert!(queues.gathering.is_empty() && queues.missing.is_empty());
    }

    #[test]
    fn a_task_that_changes_its_agent_leaves_the_old_one() {
        let mut queues = Queues::default();
        queues.ask(&key("t"), "a", place("t"), Some(1));
        queues.activate(&key("t"), "b");
        assert_eq!((queues.counts("n", "a"), queues.counts("n", "b")), ((0, 0), (1, 0)));
    }

    #[test]
    fn who_is_overtaken_is_told() {
        let mut queues = Queues::default();
        queues.activate(&key("busy"), "a");
        queues.ask(&key("t1"), "a", place("t1"), Some(1));
        let urgent = Place { priority: 1, ..place("urgent") };
        assert_eq!(queues.ask(&key("urgent"), "a", urgent.clone(), Some(1)).1, [key("t1")]);
        // Asking again is no news, or they would look at each other for ever.
        assert_eq!(queues.ask(&key("urgent"), "a", urgent, Some(1)).1, []);
        assert_eq!(queues.ask(&key("t1"), "a", place("t1"), Some(1)).1, []);
    }

    #[test]
    fn far_back_few_are_told() {
        let mut queues = Queues::default();
        queues.activate(&key("busy"), "a");
        for index in 0..2000 {
            let name = format!("t{index:05}");
            queues.ask(&key(&name), "a", place(&name), Some(1));
        }
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..250 {
            let looks = queues.advance("n", "a", Some(1));
            assert!(looks.len() < 120, "{}", looks.len());
            told.extend(looks);
            let entry = queues.by_agent.get_mut(&("n".to_owned(), "a".to_owned())).unwrap();
            entry.changes += 1;
        }
        assert_eq!(told.len(), 2000, "everyone has a turn");
    }
}
