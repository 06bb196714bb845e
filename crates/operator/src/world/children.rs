//! The Tasks that CronTasks and BatchRuns made.
//!
//! A Task that was just created is known before its watch event arrives, so that the next look at its maker counts it;
//! one that was just deleted counts as going. A Task of a BatchRun that ended and went is kept until its end is written
//! into the BatchRun's status: otherwise it would be run again.

use std::collections::{BTreeMap, HashMap};

use kubetask_api::Task;
use kubetask_core::child::{Child, Maker, MakerKind};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::TaskKey;

/// Kind, namespace and name of a maker.
type MakerKey = (MakerKind, String, String);

/// The Tasks of all makers.
#[derive(Default)]
pub struct Children {
    by_maker: HashMap<MakerKey, BTreeMap<String, Entry>>,
    maker_of: HashMap<TaskKey, MakerKey>,
    /// Tasks that are being created, and whether the watch said meanwhile that they are gone.
    creating: HashMap<TaskKey, bool>,
    listeners: HashMap<MakerKind, UnboundedSender<TaskKey>>,
}

#[derive(Debug)]
struct Entry {
    maker_uid: String,
    child: Child,
    /// It went, and its end is not written yet.
    gone: bool,
}

impl Children {
    /// Namespace and name of each maker of that kind that must be looked at because of its Tasks.
    pub fn listen(&mut self, kind: MakerKind) -> UnboundedReceiver<TaskKey> {
        let (sender, receiver) = unbounded_channel();
        self.listeners.insert(kind, sender);
        receiver
    }

    /// The Tasks that the maker with this UID made, by name.
    #[must_use]
    pub fn of(&self, kind: MakerKind, maker: &TaskKey, uid: &str) -> Vec<Child> {
        let entries = self.by_maker.get(&key(kind, maker)).into_iter().flat_map(BTreeMap::values);
        entries.filter(|entry| entry.maker_uid == uid).map(|entry| entry.child.clone()).collect()
    }

    /// Takes in a Task from the watch.
    pub fn put(&mut self, task: &Task) {
        let of = TaskKey::of(task);
        let Some(maker) = Maker::of(&task.metadata) else {
            // It was orphaned.
            if self.maker_of.contains_key(&of) {
                self.remove(&of);
            }
            return;
        };
        let mut child = Child::of(task);
        let maker_key = (maker.kind, of.namespace.to_string(), maker.name);
        let entries = self.by_maker.entry(maker_key.clone()).or_default();
        if let Some(known) = entries.get(&child.name).filter(|known| known.child.uid == child.uid) {
            // Once deleted, always deleted, whatever old news says.
            child.going |= known.child.going;
            if known.child == child {
                return;
            }
        }
        entries.insert(child.name.clone(), Entry { maker_uid: maker.uid, child, gone: false });
        self.maker_of.insert(of, maker_key.clone());
        self.tell(&maker_key);
    }

    /// The Task went.
    pub fn remove(&mut self, task: &TaskKey) {
        if let Some(gone) = self.creating.get_mut(task) {
            *gone = true;
        }
        let Some(maker) = self.maker_of.remove(task) else { return };
        if let Some(entries) = self.by_maker.get_mut(&maker)
            && let Some(entry) = entries.get_mut(&*task.name)
        {
            entry.gone = true;
            if maker.0 != MakerKind::BatchRun || entry.child.going || entry.child.is_open() {
                entries.remove(&*task.name);
            }
            if entries.is_empty() {
                self.by_maker.remove(&maker);
            }
        }
        self.tell(&maker);
    }

    /// A Task is about to be created.
    pub fn creating(&mut self, task: &TaskKey) {
        self.creating.insert(task.clone(), false);
    }

    /// The answer to its creation: the Task, or nothing. What the watch has said meanwhile stays.
    pub fn created(&mut self, task: &TaskKey, created: Option<&Task>) {
        let gone = self.creating.remove(task).unwrap_or(false);
        if let (Some(created), false) = (created, gone) {
            let uid = created.metadata.uid.as_deref().unwrap_or_default();
            let known = self.maker_of.get(task).and_then(|maker| self.by_maker.get(maker)?.get(&*task.name));
            if known.is_none_or(|entry| entry.child.uid != uid) {
                self.put(created);
            }
        }
    }

    /// The Task was deleted, or was gone already.
    pub fn deleted(&mut self, kind: MakerKind, maker: &TaskKey, child: &Child) {
        let key = key(kind, maker);
        let Some(entries) = self.by_maker.get_mut(&key) else { return };
        match entries.get_mut(&child.name).filter(|entry| entry.child.uid == child.uid) {
            Some(entry) if entry.gone => drop(entries.remove(&child.name)),
            Some(entry) => entry.child.going = true,
            None => {}
        }
    }

    /// The ends of these Tasks are written into their maker's status.
    pub fn written(&mut self, kind: MakerKind, maker: &TaskKey, children: &[Child]) {
        let key = key(kind, maker);
        let Some(entries) = self.by_maker.get_mut(&key) else { return };
        for child in children.iter().filter(|child| !child.is_open()) {
            if entries.get(&child.name).is_some_and(|entry| entry.gone && entry.child.uid == child.uid) {
                entries.remove(&child.name);
            }
        }
        if entries.is_empty() {
            self.by_maker.remove(&key);
        }
    }

    /// The maker went: nobody waits for the ends of its Tasks.
    pub fn forget(&mut self, kind: MakerKind, maker: &TaskKey) {
        let key = key(kind, maker);
        if let Some(entries) = self.by_maker.get_mut(&key) {
            entries.retain(|_, entry| !entry.gone);
            if entries.is_empty() {
                self.by_maker.remove(&key);
            }
        }
    }

    fn tell(&self, (kind, namespace, name): &MakerKey) {
        if let Some(listener) = self.listeners.get(kind) {
            // Nobody listens only when the operator ends.
            let _ = listener.send(TaskKey::new(namespace, name));
        }
    }
}

fn key(kind: MakerKind, maker: &TaskKey) -> MakerKey {
    (kind, maker.namespace.to_string(), maker.name.to_string())
}

#[cfg(test)]
mod tests {
    use kubetask_api::TaskPhase;
    use serde_json::json;

    use super::*;

    fn task(name: &str, uid: &str, kind: &str, phase: &str) -> Task {
        let owner =
            json!({"apiVersion": "kubetask.io/v1alpha1", "kind": kind, "name": "m", "uid": "u", "controller": true});
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": uid, "ownerReferences": [owner]},
            "spec": {"contexts": []}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn maker() -> TaskKey {
        TaskKey::new("n", "m")
    }

    #[test]
    fn makers_are_told_what_is_new() {
        let mut children = Children::default();
        let mut told = children.listen(MakerKind::CronTask);
        children.put(&task("t", "1", "CronTask", "Pending"));
        assert_eq!(told.try_recv().unwrap(), maker());
        children.put(&task("t", "1", "CronTask", "Pending"));
        children.put(&task("b", "2", "BatchRun", "Pending"));
        assert!(told.try_recv().is_err());
        assert_eq!(children.of(MakerKind::CronTask, &maker(), "u").len(), 1);
        assert_eq!(children.of(MakerKind::CronTask, &maker(), "former"), []);
        children.remove(&TaskKey::new("n", "t"));
        assert!(told.try_recv().is_ok());
        assert!(children.of(MakerKind::CronTask, &maker(), "u").is_empty());
    }

    #[test]
    fn created_and_deleted_are_known_before_the_watch_tells() {
        let mut children = Children::default();
        let (key, new) = (TaskKey::new("n", "t"), task("t", "1", "CronTask", "Completed"));
        children.creating(&key);
        children.created(&key, Some(&new));
        let child = children.of(MakerKind::CronTask, &maker(), "u").remove(0);
        children.deleted(MakerKind::CronTask, &maker(), &child);
        children.put(&new);
        assert!(children.of(MakerKind::CronTask, &maker(), "u")[0].going);
        children.remove(&key);
        // Deleted before the answer to its creation came: it stays deleted.
        children.creating(&key);
        children.put(&new);
        children.remove(&key);
        children.created(&key, Some(&new));
        assert!(children.by_maker.is_empty() && children.maker_of.is_empty() && children.creating.is_empty());
    }

    #[test]
    fn ends_of_a_batch_are_kept_until_they_are_written() {
        let mut children = Children::default();
        children.put(&task("t", "1", "BatchRun", "Completed"));
        children.put(&task("open", "2", "BatchRun", "Running"));
        children.remove(&TaskKey::new("n", "t"));
        children.remove(&TaskKey::new("n", "open"));
        let known = children.of(MakerKind::BatchRun, &maker(), "u");
        assert_eq!(known.iter().map(|c| (c.name.as_str(), c.phase)).collect::<Vec<_>>(), [("t", TaskPhase::Completed)]);
        children.written(MakerKind::BatchRun, &maker(), &known);
        assert!(children.by_maker.is_empty() && children.maker_of.is_empty());
    }

    #[test]
    fn nothing_is_kept_for_a_maker_that_is_gone() {
        let mut children = Children::default();
        let mut told = children.listen(MakerKind::BatchRun);
        children.put(&task("t", "1", "BatchRun", "Completed"));
        // The BatchRun was deleted; the garbage collector takes its Tasks.
        children.forget(MakerKind::BatchRun, &maker());
        children.remove(&TaskKey::new("n", "t"));
        assert_eq!([told.try_recv().unwrap(), told.try_recv().unwrap()], [maker(), maker()], "its controller is asked");
        children.forget(MakerKind::BatchRun, &maker());
        assert!(children.by_maker.is_empty() && children.maker_of.is_empty());
    }
}
