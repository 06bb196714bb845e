//! Condition types. Words are an API: they stand here and nowhere else.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $word;)+
        /// Every condition with its meaning, for the documentation.
        pub const ALL: &[(&str, &str)] = &[$(($word, concat!($($doc),+))),+];
    };
}

words! {
    /// The spec is sound and its Agent is there.
    ACCEPTED = "Accepted";
    /// Everything the contexts refer to is there.
    CONTEXTS_RESOLVED = "ContextsResolved";
    /// Nothing holds the Task back: not suspended, not queued.
    ADMITTED = "Admitted";
    /// The agent's container runs.
    RUNNING = "Running";
    /// The agent ended with exit code 0.
    COMPLETE = "Complete";
    /// The agent failed, was stopped, or could not be run.
    FAILED = "Failed";
    /// The Task, its result and its log are in the archive.
    ARCHIVED = "Archived";
    /// An Agent has all it needs.
    READY = "Ready";
    /// A CronTask's latest run was created.
    SCHEDULED = "Scheduled";
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of that type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// Sets a condition; its transition time changes only when its status does. Conditions keep their order.
pub fn set(
    conditions: &mut Vec<Condition>,
    now: &Time,
    generation: Option<i64>,
    (type_, status, reason): (&str, bool, &str),
    message: impl Into<String>,
) {
    let status = if status { "True" } else { "False" };
    let new = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: now.clone(),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let since = if old.status == status { old.last_transition_time.clone() } else { now.clone() };
            *old = Condition { last_transition_time: since, ..new };
        }
        None => conditions.push(new),
    }
}
