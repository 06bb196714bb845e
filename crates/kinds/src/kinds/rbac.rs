//! Roles and bindings.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::{label_selector, required};
use super::edit::{default, ensure, items, items_mut, text};
use super::finalizers;
use crate::kind::{Hooks, Part};
use crate::names::path_segment;
use crate::table::{AGE, AGE_DESCRIPTION, Column, NAME, Row, age, column, name};

pub(crate) const ROLE: Hooks = Hooks {
    validate: |role, errors| validate_rules(role, true, errors),
    validate_update: |role, _, _, errors| validate_rules(role, true, errors),
    columns: || &ROLE_COLUMNS,
    row: role_row,
    ..Hooks::NONE
};

pub(crate) const CLUSTER_ROLE: Hooks = Hooks {
    validate: validate_cluster_role,
    validate_update: |role, _, _, errors| validate_cluster_role(role, errors),
    ..ROLE
};

pub(crate) const BINDING: Hooks = Hooks {
    default: default_binding,
    validate: |binding, errors| validate_binding(binding, true, errors),
    validate_update: |new, old, _, errors| update_binding(new, old, true, errors),
    columns: || &BINDING_COLUMNS,
    row: binding_row,
    ..Hooks::NONE
};

pub(crate) const CLUSTER_BINDING: Hooks = Hooks {
    validate: |binding, errors| validate_binding(binding, false, errors),
    validate_update: |new, old, _: Part, errors| update_binding(new, old, false, errors),
    ..BINDING
};

const RBAC: &str = "rbac.authorization.k8s.io";

static ROLE_COLUMNS: [Column; 2] =
    [NAME, Column { name: "Created At", type_: "date", format: "", description: AGE_DESCRIPTION, priority: 0 }];

fn role_row(role: &Value, _: Timestamp) -> Row {
    let created = Value::from(text(&role["metadata"], "creationTimestamp"));
    Row { cells: vec![name(role), created], conditions: Vec::new() }
}

static BINDING_COLUMNS: [Column; 6] = [
    NAME,
    column(
        "Role",
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error. This field is immutable.",
        0,
    ),
    AGE,
    column("Users", "Users in the roleBinding", 1),
    column("Groups", "Groups in the roleBinding", 1),
    column("ServiceAccounts", "ServiceAccounts in the roleBinding", 1),
];

fn binding_row(binding: &Value, now: Timestamp) -> Row {
    let role = &binding["roleRef"];
    let of = |kind: &str| {
        items(binding, "subjects")
            .iter()
            .filter(|s| text(s, "kind") == kind)
            .map(|s| match text(s, "namespace") {
                namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
                    format!("{namespace}/{}", text(s, "name"))
                }
                _ => text(s, "name").to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    Row {
        cells: vec![
            name(binding),
            Value::from(format!("{}/{}", text(role, "kind"), text(role, "name"))),
            age(binding, now),
            Value::from(of("User")),
            Value::from(of("Group")),
            Value::from(of("ServiceAccount")),
        ],
        conditions: Vec::new(),
    }
}

fn default_binding(binding: &mut Value) {
    if let Some(role) = ensure(binding, "roleRef")
        && text(role, "apiGroup").is_empty()
    {
        super::edit::set(role, "apiGroup", RBAC);
    }
    for subject in items_mut(binding, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default(subject, "apiGroup", RBAC);
        }
    }
}

fn validate_rules(role: &Value, namespaced: bool, errors: &mut Vec<Error>) {
    finalizers(role, errors);
    for (i, rule) in items(role, "rules").iter().enumerate() {
        let path = Path::new("rules").index(i);
        if items(rule, "verbs").is_empty() {
            errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if !items(rule, "nonResourceURLs").is_empty() {
            let field = path.child("nonResourceURLs");
            let urls = rule["nonResourceURLs"].clone();
            if namespaced {
                let text = "namespaced rules cannot apply to non-resource URLs";
                errors.push(Error::invalid(&field, urls.clone(), text));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !items(rule, f).is_empty()) {
                let text = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(Error::invalid(&field, urls, text));
            }
            continue;
        }
        for (list, what) in [
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ] {
            if items(rule, list).is_empty() {
                errors.push(Error::required(&path.child(list), what));
            }
        }
    }
}

fn validate_cluster_role(role: &Value, errors: &mut Vec<Error>) {
    validate_rules(role, false, errors);
    let aggregation = &role["aggregationRule"];
    if aggregation.is_null() {
        return;
    }
    let field = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = items(aggregation, "clusterRoleSelectors");
    if selectors.is_empty() {
        let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&field, text));
    }
    for (i, selector) in selectors.iter().enumerate() {
        label_selector(selector, &field.index(i), errors);
    }
}

fn validate_binding(binding: &Value, namespaced: bool, errors: &mut Vec<Error>) {
    finalizers(binding, errors);
    let (role, path) = (&binding["roleRef"], Path::new("roleRef"));
    if text(role, "apiGroup") != RBAC {
        errors.push(Error::not_supported(&path.child("apiGroup"), text(role, "apiGroup"), &[RBAC]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.push(Error::not_supported_in_order(&path.child("kind"), text(role, "kind"), kinds));
    }
    if required(role, "name", &path, errors) {
        let wrong = path_segment(text(role, "name"), false);
        errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("name"), text(role, "name"), m)));
    }
    for (i, subject) in items(binding, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &Path::new("subjects").index(i), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path, errors: &mut Vec<Error>) {
    required(subject, "name", path, errors);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            let name = text(subject, "name");
            if !name.is_empty() {
                let wrong = crate::names::dns1123_subdomain(name);
                errors.extend(wrong.into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced {
                required(subject, "namespace", path, errors);
            }
        }
        "User" | "Group" => {
            if group != RBAC {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[RBAC]));
            }
        }
        other => {
            errors.push(Error::not_supported_in_order(&path.child("kind"), other, ["ServiceAccount", "User", "Group"]));
        }
    }
}

fn update_binding(new: &Value, old: &Value, namespaced: bool, errors: &mut Vec<Error>) {
    validate_binding(new, namespaced, errors);
    if new["roleRef"] != old["roleRef"] {
        let shown = crate::internal::text("RoleRef", &new["roleRef"]);
        let error = Error::invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef");
        errors.push(error.show_value(shown));
    }
}
