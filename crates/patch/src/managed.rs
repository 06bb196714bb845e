//! `metadata.managedFields` for create, update and every patch but apply.
//!
//! Main function: [`track_update`]: what differs between the live and the new object now belongs to the updater, what
//! is gone belongs to nobody. Called on every write, so it walks the documents once and clones neither.

use kubetask_schema::model::Schema;
use serde_json::Value;

use crate::compare::{Difference, compare};
use crate::manager::{self, Entry, Id, Managed, Operation};
use crate::set::Set;
use crate::types::{Ty, equal};
use crate::zero;

/// How many Update entries an object may have; older ones are lumped together.
const MAX_UPDATE_MANAGERS: usize = 10;
/// Who owns what the lumped-together entries owned.
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Paths at the top of an object that are never owned: they identify it or belong to the server.
const STRIPPED: [&[&str]; 13] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "deletionTimestamp"],
];

/// Who writes, by which way and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Updater<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource written to, e.g. `status`.
    pub subresource: Option<&'a str>,
    /// The version of the request, e.g. `batch/v1`.
    pub api_version: &'a str,
    /// The current time, RFC 3339 in whole seconds.
    pub now: &'a str,
    /// Members that this way of writing resets and therefore never owns, e.g. `["status"]` for the main resource of
    /// a kind with a status, `["spec"]` for the status. Nested ones are written `metadata.ownerReferences`.
    pub reset: &'a [&'a str],
}

/// Records in `new` who owns what after this write. `live` is `None` on create.
///
/// Call it on the decoded, defaulted object before the server fills in the rest. An object whose managed fields have
/// been emptied by its user is not tracked any more, as in Kubernetes. What cannot be read is started afresh.
pub fn track_update(live: Option<&Value>, new: &mut Value, schema: &Schema, by: &Updater<'_>) {
    let managed = decode_live_or_new(live, new, by.subresource.is_some());
    if live.is_some() && managed.entries.is_empty() {
        // Not tracked so far: an update does not begin it.
        manager::put(new, None);
        return;
    }
    let empty = Value::Null;
    let base = live.or_else(|| zero::of(new)).unwrap_or(&empty);
    let managed = record(base, new, schema, by, managed);
    manager::put(new, managed.encode());
}

/// Keeps the old timestamps in `new` if nothing but timestamps changed, so that a write that changes nothing is no
/// write. Call it just before storing. Returns whether `new` now equals `live`, `metadata.resourceVersion` aside.
pub fn keep_times(live: &Value, new: &mut Value) -> bool {
    let same = equal_but_managed_fields(live, new) && same_owners(live, new);
    if same {
        manager::put(new, manager::of(live).cloned());
    }
    same
}

/// Whether both objects have the same managed fields, whatever their times.
fn same_owners(left: &Value, right: &Value) -> bool {
    let entries = |object| manager::of(object).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (left, right) = (entries(left), entries(right));
    left.len() == right.len()
        && left.iter().zip(right).all(|(l, r)| match (l, r) {
            (Value::Object(l), Value::Object(r)) => {
                let rest = |(name, _): &(&String, &Value)| *name != "time";
                l.iter().filter(rest).eq(r.iter().filter(rest))
            }
            _ => l == r,
        })
}

/// Whether two objects are equal when managed fields and the version, which the server sets, are not looked at.
fn equal_but_managed_fields(left: &Value, right: &Value) -> bool {
    let (Some(l), Some(r)) = (left.as_object(), right.as_object()) else {
        return left == right;
    };
    l.len() == r.len()
        && l.iter().zip(r).all(|((name, l), (other, r))| {
            name == other
                && match (name.as_str(), l, r) {
                    ("metadata", Value::Object(l), Value::Object(r)) => {
                        let rest = |(name, _): &(&String, &Value)| {
                            !matches!(name.as_str(), "managedFields" | "resourceVersion")
                        };
                        l.iter().filter(rest).eq(r.iter().filter(rest))
                    }
                    _ => equal(l, r),
                }
        })
}

/// The managed fields to go on from: those in the request, so that they can be edited, or those of the live object.
/// They are taken out of `new`.
fn decode_live_or_new(live: Option<&Value>, new: &mut Value, subresource: bool) -> Managed {
    let given = manager::take(new);
    let of_live = || live.and_then(manager::of);
    let decode_live = || of_live().cloned().and_then(|fields| Managed::decode(fields).ok()).unwrap_or_default();
    if subresource {
        return decode_live();
    }
    if is_reset(&given) {
        return Managed::default();
    }
    match Managed::decode(given) {
        Ok(managed) if !managed.entries.is_empty() => managed,
        _ => decode_live(),
    }
}

/// `[{}]` is how a client asks for managed fields to be dropped.
fn is_reset(given: &Value) -> bool {
    given
        .as_array()
        .is_some_and(|entries| matches!(entries.as_slice(), [Value::Object(only)] if only.values().all(Value::is_null)))
}

/// The entries after a write by `by` that turned `base` into `new`.
pub(crate) fn record(base: &Value, new: &Value, schema: &Schema, by: &Updater<'_>, mut managed: Managed) -> Managed {
    managed.reconcile(schema);
    let mut difference = compare(Ty::root(schema), base, new);
    difference.ignore(by.reset);
    let Difference { mut changed, removed } = difference;

    for entry in &mut managed.entries {
        entry.subtract(&changed);
        entry.subtract(&removed);
    }
    strip(&mut changed);
    if !changed.is_empty() {
        let id = Id::new(by.manager, Operation::Update, by.api_version, by.subresource);
        match managed.get_mut(&id) {
            Some(entry) => {
                entry.union(changed);
                entry.time = Some(by.now.to_owned());
            }
            None => {
                let mut entry = Entry::new(id, by.api_version, changed);
                entry.time = Some(by.now.to_owned());
                managed.entries.push(entry);
            }
        }
    }
    managed.drop_empty();
    cap(&mut managed);
    managed
}

/// Takes out what is never owned.
pub(crate) fn strip(set: &mut Set) {
    for path in STRIPPED {
        set.disown(path);
    }
}

/// Lumps the oldest Update entries of one version together until there are few enough.
fn cap(managed: &mut Managed) {
    let mut updaters: Vec<(Option<String>, Id)> = managed
        .entries
        .iter()
        .filter(|entry| entry.id.operation == Operation::Update)
        .map(|entry| (entry.time.clone(), entry.id.clone()))
        .collect();
    if updaters.len() <= MAX_UPDATE_MANAGERS {
        return;
    }
    updaters.sort();
    let mut count = updaters.len();
    let mut first_of_version: Vec<(String, Id)> = Vec::new();
    for (_, id) in updaters {
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        let version = id.api_version.clone();
        let Some((_, first)) = first_of_version.iter().find(|(other, _)| *other == version).cloned() else {
            first_of_version.push((version, id));
            continue;
        };
        let bucket = Id::new(ANCIENT_CHANGES, Operation::Update, &version, None);
        if managed.get(&bucket).is_none()
            && let Some(entry) = managed.get_mut(&first)
        {
            entry.id = bucket.clone();
        }
        if let Some(entry) = managed.remove(&id)
            && let Some(bucket) = managed.get_mut(&bucket)
        {
            bucket.union(entry.set);
            bucket.time = entry.time;
            count -= 1;
        }
    }
}
