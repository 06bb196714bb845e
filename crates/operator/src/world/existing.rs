//! Which ConfigMaps, Secrets and service accounts there are: names only. Content is fetched when a Task needs it.

use std::collections::HashSet;

use kubetask_core::task::RefKind;

/// Names of objects that exist.
#[derive(Debug, Default)]
pub struct Existing {
    config_maps: HashSet<(String, String)>,
    secrets: HashSet<(String, String)>,
    service_accounts: HashSet<(String, String)>,
}

impl Existing {
    /// Whether the object exists.
    #[must_use]
    pub fn contains(&self, kind: RefKind, namespace: &str, name: &str) -> bool {
        self.set(kind).is_some_and(|set| set.contains(&(namespace.to_owned(), name.to_owned())))
    }

    /// It exists. Tells whether that is new.
    pub fn insert(&mut self, kind: RefKind, namespace: &str, name: &str) -> bool {
        self.set_mut(kind).is_some_and(|set| set.insert((namespace.to_owned(), name.to_owned())))
    }

    /// It does not exist any more.
    pub fn remove(&mut self, kind: RefKind, namespace: &str, name: &str) {
        if let Some(set) = self.set_mut(kind) {
            set.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }

    /// These exist, and no others of the kind. Returns what is new or gone.
    pub fn replace(&mut self, kind: RefKind, names: HashSet<(String, String)>) -> Vec<(String, String)> {
        let Some(set) = self.set_mut(kind) else { return Vec::new() };
        let changed = set.symmetric_difference(&names).cloned().collect();
        *set = names;
        changed
    }

    fn set(&self, kind: RefKind) -> Option<&HashSet<(String, String)>> {
        match kind {
            RefKind::Agent => None,
            RefKind::ConfigMap => Some(&self.config_maps),
            RefKind::Secret => Some(&self.secrets),
            RefKind::ServiceAccount => Some(&self.service_accounts),
        }
    }

    fn set_mut(&mut self, kind: RefKind) -> Option<&mut HashSet<(String, String)>> {
        match kind {
            RefKind::Agent => None,
            RefKind::ConfigMap => Some(&mut self.config_maps),
            RefKind::Secret => Some(&mut self.secrets),
            RefKind::ServiceAccount => Some(&mut self.service_accounts),
        }
    }
}
