//! Server-side apply: lays a configuration over the live object, takes away what its applier gave up, and refuses to
//! change what others own.
//!
//! Main function: [`apply`]. Data flow: validate the configuration → merge → prune → compare with the live object →
//! conflicts, or the new object with its new managed fields.

use kubetask_schema::model::Schema;
use serde_json::Value;

use crate::compare::{Difference, compare};
use crate::conflict::{self, Conflict};
use crate::field_set::field_set;
use crate::last_applied;
use crate::managed::{self, Updater};
use crate::manager::{self, Entry, Id, Managed, Operation};
use crate::prune::prune;
use crate::text;
use crate::typed_merge::merge;
use crate::types::{Ty, equal};
use crate::validate::{Mismatches, validate};
use crate::zero;

/// Who owns the fields of an object that was there before anyone applied and that was not tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who applies, by which way and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Applier<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource applied to, e.g. `status`.
    pub subresource: Option<&'a str>,
    /// Take over what others own.
    pub force: bool,
    /// The version of the request, e.g. `batch/v1`.
    pub api_version: &'a str,
    /// The current time, RFC 3339 in whole seconds.
    pub now: &'a str,
    /// Members that this way of writing resets and therefore never owns; see [`Updater::reset`].
    pub reset: &'a [&'a str],
}

/// What an apply comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The new object, `metadata.managedFields` included. The server still has to default and validate it.
    pub object: Value,
    /// Whether it differs from the live one, be it only in who owns what. Always true on create.
    pub changed: bool,
}

/// Why an apply is refused. `Display` is the message of the `Status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what the configuration would change: 409 `Conflict`, one `FieldManagerConflict` cause each.
    #[error("{}", conflict::summary(.0))]
    Conflicts(Vec<Conflict>),
    /// The request makes no sense: 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// The configuration has fields that the schema does not know; Kubernetes answers 500.
    #[error("{0}")]
    Undeclared(String),
    /// The configuration does not fit the schema in another way; Kubernetes answers 500.
    #[error("{0}")]
    Invalid(String),
}

/// Applies `config` to `live`; `None`: the object is created.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(live: Option<&Value>, config: &Value, schema: &Schema, by: &Applier<'_>) -> Result<Applied, ApplyError> {
    check_request(config, by)?;
    let ty = Ty::root(schema);
    validate(ty, config).map_err(|mismatches| unfit(config, &mismatches))?;

    let managed = live.and_then(manager::of).cloned().unwrap_or_default();
    let mut managed = Managed::decode(managed)
        .map_err(|error| ApplyError::Invalid(format!("failed to decode managed fields: {error}")))?;
    let empty = Value::Object(serde_json::Map::new());
    let base = live.unwrap_or(&empty);
    if let (Some(live), true) = (live, managed.entries.is_empty()) {
        managed = before_first_apply(live, schema, by);
    }
    managed.reconcile(schema);

    let attempt = Attempt { base, config, ty, by };
    // kubectl may be given a second try.
    let again = (by.manager == last_applied::KUBECTL).then(|| managed.clone());
    let outcome = match (attempt.run(managed, by.force), again) {
        (Err(conflicts), Some(managed)) => attempt.take_over_from_client_side(schema, managed, conflicts)?,
        (outcome, _) => outcome.map_err(|conflicts| ApplyError::Conflicts(conflict::describe(conflicts)))?,
    };
    Ok(attempt.finish(live, outcome))
}

fn check_request(config: &Value, by: &Applier<'_>) -> Result<(), ApplyError> {
    if !config.is_object() {
        return Err(ApplyError::BadRequest("the configuration must be an object".to_owned()));
    }
    if config.get("apiVersion").and_then(Value::as_str) != Some(by.api_version) {
        return Err(ApplyError::BadRequest(format!("invalid object type: {}", kind_of(config))));
    }
    if manager::of(config).is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    Ok(())
}

/// The error for a configuration that does not fit the schema, naming the object as Kubernetes does.
fn unfit(config: &Value, mismatches: &Mismatches) -> ApplyError {
    let text = |value: Option<&Value>| value.map(text::go).unwrap_or_default();
    let metadata = config.get("metadata");
    let message = format!(
        "failed to create typed patch object ({}/{}; {}): {mismatches}",
        text(metadata.and_then(|m| m.get("namespace"))),
        text(metadata.and_then(|m| m.get("name"))),
        kind_of(config),
    );
    if mismatches.any_undeclared() { ApplyError::Undeclared(message) } else { ApplyError::Invalid(message) }
}

/// Group, version and kind as Go prints them: `batch/v1, Kind=Job`, `/v1, Kind=Pod`.
fn kind_of(config: &Value) -> String {
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    format!("{group}/{version}, Kind={}", text("kind"))
}

/// The owners of an object that nobody has tracked: one Update entry for everything in it.
fn before_first_apply(live: &Value, schema: &Schema, by: &Applier<'_>) -> Managed {
    let updater = Updater {
        manager: BEFORE_FIRST_APPLY,
        subresource: by.subresource,
        api_version: by.api_version,
        now: by.now,
        reset: by.reset,
    };
    let base = zero::of(live).unwrap_or(&Value::Null);
    managed::record(base, live, schema, &updater, Managed::default())
}

/// One apply, which may have to be tried twice.
struct Attempt<'a> {
    base: &'a Value,
    config: &'a Value,
    ty: Ty<'a>,
    by: &'a Applier<'a>,
}

/// The owners after an apply, and the object unless it stays as it is.
struct Outcome {
    object: Option<Value>,
    managed: Managed,
}

type Conflicting = Vec<(Id, crate::set::Set)>;

impl Attempt<'_> {
    fn run(&self, mut managed: Managed, force: bool) -> Result<Outcome, Conflicting> {
        let (ty, by) = (self.ty, self.by);
        let merged = merge(ty, self.base, self.config);
        let mut applied = field_set(ty, self.config);
        for path in by.reset {
            applied.remove_below(&path.split('.').collect::<Vec<_>>());
        }
        let id = Id::new(by.manager, Operation::Apply, by.api_version, by.subresource);
        let last = managed.remove(&id);
        let mut own = Entry::new(id.clone(), by.api_version, applied.clone());
        own.time = last.as_ref().and_then(|last| last.time.clone());
        managed.entries.push(own);
        let object = match &last {
            Some(last) => prune(ty, merged, &managed, &applied, &last.set),
            None => merged,
        };

        let mut difference = compare(ty, self.base, &object);
        difference.ignore(by.reset);
        let Difference { changed, removed } = difference;
        if !force {
            let conflicts: Conflicting = managed
                .entries
                .iter()
                .filter(|entry| entry.id != id)
                .map(|entry| (entry.id.clone(), entry.set.intersection(&changed)))
                .filter(|(_, set)| !set.is_empty())
                .collect();
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        for entry in managed.entries.iter_mut().filter(|entry| entry.id != id) {
            entry.subtract(&changed);
            entry.subtract(&removed);
        }
        let same = equal(self.base, &object);
        if let Some(own) = managed.get_mut(&id) {
            let mut set = applied;
            managed::strip(&mut set);
            // What the applier applied before is written as it was.
            match last {
                Some(last) if last.set == set && last.api_version == own.api_version => *own = last,
                _ => own.replace(set),
            }
            if !same {
                own.time = Some(by.now.to_owned());
            }
        }
        managed.drop_empty();
        Ok(Outcome { object: (!same).then_some(object), managed })
    }

    /// kubectl may take over what its client-side apply set and nobody has changed since.
    fn take_over_from_client_side(
        &self,
        schema: &Schema,
        managed: Managed,
        mut conflicts: Conflicting,
    ) -> Result<Outcome, ApplyError> {
        let Some(takeable) = last_applied::takeable(self.base, schema, self.by.api_version) else {
            return Err(ApplyError::Conflicts(conflict::describe(conflicts)));
        };
        for (_, set) in &mut conflicts {
            set.subtract(&takeable);
        }
        conflicts.retain(|(_, set)| !set.is_empty());
        if conflicts.is_empty() {
            return self.run(managed, true).map_err(|conflicts| ApplyError::Conflicts(conflict::describe(conflicts)));
        }
        Err(ApplyError::Conflicts(conflict::describe(conflicts)))
    }

    fn finish(&self, live: Option<&Value>, outcome: Outcome) -> Applied {
        let mut changed = live.is_none() || outcome.object.is_some();
        let mut object = outcome.object.unwrap_or_else(|| self.base.clone());
        manager::put(&mut object, outcome.managed.encode());
        if self.by.manager == last_applied::KUBECTL {
            last_applied::update(&mut object, self.config);
        }
        changed = changed || live != Some(&object);
        Applied { object, changed }
    }
}
