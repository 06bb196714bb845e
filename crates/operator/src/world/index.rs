//! Who refers to what, both ways.

use std::collections::{BTreeSet, HashMap};

use kubetask_core::task::{RefKind, Reference};

use super::TaskKey;

/// Kind, namespace and name of an object that is referred to.
type Target = (RefKind, String, String);

/// Which Tasks refer to which objects.
#[derive(Debug, Default)]
pub struct ReferenceIndex {
    by_target: HashMap<Target, BTreeSet<TaskKey>>,
    by_task: HashMap<TaskKey, Vec<Target>>,
}

impl ReferenceIndex {
    /// The Task refers to these objects, and no others.
    pub fn set(&mut self, task: &TaskKey, references: &[Reference]) {
        let targets: Vec<Target> =
            references.iter().map(|r| (r.kind, task.namespace.to_string(), r.name.clone())).collect();
        if self.by_task.get(task) == Some(&targets) {
            return;
        }
        self.remove(task);
        for target in &targets {
            self.by_target.entry(target.clone()).or_default().insert(task.clone());
        }
        self.by_task.insert(task.clone(), targets);
    }

    /// The Task refers to nothing any more.
    pub fn remove(&mut self, task: &TaskKey) {
        for target in self.by_task.remove(task).unwrap_or_default() {
            if let Some(tasks) = self.by_target.get_mut(&target) {
                tasks.remove(task);
                if tasks.is_empty() {
                    self.by_target.remove(&target);
                }
            }
        }
    }

    /// The Tasks that refer to an object.
    #[must_use]
    pub fn referring(&self, kind: RefKind, namespace: &str, name: &str) -> Vec<TaskKey> {
        let target = (kind, namespace.to_owned(), name.to_owned());
        self.by_target.get(&target).map(|tasks| tasks.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many Tasks are in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_task.len()
    }

    /// Whether no Task is in the index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_task.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(kind: RefKind, name: &str) -> Reference {
        Reference { kind, name: name.to_owned(), optional: false, data: true }
    }

    #[test]
    fn references_are_found_both_ways() {
        let mut index = ReferenceIndex::default();
        let (a, b) = (TaskKey::new("n", "a"), TaskKey::new("n", "b"));
        let guide = reference(RefKind::ConfigMap, "guide");
        index.set(&a, &[guide.clone(), reference(RefKind::Agent, "x")]);
        index.set(&b, std::slice::from_ref(&guide));
        assert_eq!(index.referring(RefKind::ConfigMap, "n", "guide"), [a.clone(), b.clone()]);
        assert_eq!(index.referring(RefKind::ConfigMap, "other", "guide"), []);
        assert_eq!(index.referring(RefKind::Secret, "n", "guide"), []);
        index.set(&a, &[reference(RefKind::Agent, "y")]);
        assert_eq!(index.referring(RefKind::ConfigMap, "n", "guide"), std::slice::from_ref(&b));
        assert_eq!(index.referring(RefKind::Agent, "n", "x"), []);
        assert_eq!(index.referring(RefKind::Agent, "n", "y"), std::slice::from_ref(&a));
        index.remove(&a);
        index.remove(&b);
        assert!(index.is_empty() && index.by_target.is_empty());
    }
}
