//! Conflicts: fields that someone else owns and that an apply would change.

use std::fmt::Write;

use crate::manager::{Id, Operation};
use crate::set::Set;
use crate::text;

/// One field that someone else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it, as Kubernetes words it: `"kubectl" using v1`, `"ctl" with subresource "status"`.
    pub manager: String,
    /// The field: `.spec.parts[name="p"].count`.
    pub path: String,
}

impl Conflict {
    /// The `message` of the cause in a `Status`.
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// The conflicts with each of `managers`, sorted.
pub(crate) fn describe(mut managers: Vec<(Id, Set)>) -> Vec<Conflict> {
    managers.sort_by(|(l, _), (r, _)| l.cmp(r));
    let mut out = Vec::new();
    for (id, set) in &managers {
        let manager = describe_manager(id);
        out.extend(set.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
    }
    out
}

fn describe_manager(id: &Id) -> String {
    let mut out = text::go_quoted(&id.manager);
    if !id.subresource.is_empty() {
        let _ = write!(out, " with subresource {}", text::go_quoted(&id.subresource));
    }
    if id.operation == Operation::Update {
        let _ = write!(out, " using {}", id.api_version);
    }
    out
}

/// The message of the whole `Status`. The conflicts come grouped by manager, as [`describe`] makes them.
pub(crate) fn summary(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message(), only.path);
    }
    let mut lines = Vec::new();
    for group in conflicts.chunk_by(|l, r| l.manager == r.manager) {
        if let Some(first) = group.first() {
            lines.push(format!("conflicts with {}:", first.manager));
        }
        lines.extend(group.iter().map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
