//! The table of built-in kinds and its lookups.
//!
//! [`registry`] is what discovery lists. Bodies of subresources ([`body`]) have rows too, but are no resources.

use std::collections::HashMap;
use std::sync::OnceLock;

use k8s_openapi::{api, apiextensions_apiserver};

use crate::kind::{DeleteRules, Hooks, Kind, SelectorStyle, Storage, Subresource, UpdateRules};
use crate::kinds::{
    config, crd, cron_job, event, job, lease, limits, namespace, network, node, pod, pod_template, priority_class,
    rbac, review, service, service_account, storage,
};
use crate::names::NameRule;
use crate::types::Built;

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const STATUS: &[&str] = &["get", "patch", "update"];

const fn status(kind: &'static str) -> Subresource {
    Subresource { name: "status", kind, group: None, version: None, verbs: STATUS }
}

const PLAIN_DELETE: DeleteRules =
    DeleteRules { returns_object: false, orphans_by_default: false, graceful: false, spec_finalizers: false };

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
    delete: PLAIN_DELETE,
    name_rule: NameRule::Subdomain,
    field_selectors: &[],
    selector_style: SelectorStyle::MetadataOnly,
    type_name: "",
    generate: |_| {},
    hooks: Hooks::NONE,
};

static KINDS: [Kind; 31] = [
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage_version_hash: "qFsyl6wFWjQ=",
        storage: Storage::Bucket("configmaps"),
        type_name: "io.k8s.api.core.v1.ConfigMap",
        generate: |g| drop(g.subschema_for::<api::core::v1::ConfigMap>()),
        hooks: config::CONFIG_MAP,
        ..BASE
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        storage_version_hash: "fWeeMqaN/OA=",
        storage: Storage::Bucket("endpoints"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        type_name: "io.k8s.api.core.v1.Endpoints",
        generate: |g| drop(g.subschema_for::<api::core::v1::Endpoints>()),
        hooks: service::ENDPOINTS,
        ..BASE
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage_version_hash: "r2yiGXH7wu8=",
        storage: Storage::Bucket("events"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        field_selectors: event::FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Event",
        generate: |g| drop(g.subschema_for::<api::core::v1::Event>()),
        hooks: event::CORE,
        ..BASE
    },
    Kind {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        storage_version_hash: "EBKMFVe6cwo=",
        storage: Storage::Bucket("limitranges"),
        type_name: "io.k8s.api.core.v1.LimitRange",
        generate: |g| drop(g.subschema_for::<api::core::v1::LimitRange>()),
        hooks: limits::RANGE,
        ..BASE
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        verbs: NO_COLLECTION,
        subresources: &[
            Subresource { name: "finalize", kind: "Namespace", group: None, version: None, verbs: &["update"] },
            status("Namespace"),
        ],
        storage_version_hash: "Q3oi5N2YM8M=",
        storage: Storage::Bucket("namespaces"),
        delete: DeleteRules { spec_finalizers: true, ..PLAIN_DELETE },
        name_rule: NameRule::Label,
        field_selectors: namespace::FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Namespace",
        generate: |g| drop(g.subschema_for::<api::core::v1::Namespace>()),
        hooks: namespace::HOOKS,
        ..BASE
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[status("Node")],
        storage_version_hash: "XwShjMxG9Fs=",
        storage: Storage::Bucket("nodes"),
        field_selectors: node::FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Node",
        generate: |g| drop(g.subschema_for::<api::core::v1::Node>()),
        hooks: node::HOOKS,
        ..BASE
    },
    Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &[status("PersistentVolumeClaim")],
        storage_version_hash: "QWTyNDq0dC4=",
        storage: Storage::Bucket("persistentvolumeclaims"),
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        type_name: "io.k8s.api.core.v1.PersistentVolumeClaim",
        generate: |g| drop(g.subschema_for::<api::core::v1::PersistentVolumeClaim>()),
        hooks: storage::CLAIM,
        ..BASE
    },
    Kind {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        namespaced: false,
        subresources: &[status("PersistentVolume")],
        storage_version_hash: "HN/zwEC+JgM=",
        storage: Storage::Bucket("persistentvolumes"),
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        type_name: "io.k8s.api.core.v1.PersistentVolume",
        generate: |g| drop(g.subschema_for::<api::core::v1::PersistentVolume>()),
        hooks: storage::VOLUME,
        ..BASE
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource {
                name: "attach",
                kind: "PodAttachOptions",
                group: None,
                version: None,
                verbs: &["create", "get"],
            },
            Subresource { name: "binding", kind: "Binding", group: None, version: None, verbs: &["create"] },
            Subresource { name: "ephemeralcontainers", kind: "Pod", group: None, version: None, verbs: STATUS },
            Subresource {
                name: "eviction",
                kind: "Eviction",
                group: Some("policy"),
                version: Some("v1"),
                verbs: &["create"],
            },
            Subresource { name: "exec", kind: "PodExecOptions", group: None, version: None, verbs: &["create", "get"] },
            Subresource { name: "log", kind: "Pod", group: None, version: None, verbs: &["get"] },
            Subresource {
                name: "portforward",
                kind: "PodPortForwardOptions",
                group: None,
                version: None,
                verbs: &["create", "get"],
            },
            Subresource {
                name: "proxy",
                kind: "PodProxyOptions",
                group: None,
                version: None,
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource { name: "resize", kind: "Pod", group: None, version: None, verbs: STATUS },
            status("Pod"),
        ],
        storage_version_hash: "xPOwRZ+Yhw8=",
        storage: Storage::Bucket("pods"),
        delete: DeleteRules { returns_object: true, graceful: true, ..PLAIN_DELETE },
        field_selectors: pod::FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Pod",
        generate: |g| drop(g.subschema_for::<api::core::v1::Pod>()),
        hooks: pod::HOOKS,
        ..BASE
    },
    Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        singular: "podtemplate",
        storage_version_hash: "LIXB2x4IFpk=",
        storage: Storage::Bucket("podtemplates"),
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        type_name: "io.k8s.api.core.v1.PodTemplate",
        generate: |g| drop(g.subschema_for::<api::core::v1::PodTemplate>()),
        hooks: pod_template::HOOKS,
        ..BASE
    },
    Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &[status("ResourceQuota")],
        storage_version_hash: "8uhSgffRX6w=",
        storage: Storage::Bucket("resourcequotas"),
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        type_name: "io.k8s.api.core.v1.ResourceQuota",
        generate: |g| drop(g.subschema_for::<api::core::v1::ResourceQuota>()),
        hooks: limits::QUOTA,
        ..BASE
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        storage_version_hash: "S6u1pOWzb84=",
        storage: Storage::Bucket("secrets"),
        field_selectors: config::SECRET_FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Secret",
        generate: |g| drop(g.subschema_for::<api::core::v1::Secret>()),
        hooks: config::SECRET,
        ..BASE
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[Subresource {
            name: "token",
            kind: "TokenRequest",
            group: Some("authentication.k8s.io"),
            version: Some("v1"),
            verbs: &["create"],
        }],
        storage_version_hash: "pbx9ZvyFpBE=",
        storage: Storage::Bucket("serviceaccounts"),
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        type_name: "io.k8s.api.core.v1.ServiceAccount",
        generate: |g| drop(g.subschema_for::<api::core::v1::ServiceAccount>()),
        hooks: service_account::HOOKS,
        ..BASE
    },
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[status("Service")],
        storage_version_hash: "0/CO1lhkEBI=",
        storage: Storage::Bucket("services"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        delete: DeleteRules { returns_object: true, ..PLAIN_DELETE },
        name_rule: NameRule::Label1035,
        field_selectors: service::SERVICE_FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.core.v1.Service",
        generate: |g| drop(g.subschema_for::<api::core::v1::Service>()),
        hooks: service::SERVICE,
        ..BASE
    },
    Kind {
        group: "batch",
        kind: "CronJob",
        plural: "cronjobs",
        singular: "cronjob",
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[status("CronJob")],
        storage_version_hash: "sd5LIXh4Fjs=",
        storage: Storage::Bucket("cronjobs"),
        type_name: "io.k8s.api.batch.v1.CronJob",
        generate: |g| drop(g.subschema_for::<api::batch::v1::CronJob>()),
        hooks: cron_job::HOOKS,
        ..BASE
    },
    Kind {
        group: "batch",
        kind: "Job",
        plural: "jobs",
        singular: "job",
        categories: &["all"],
        subresources: &[status("Job")],
        storage_version_hash: "mudhfqk/qZY=",
        storage: Storage::Bucket("jobs"),
        delete: DeleteRules { orphans_by_default: true, ..PLAIN_DELETE },
        field_selectors: job::FIELDS,
        selector_style: SelectorStyle::ForKind,
        type_name: "io.k8s.api.batch.v1.Job",
        generate: |g| drop(g.subschema_for::<api::batch::v1::Job>()),
        hooks: job::HOOKS,
        ..BASE
    },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        storage_version_hash: "gqkMMb/YqFM=",
        storage: Storage::Bucket("leases.coordination.k8s.io"),
        update: UpdateRules { unconditional: false, create_on_update: true },
        type_name: "io.k8s.api.coordination.v1.Lease",
        generate: |g| drop(g.subschema_for::<api::coordination::v1::Lease>()),
        hooks: lease::HOOKS,
        ..BASE
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage_version_hash: "r2yiGXH7wu8=",
        storage: Storage::Bucket("events"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        field_selectors: event::FIELDS,
        selector_style: SelectorStyle::Label,
        type_name: "io.k8s.api.events.v1.Event",
        generate: |g| drop(g.subschema_for::<api::events::v1::Event>()),
        hooks: event::EVENTS,
        ..BASE
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        namespaced: false,
        storage_version_hash: "48tpQ8gZHFc=",
        storage: Storage::Bucket("clusterrolebindings.rbac.authorization.k8s.io"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        name_rule: NameRule::PathSegment,
        type_name: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        generate: |g| drop(g.subschema_for::<api::rbac::v1::ClusterRoleBinding>()),
        hooks: rbac::CLUSTER_BINDING,
        ..BASE
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        namespaced: false,
        storage_version_hash: "bYE5ZWDrJ44=",
        storage: Storage::Bucket("clusterroles.rbac.authorization.k8s.io"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        name_rule: NameRule::PathSegment,
        type_name: "io.k8s.api.rbac.v1.ClusterRole",
        generate: |g| drop(g.subschema_for::<api::rbac::v1::ClusterRole>()),
        hooks: rbac::CLUSTER_ROLE,
        ..BASE
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        storage_version_hash: "eGsCzGH6b1g=",
        storage: Storage::Bucket("rolebindings.rbac.authorization.k8s.io"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        name_rule: NameRule::PathSegment,
        type_name: "io.k8s.api.rbac.v1.RoleBinding",
        generate: |g| drop(g.subschema_for::<api::rbac::v1::RoleBinding>()),
        hooks: rbac::BINDING,
        ..BASE
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "Role",
        plural: "roles",
        singular: "role",
        storage_version_hash: "7FuwZcIIItM=",
        storage: Storage::Bucket("roles.rbac.authorization.k8s.io"),
        update: UpdateRules { unconditional: true, create_on_update: true },
        name_rule: NameRule::PathSegment,
        type_name: "io.k8s.api.rbac.v1.Role",
        generate: |g| drop(g.subschema_for::<api::rbac::v1::Role>()),
        hooks: rbac::ROLE,
        ..BASE
    },
    Kind {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        storage_version_hash: "YpfwF18m1G8=",
        storage: Storage::Bucket("networkpolicies.networking.k8s.io"),
        type_name: "io.k8s.api.networking.v1.NetworkPolicy",
        generate: |g| drop(g.subschema_for::<api::networking::v1::NetworkPolicy>()),
        hooks: network::POLICY,
        ..BASE
    },
    Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        namespaced: false,
        storage_version_hash: "1QwjyaZjj3Y=",
        storage: Storage::Bucket("priorityclasses.scheduling.k8s.io"),
        type_name: "io.k8s.api.scheduling.v1.PriorityClass",
        generate: |g| drop(g.subschema_for::<api::scheduling::v1::PriorityClass>()),
        hooks: priority_class::HOOKS,
        ..BASE
    },
    Kind {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        namespaced: false,
        categories: &["api-extensions"],
        subresources: &[status("CustomResourceDefinition")],
        storage_version_hash: "jfWCUB31mvA=",
        storage: Storage::Bucket("customresourcedefinitions.apiextensions.k8s.io"),
        update: UpdateRules { unconditional: false, create_on_update: false },
        type_name: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        generate: |g| {
            drop(g.subschema_for::<apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>())
        },
        hooks: crd::HOOKS,
        ..BASE
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        generate: |g| drop(g.subschema_for::<api::authorization::v1::LocalSubjectAccessReview>()),
        hooks: review::LOCAL_ACCESS,
        ..BASE
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        generate: |g| drop(g.subschema_for::<api::authorization::v1::SelfSubjectAccessReview>()),
        hooks: review::SELF_ACCESS,
        ..BASE
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        generate: |g| drop(g.subschema_for::<api::authorization::v1::SelfSubjectRulesReview>()),
        hooks: review::RULES,
        ..BASE
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        namespaced: false,
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authorization.v1.SubjectAccessReview",
        generate: |g| drop(g.subschema_for::<api::authorization::v1::SubjectAccessReview>()),
        hooks: review::ACCESS,
        ..BASE
    },
    Kind {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authentication.v1.SelfSubjectReview",
        generate: |g| drop(g.subschema_for::<api::authentication::v1::SelfSubjectReview>()),
        ..BASE
    },
    Kind {
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        namespaced: false,
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authentication.v1.TokenReview",
        generate: |g| drop(g.subschema_for::<api::authentication::v1::TokenReview>()),
        hooks: review::TOKEN_REVIEW,
        ..BASE
    },
];

/// Kinds which are only bodies of subresources.
static BODIES: [Kind; 3] = [
    Kind {
        group: "authentication.k8s.io",
        kind: "TokenRequest",
        plural: "serviceaccounts/token",
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.authentication.v1.TokenRequest",
        generate: |g| drop(g.subschema_for::<api::authentication::v1::TokenRequest>()),
        hooks: review::TOKEN_REQUEST,
        ..BASE
    },
    Kind {
        kind: "Binding",
        plural: "pods/binding",
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.core.v1.Binding",
        generate: |g| drop(g.subschema_for::<api::core::v1::Binding>()),
        ..BASE
    },
    Kind {
        group: "policy",
        kind: "Eviction",
        plural: "pods/eviction",
        verbs: CREATE,
        storage: Storage::Virtual,
        type_name: "io.k8s.api.policy.v1.Eviction",
        generate: |g| drop(g.subschema_for::<api::policy::v1::Eviction>()),
        ..BASE
    },
];

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
