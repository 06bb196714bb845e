//! Which BatchRuns name which Batch: a Batch that changes concerns those, and nobody looks through all.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Resource;
use kube::runtime::watcher::Event;
use kubetask_api::BatchRun;

use crate::world::{TaskKey, names};

/// BatchRuns by the Batch they name. Clones share it.
#[derive(Clone, Default)]
pub(super) struct RunsOfBatches(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Index,
    /// What the list that is under way has named.
    listed: Option<Index>,
}

/// Namespaces and names.
#[derive(Default)]
struct Index {
    /// Of a Batch, the names of its runs.
    runs: HashMap<TaskKey, BTreeSet<Arc<str>>>,
    /// Of a run, the name of its Batch.
    batch: HashMap<TaskKey, Arc<str>>,
}

impl RunsOfBatches {
    /// Takes in what the watch of BatchRuns tells.
    pub(super) fn take_in(&self, event: &Event<BatchRun>) {
        let mut state = self.lock();
        match event {
            Event::Init => state.listed = Some(Index::default()),
            Event::InitApply(run) => {
                state.now.put(run);
                if let Some(listed) = &mut state.listed {
                    listed.put(run);
                }
            }
            Event::InitDone => {
                if let Some(listed) = state.listed.take() {
                    state.now = listed;
                }
            }
            Event::Apply(run) => state.now.put(run),
            Event::Delete(run) => state.now.remove(&key(run)),
        }
    }

    /// The names of the BatchRuns of that Batch, in its namespace.
    pub(super) fn of(&self, namespace: &str, batch: &str) -> Vec<Arc<str>> {
        let state = self.lock();
        let runs = state.now.runs.get(&TaskKey::new(namespace, batch));
        runs.map(|runs| runs.iter().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when it ends.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn put(&mut self, run: &BatchRun) {
        let key = key(run);
        let batch = run.spec.batch_ref.as_deref();
        if self.batch.get(&key).map(|known| &**known) == batch {
            return;
        }
        self.remove(&key);
        if let Some(batch) = batch {
            let batch: Arc<str> = batch.into();
            let of = TaskKey { namespace: key.namespace.clone(), name: batch.clone() };
            self.runs.entry(of).or_default().insert(key.name.clone());
            self.batch.insert(key, batch);
        }
    }

    fn remove(&mut self, key: &TaskKey) {
        let Some(batch) = self.batch.remove(key) else { return };
        let of = TaskKey { namespace: key.namespace.clone(), name: batch };
        if let Some(runs) = self.runs.get_mut(&of) {
            runs.remove(&key.name);
            if runs.is_empty() {
                self.runs.remove(&of);
            }
        }
    }
}

fn key(run: &BatchRun) -> TaskKey {
    let (namespace, name) = names(run.meta());
    TaskKey::new(&namespace, &name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, batch: Option<&str>) -> BatchRun {
        let metadata = json!({"name": name, "namespace": "n"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"batchRef": batch}})).unwrap()
    }

    fn of(runs: &RunsOfBatches, batch: &str) -> Vec<String> {
        runs.of("n", batch).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn runs_are_found_by_their_batch() {
        let runs = RunsOfBatches::default();
        for (name, batch) in [("r1", Some("b")), ("r2", Some("b")), ("r3", Some("c")), ("r4", None)] {
            runs.take_in(&Event::Apply(run(name, batch)));
        }
        assert_eq!((of(&runs, "b"), of(&runs, "c")), (vec!["r1".to_owned(), "r2".to_owned()], vec!["r3".to_owned()]));
        assert!(runs.of("other", "b").is_empty());
        runs.take_in(&Event::Apply(run("r2", Some("c"))));
        runs.take_in(&Event::Delete(run("r3", Some("c"))));
        assert_eq!((of(&runs, "b"), of(&runs, "c")), (vec!["r1".to_owned()], vec!["r2".to_owned()]));
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let runs = RunsOfBatches::default();
        runs.take_in(&Event::Apply(run("r1", Some("b"))));
        runs.take_in(&Event::Init);
        runs.take_in(&Event::InitApply(run("r2", Some("b"))));
        assert_eq!(of(&runs, "b").len(), 2, "as long as the list is not complete, nothing is gone");
        runs.take_in(&Event::InitDone);
        assert_eq!(of(&runs, "b"), ["r2"]);
        runs.take_in(&Event::Delete(run("r2", Some("b"))));
        let state = runs.lock();
        assert!(state.now.runs.is_empty() && state.now.batch.is_empty() && state.listed.is_none());
    }
}
