//! The simplest thing that could be right: ConfigMaps as fields with managers, and a list of everything that happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Who wrote a field, and whether by apply.
pub(super) type Owner = (&'static str, bool);

/// The finalizer that a call sets or takes away.
pub(super) const HOLD: &str = "f:hold";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// `d:KEY` of the data, `l:KEY` of the labels, [`HOLD`].
    pub values: BTreeMap<String, String>,
    /// What each wrote: fields as above, and `d:.`, `l:.`, `f:.` for the maps and lists themselves.
    pub managed: BTreeMap<Owner, BTreeSet<String>>,
    pub deleting: bool,
    pub revision: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub kind: &'static str,
    pub key: String,
    pub object: Object,
    pub before: Option<Object>,
}

#[derive(Default)]
pub(super) struct Model {
    pub objects: BTreeMap<String, Object>,
    pub history: Vec<Change>,
}

/// How a call ends, apart from the object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Done,
    Unchanged,
    Refused(u16),
}

/// The fields of values, with the maps that hold them.
fn paths(values: &BTreeMap<String, String>) -> BTreeSet<String> {
    values.keys().flat_map(|field| [field.clone(), format!("{}.", &field[..2])]).collect()
}

/// Fields that came or changed, and fields that went.
fn compare(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (before, after) = (paths(old), paths(new));
    let changed = after.iter().filter(|path| !before.contains(*path) || old.get(*path) != new.get(*path));
    (changed.cloned().collect(), before.difference(&after).cloned().collect())
}

impl Object {
    fn disown(&mut self, but: Owner, fields: &BTreeSet<String>) {
        for (owner, set) in &mut self.managed {
            if *owner != but {
                set.retain(|field| !fields.contains(field));
            }
        }
        self.managed.retain(|_, set| !set.is_empty());
    }

    /// Sets fields as an update does: what changes is the manager's alone, what goes is nobody's.
    fn update(&mut self, manager: &'static str, wanted: BTreeMap<String, String>, create: bool) {
        let (changed, removed) = compare(&self.values, &wanted);
        self.values = wanted;
        // An object that nobody is known to have written stays so until it is applied.
        if self.managed.is_empty() && !create {
            return;
        }
        let owner = (manager, false);
        self.managed.entry(owner).or_default().extend(changed.iter().cloned());
        self.disown(owner, &changed);
        self.disown(("", false), &removed);
    }

    /// Sets fields as an apply does; false when others hold some of them with other values and it may not take these.
    fn apply(&mut self, manager: &'static str, wanted: &BTreeMap<String, String>, force: bool) -> bool {
        if self.managed.is_empty() && !self.values.is_empty() {
            self.managed.insert(("before-first-apply", false), paths(&self.values));
        }
        let owner = (manager, true);
        let last = self.managed.insert(owner, wanted.keys().cloned().collect()).unwrap_or_default();
        let mut values = self.values.clone();
        values.extend(wanted.clone());
        // What it gave up goes, unless somebody else has it too.
        values.retain(|field, _| !last.contains(field) || self.managed.values().any(|set| set.contains(field)));
        let (changed, removed) = compare(&self.values, &values);
        let conflict = self.managed.iter().any(|(other, set)| *other != owner && !set.is_disjoint(&changed));
        if conflict && !force {
            return false;
        }
        self.disown(owner, &changed);
        self.disown(owner, &removed);
        self.values = values;
        true
    }

    /// What the object must look like, as far as the model knows.
    pub(super) fn shown(&self) -> Value {
        let part = |prefix: &str| -> BTreeMap<&str, &String> {
            self.values.iter().filter_map(|(field, value)| Some((field.strip_prefix(prefix)?, value))).collect()
        };
        json!({"data": part("d:"), "labels": part("l:"), "finalizer": self.values.contains_key(HOLD),
            "deleting": self.deleting, "revision": self.revision, "owners": self.owners()})
    }

    fn owners(&self) -> BTreeMap<String, &BTreeSet<String>> {
        let named = |(manager, applied): &Owner| format!("{manager} {}", if *applied { "Apply" } else { "Update" });
        self.managed.iter().map(|(owner, set)| (named(owner), set)).collect()
    }
}

/// The same of a real object.
pub(super) fn shown(object: &Value) -> Value {
    let meta = &object["metadata"];
    let or_empty = |value: &Value| if value.is_null() { json!({}) } else { value.clone() };
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in meta["managedFields"].as_array().into_iter().flatten() {
        let who = format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap());
        let meta = &entry["fieldsV1"]["f:metadata"];
        let parts = [("d:", &entry["fieldsV1"]["f:data"]), ("l:", &meta["f:labels"]), ("f:", &meta["f:finalizers"])];
        for (prefix, set) in parts {
            if set.as_object().is_some_and(|set| set.is_empty()) {
                owners.entry(who.clone()).or_default().insert(format!("{prefix}."));
            }
            for field in set.as_object().into_iter().flat_map(|set| set.keys()) {
                let field = if field.starts_with("v:") { "hold" } else { field.trim_start_matches("f:") };
                owners.entry(who.clone()).or_default().insert(format!("{prefix}{field}"));
            }
        }
    }
    json!({"data": or_empty(&object["data"]), "labels": or_empty(&meta["labels"]),
        "finalizer": !meta["finalizers"].is_null(), "deleting": !meta["deletionTimestamp"].is_null(),
        "revision": super::stream::version(object), "owners": owners})
}

impl Model {
    pub(super) fn create(&mut self, key: &str, manager: &'static str, wanted: &BTreeMap<String, String>) -> Outcome {
        if self.objects.contains_key(key) {
            return Outcome::Refused(409);
        }
        let mut object = Object::default();
        object.update(manager, wanted.clone(), true);
        self.put(key, object)
    }

    pub(super) fn update(
        &mut self,
        key: &str,
        manager: &'static str,
        wanted: &BTreeMap<String, String>,
        precondition: Option<u64>,
    ) -> Outcome {
        let Some(old) = self.objects.get(key) else { return Outcome::Refused(404) };
        if precondition.is_some_and(|revision| revision != old.revision) {
            return Outcome::Refused(409);
        }
        let mut object = old.clone();
        object.update(manager, wanted.clone(), false);
        self.put(key, object)
    }

    pub(super) fn apply(
        &mut self,
        key: &str,
        manager: &'static str,
        wanted: &BTreeMap<String, String>,
        force: bool,
    ) -> Outcome {
        let mut object = self.objects.get(key).cloned().unwrap_or_default();
        if object.apply(manager, wanted, force) { self.put(key, object) } else { Outcome::Refused(409) }
    }

    pub(super) fn hold(&mut self, key: &str, hold: bool) -> Outcome {
        let Some(old) = self.objects.get(key) else { return Outcome::Refused(404) };
        if hold && old.deleting && !old.values.contains_key(HOLD) {
            return Outcome::Refused(422);
        }
        let mut object = old.clone();
        let mut wanted = object.values.clone();
        if hold {
            wanted.insert(HOLD.to_owned(), String::new());
        } else {
            wanted.remove(HOLD);
        }
        object.update("hold", wanted, false);
        if object.deleting && !hold {
            return self.remove(key);
        }
        self.put(key, object)
    }

    pub(super) fn delete(&mut self, key: &str) -> Outcome {
        let Some(old) = self.objects.get(key) else { return Outcome::Refused(404) };
        let mut object = old.clone();
        if !object.values.contains_key(HOLD) {
            return self.remove(key);
        }
        object.deleting = true;
        self.put(key, object)
    }

    /// What is told of it is what was stored, still held by the finalizer whose removal was its end.
    fn remove(&mut self, key: &str) -> Outcome {
        let before = self.objects.remove(key);
        let object = before.clone().unwrap_or_default();
        self.history.push(Change { kind: "DELETED", key: key.to_owned(), object, before });
        Outcome::Done
    }

    /// Keeps a new state; its revision is the server's to tell.
    fn put(&mut self, key: &str, object: Object) -> Outcome {
        let before = self.objects.get(key).cloned();
        if before.as_ref() == Some(&object) {
            return Outcome::Unchanged;
        }
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.to_owned(), object.clone());
        self.history.push(Change { kind, key: key.to_owned(), object, before });
        if kind == "ADDED" { Outcome::Created } else { Outcome::Done }
    }

    /// What the latest change is numbered.
    pub(super) fn number(&mut self, revision: u64) {
        let last = self.history.last_mut().unwrap();
        last.object.revision = revision;
        if let Some(object) = self.objects.get_mut(&last.key) {
            object.revision = revision;
        }
    }

    /// The state at a revision.
    pub(super) fn at(&self, revision: u64) -> BTreeMap<String, Object> {
        let mut objects = BTreeMap::new();
        for change in self.history.iter().take_while(|change| change.object.revision <= revision) {
            if change.kind == "DELETED" {
                objects.remove(&change.key);
            } else {
                objects.insert(change.key.clone(), change.object.clone());
            }
        }
        objects
    }

    /// What a watch after a revision must tell, for the objects that a selector takes.
    pub(super) fn events(&self, after: u64, takes: impl Fn(&str, &Object) -> bool) -> Vec<(String, String, Value)> {
        let mut events = Vec::new();
        for change in self.history.iter().filter(|change| change.object.revision > after) {
            let before = change.before.as_ref().filter(|object| takes(&change.key, object));
            let now = (change.kind != "DELETED" && takes(&change.key, &change.object)).then_some(&change.object);
            let (kind, object) = match (before, now) {
                (None, Some(now)) => ("ADDED", now.clone()),
                (Some(_), Some(now)) => ("MODIFIED", now.clone()),
                // What the watcher knew, at the revision at which it went.
                (Some(before), None) => {
                    let state = if change.kind == "DELETED" { &change.object } else { before };
                    ("DELETED", Object { revision: change.object.revision, ..state.clone() })
                }
                (None, None) => continue,
            };
            events.push((kind.to_owned(), change.key.clone(), object.shown()));
        }
        events
    }
}
