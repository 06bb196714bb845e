//! The table of built-in kinds and its lookups.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::kind::{DeleteRules, Hooks, Kind, Storage, Subresource, UpdateRules};
use crate::names::NameRule;

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS: &[&str] = &["get", "patch", "update"];

const fn status(kind: &'static str) -> Subresource {
    Subresource { name: "status", kind, group: None, version: None, verbs: STATUS }
}

/// A namespaced, stored core kind without anything particular; rows say where they differ.
const BASE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: ALL,
    subresources: &[],
    storage_version_hash: "",
    storage: Storage::Bucket(""),
    update: UpdateRules { unconditional: true, create_on_update: false },
    delete: DeleteRules { returns_object: false, orphans_by_default: false, graceful: false, spec_finalizers: false },
    name_rule: NameRule::Subdomain,
    field_selectors: &[],
    type_name: "",
    hooks: Hooks::NONE,
};

static KINDS: &[Kind] = &[
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage_version_hash: "qFsyl6wFWjQ=",
        storage: Storage::Bucket("configmaps"),
        type_name: "io.k8s.api.core.v1.ConfigMap",
        ..BASE
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        subresources: &[status("Namespace")],
        storage_version_hash: "Q3oi5N2YM8M=",
        storage: Storage::Bucket("namespaces"),
        type_name: "io.k8s.api.core.v1.Namespace",
        ..BASE
    },
];

/// All built-in kinds, in discovery's order within each group.
#[must_use]
pub fn registry() -> &'static [Kind] {
    KINDS
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
