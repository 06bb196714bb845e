//! What is served: one [`Resource`] for each version of each kind, built-in or custom, found by group, version and plural.
//!
//! Built-in kinds come from the table of `kubetask-kinds`, once. Custom ones are rebuilt from the stored
//! CustomResourceDefinitions whenever one changes; readers keep the snapshot they took.

pub(crate) mod custom;
pub(crate) mod lifecycle;
mod resource;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use kubetask_kinds::Kind;
use kubetask_store::{ListOptions, Store};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use custom::Definition;
pub(crate) use resource::{Resource, Source};

/// Bucket of CustomResourceDefinitions.
pub(crate) const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Versions of a group and the resources of each.
pub(crate) type Versions<'a> = Vec<(&'a str, Vec<&'a Arc<Resource>>)>;

/// The resources that are served now.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Established custom resources by group, then version, then plural.
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Resource>>>>,
    /// The definitions behind them, by name.
    pub(crate) definitions: BTreeMap<String, Arc<Definition>>,
    /// Grows with every change.
    pub(crate) generation: u64,
}

impl Snapshot {
    /// Custom groups and their versions in preferred order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, Versions<'_>)> {
        self.groups.iter().map(|(group, versions)| {
            let mut versions: Vec<_> =
                versions.iter().map(|(v, resources)| (v.as_str(), resources.values().collect::<Vec<_>>())).collect();
            versions.sort_by(|a, b| custom::compare_versions(b.0, a.0));
            (group.as_str(), versions)
        })
    }

    /// Whether any custom resource has this group and version.
    pub(crate) fn has_version(&self, group: &str, version: &str) -> bool {
        self.groups.get(group).is_some_and(|versions| versions.contains_key(version))
    }

    fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.groups.get(group)?.get(version)?.get(plural).cloned()
    }
}

/// Finds resources.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    current: RwLock<Arc<Snapshot>>,
    /// Serialises refreshes, so that a late one never overwrites a newer one.
    refreshing: Mutex<()>,
    /// Cancelled when a definition is gone, by its name; made when somebody first wants to know.
    ends: Mutex<HashMap<String, CancellationToken>>,
}

impl Registry {
    /// The resource at a path, if it is served.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        builtin(group, version, plural).or_else(|| self.snapshot().find(group, version, plural))
    }

    /// The custom resources of this moment.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Cancelled when the definition of that name is gone.
    pub(crate) fn end_of(&self, definition: &str) -> CancellationToken {
        let mut ends = self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let end = ends.entry(definition.to_owned()).or_default().clone();
        if !self.snapshot().definitions.contains_key(definition) {
            // It went while the request was on its way here.
            ends.remove(definition);
            end.cancel();
        }
        end
    }

    /// Reads the definitions again; definitions that did not change are kept with all that was compiled from them.
    pub(crate) fn refresh(&self, store: &Store) {
        let _guard = self.refreshing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = self.snapshot();
        let Ok(list) = store.list(CRDS, &ListOptions::default()) else { return };
        let mut next = Snapshot { generation: old.generation + 1, ..Snapshot::default() };
        for entry in list.entries {
            let name = entry.key.to_string();
            let definition = match old.definitions.get(&name) {
                Some(known) if known.revision == entry.revision => known.clone(),
                known => {
                    let object: Value = crate::object::decode(&entry);
                    Arc::new(Definition::new(&object, entry.revision, known.map(AsRef::as_ref)))
                }
            };
            for resource in definition.served() {
                next.groups
                    .entry(resource.group.clone())
                    .or_default()
                    .entry(resource.version.clone())
                    .or_default()
                    .insert(resource.plural.clone(), resource.clone());
            }
            next.definitions.insert(name, definition);
        }
        let gone: Vec<&String> = old.definitions.keys().filter(|name| !next.definitions.contains_key(*name)).collect();
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(next);
        let mut ends = self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for end in gone.into_iter().filter_map(|name| ends.remove(name)) {
            end.cancel();
        }
    }
}

/// All built-in resources, in the order of the table.
pub(crate) fn builtins() -> &'static [Arc<Resource>] {
    static ALL: OnceLock<Vec<Arc<Resource>>> = OnceLock::new();
    ALL.get_or_init(|| kubetask_kinds::registry().iter().map(|kind| Arc::new(Resource::builtin(kind))).collect())
}

/// A built-in resource.
pub(crate) fn builtin(group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
    static INDEX: OnceLock<HashMap<(&'static str, &'static str), usize>> = OnceLock::new();
    let index = INDEX.get_or_init(|| {
        let row = |(at, kind): (usize, &'static Kind)| ((kind.group, kind.plural), at);
        kubetask_kinds::registry().iter().enumerate().map(row).collect()
    });
    let resource = builtins().get(*index.get(&(group, plural))?)?;
    (resource.version == version).then(|| resource.clone())
}

/// Built-in groups in discovery's order, with their versions.
pub(crate) fn builtin_groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut out: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for kind in kubetask_kinds::registry() {
        match out.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, versions)) if versions.contains(&kind.version) => {}
            Some((_, versions)) => versions.push(kind.version),
            None => out.push((kind.group, vec![kind.version])),
        }
    }
    out
}
