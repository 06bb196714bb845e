//! Whose status must be looked at: Agents that changed, that got or lost Tasks, or whose references came or went.

use kubetask_core::task::{RefKind, Reference};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{ReferenceIndex, TaskKey};

/// Tells whose status must be looked at.
#[derive(Default)]
pub struct AgentLooks {
    listener: Option<UnboundedSender<TaskKey>>,
    /// Which Agent refers to what.
    references: ReferenceIndex,
}

impl AgentLooks {
    /// Namespace and name of each Agent that must be looked at.
    pub fn listen(&mut self) -> UnboundedReceiver<TaskKey> {
        let (sender, receiver) = unbounded_channel();
        self.listener = Some(sender);
        receiver
    }

    /// The Agent refers to these objects, and no others.
    pub fn refers_to(&mut self, agent: &TaskKey, references: &[Reference]) {
        self.references.set(agent, references);
    }

    /// The Agent changed, or got or lost a Task.
    pub fn at(&self, namespace: &str, agent: &str) {
        self.tell(TaskKey::new(namespace, agent));
    }

    /// An object came or went.
    pub fn about(&self, kind: RefKind, namespace: &str, name: &str) {
        self.references.referring(kind, namespace, name).into_iter().for_each(|agent| self.tell(agent));
    }

    /// The Agent went.
    pub fn forget(&mut self, namespace: &str, agent: &str) {
        self.references.remove(&TaskKey::new(namespace, agent));
    }

    fn tell(&self, agent: TaskKey) {
        if let Some(listener) = &self.listener {
            // Nobody listens only when the operator ends.
            let _ = listener.send(agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_told_of_what_they_refer_to() {
        let mut looks = AgentLooks::default();
        let mut told = looks.listen();
        let agent = TaskKey::new("n", "a");
        let token = Reference { kind: RefKind::Secret, name: "token".to_owned(), optional: false, data: false };
        looks.refers_to(&agent, &[token]);
        looks.about(RefKind::ConfigMap, "n", "token");
        looks.about(RefKind::Secret, "n", "token");
        assert_eq!((told.try_recv().ok(), told.try_recv().ok()), (Some(agent), None));
        looks.forget("n", "a");
        looks.about(RefKind::Secret, "n", "token");
        assert!(told.try_recv().is_err());
    }
}
