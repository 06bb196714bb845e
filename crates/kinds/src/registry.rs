//! The table of built-in kinds and its lookups.
//!
//! [`registry`] is what discovery lists. Bodies of subresources ([`body`]) have rows too, but are no resources.

mod rows;

use std::collections::HashMap;
use std::sync::OnceLock;

use self::rows::{BODIES, KINDS};
use crate::kind::Kind;
use crate::types::Built;

/// All built-in kinds, in discovery's order within each group.
#[must_use]
pub fn registry() -> &'static [Kind] {
    &KINDS
}

/// The kind of a subresource's body that is not the resource itself: `TokenRequest`, `Binding`, `Eviction`.
#[must_use]
pub fn body(kind: &str) -> Option<&'static Kind> {
    BODIES.iter().find(|k| k.kind == kind)
}

/// What has been built of a kind's type so far.
pub(crate) fn built(kind: &Kind) -> &'static OnceLock<Built> {
    static CELLS: OnceLock<HashMap<&'static str, OnceLock<Built>>> = OnceLock::new();
    static NONE: OnceLock<Built> = OnceLock::new();
    let cells = CELLS.get_or_init(|| KINDS.iter().chain(&BODIES).map(|k| (k.type_name, OnceLock::new())).collect());
    cells.get(kind.type_name).unwrap_or(&NONE)
}

type Key = (&'static str, &'static str, &'static str);

/// The kind whose resource is `plural` in `group/version`.
#[must_use]
pub fn lookup(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    static INDEX: OnceLock<HashMap<Key, &'static Kind>> = OnceLock::new();
    let index = INDEX.get_or_init(|| KINDS.iter().map(|k| ((k.group, k.version, k.plural), k)).collect());
    index.get(&(group, version, plural)).copied()
}

/// The kind called `kind` in `group/version`.
#[must_use]
pub fn lookup_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    static INDEX: OnceLock<HashMap<Key, &'static Kind>> = OnceLock::new();
    let index = INDEX.get_or_init(|| KINDS.iter().map(|k| ((k.group, k.version, k.kind), k)).collect());
    index.get(&(group, version, kind)).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn finds_kinds() {
        assert_eq!(lookup("batch", "v1", "jobs").map(|k| k.kind), Some("Job"));
        assert_eq!(lookup_kind("", "v1", "Pod").map(|k| k.plural), Some("pods"));
        assert!(lookup("batch", "v1beta1", "jobs").is_none());
        assert!(lookup("apps", "v1", "deployments").is_none());
    }

    #[test]
    fn rows_are_unique_and_whole() {
        let mut seen = BTreeSet::new();
        for kind in registry() {
            assert!(seen.insert((kind.group, kind.plural)), "{kind:?} twice");
            assert_eq!(kind.singular, kind.kind.to_lowercase());
            assert!(kind.verbs.is_sorted());
            assert!(kind.subresources.is_sorted_by_key(|s| s.name), "{kind:?}");
            assert_eq!(kind.storage_version_hash.is_empty(), kind.is_virtual(), "{kind:?}");
            assert_eq!(
                kind.row(&kind.empty(), jiff::Timestamp::UNIX_EPOCH).cells.len(),
                kind.columns().len(),
                "{kind:?}"
            );
        }
    }
}
