//! Status writes: a merge patch of what changed, with the resourceVersion as its precondition, and what was written last.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::FIELD_MANAGER;

/// After how long to look again at an object whose status was not written because somebody was faster. Their change
/// comes with the watch, mostly sooner; but a server may speak of a conflict without one.
pub(crate) const CONFLICT_AGAIN: Duration = Duration::from_millis(500);

/// Writes what changed of the status, provided that the object is still the one that was looked at. Returns the new
/// resourceVersion; `None` when it is not.
pub(crate) async fn write<K, S>(
    client: &Client,
    object: &K,
    old: &S,
    new: &S,
) -> Result<Option<String>, Box<kube::Error>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let encode = |status: &S| serde_json::to_value(status).map_err(|error| Box::new(kube::Error::SerdeError(error)));
    let (old, new) = (encode(old)?, encode(new)?);
    let meta = object.meta();
    let patch = json!({
        "metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid},
        "status": merge_diff(&old, &new),
    });
    let api: Api<K> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(meta.name.as_deref().unwrap_or_default(), &params, &Patch::Merge(&patch)).await {
        Ok(written) => Ok(written.meta().resource_version.clone()),
        // Somebody was faster, or it is gone: the watch brings the newer one and another look.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
        Err(source) => Err(Box::new(source)),
    }
}

/// The merge patch (RFC 7386) that turns `old` into `new`.
pub(crate) fn merge_diff(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), merge_diff(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// What was written last for each object, until its watch shows it, and how often looks failed in a row.
#[derive(Debug)]
pub(crate) struct Memory<Key>(Mutex<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// `metadata.resourceVersion` that the last write gave.
    written: Option<String>,
    failures: u32,
}

impl<Key> Default for Memory<Key> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key: Clone + Eq + Hash> Memory<Key> {
    fn change<R>(&self, key: &Key, change: impl FnOnce(&mut Entry) -> R) -> R {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = memory.entry(key.clone()).or_default();
        let result = change(entry);
        if entry.written.is_none() && entry.failures == 0 {
            memory.remove(key);
        }
        result
    }

    /// Its status was written and now has this version, or was not.
    pub(crate) fn written(&self, key: &Key, version: Option<String>) {
        self.change(key, |entry| entry.written = version);
    }

    /// Whether what is seen is older than what was written last: the watch event is on its way, and brings another look.
    pub(crate) fn is_stale(&self, key: &Key, seen: Option<&str>) -> bool {
        self.change(key, |entry| {
            let Some(written) = &entry.written else { return false };
            if is_older(seen.unwrap_or_default(), written) {
                return true;
            }
            entry.written = None;
            false
        })
    }

    /// A look succeeded.
    pub(crate) fn succeeded(&self, key: &Key) {
        self.change(key, |entry| entry.failures = 0);
    }

    /// A look failed: how often in a row by now, and for how long to wait.
    pub(crate) fn failed(&self, key: &Key) -> (u32, Duration) {
        self.change(key, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            (entry.failures, backoff(entry.failures))
        })
    }

    /// It is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.change(key, |entry| *entry = Entry::default());
    }
}

/// Whether a resourceVersion comes before another. They are decimal numbers (KEP-5504); where a server has other ones,
/// only being the same counts.
fn is_older(seen: &str, written: &str) -> bool {
    match (seen.parse::<u64>(), written.parse::<u64>()) {
        (Ok(seen), Ok(written)) => seen < written,
        _ => false,
    }
}

/// 50 ms, doubled with each failure, at most a quarter of a minute: a server that comes back shall find us going on.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.saturating_sub(1).min(11)).min(Duration::from_secs(15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_diff_is_what_changed() {
        let check = |old: Value, new: Value, expect: Value| assert_eq!(merge_diff(&old, &new), expect);
        check(json!({"a": 1}), json!({"a": 1}), json!({}));
        check(json!({"a": 1, "b": 2}), json!({"a": 2}), json!({"a": 2, "b": null}));
        check(json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1, "z": 3}}), json!({"a": {"y": null, "z": 3}}));
        check(json!({"a": [1]}), json!({"a": [1, 2]}), json!({"a": [1, 2]}));
        check(json!({}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}}));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("9", "10"));
        assert!(!is_older("10", "10") && !is_older("11", "10"));
        assert!(!is_older("x", "10") && !is_older("", ""));
    }

    #[test]
    fn failures_back_off() {
        assert_eq!([1, 2, 3].map(backoff).map(|d| d.as_millis()), [50, 100, 200]);
        assert_eq!(backoff(u32::MAX), Duration::from_secs(15));
    }

    #[test]
    fn what_was_written_makes_what_is_older_stale() {
        let memory = Memory::default();
        assert!(!memory.is_stale(&1, Some("5")));
        memory.written(&1, Some("7".to_owned()));
        assert!(memory.is_stale(&1, Some("6")) && !memory.is_stale(&1, Some("7")));
        assert_eq!((memory.failed(&2).0, memory.failed(&2).0), (1, 2));
        memory.succeeded(&2);
        assert!(memory.0.lock().unwrap().is_empty());
    }
}
