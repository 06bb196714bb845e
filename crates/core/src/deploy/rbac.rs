//! Service accounts and rights: what the operator does, and no more. A test of the operator compares these rules with
//! what it asks of the API.

use serde_json::{Value, json};

use super::{CONTROLLER, Release, Values, agent_namespaces};

/// Rights of the operator on what lives in the namespaces it looks after.
pub fn controller_rules() -> Vec<Value> {
    let kubetask = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": ["kubetask.io"], "resources": resources, "verbs": verbs});
    let core = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    vec![
        kubetask(&["agents", "batches"], &["get", "list", "watch"]),
        kubetask(&["kubetaskconfigs"], &["list", "watch"]),
        kubetask(&["batchruns", "crontasks"], &["list", "watch"]),
        kubetask(&["tasks"], &["create", "delete", "get", "list", "patch", "watch"]),
        kubetask(&["agents/status", "batchruns/status", "crontasks/status", "tasks/status"], &["patch"]),
        // Some clusters ask for it before an object may be the owner of others (OwnerReferencesPermissionEnforcement).
        kubetask(&["batchruns/finalizers", "crontasks/finalizers", "tasks/finalizers"], &["update"]),
        json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "patch", "watch"]}),
        core(&["pods"], &["list", "patch", "watch"]),
        // Logs are read for the archive.
        core(&["pods/log"], &["get"]),
        core(&["configmaps", "secrets"], &["create", "get", "list", "update", "watch"]),
        core(&["serviceaccounts"], &["get", "list", "watch"]),
        core(&["events"], &["create", "list", "watch"]),
    ]
}

/// Rights of the operator in its own namespace: the Lease that says who leads.
pub fn lease_rules() -> Vec<Value> {
    vec![json!({
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "patch", "update"],
    })]
}

/// The operator's service account, and that of agents in each of their namespaces.
pub(super) fn service_accounts(values: &Values, release: &Release) -> Vec<Value> {
    let mut all = Vec::new();
    if values.service_account.create {
        let mut metadata = release.metadata(&values.service_account.name, "controller");
        if !values.service_account.annotations.is_empty() {
            metadata["annotations"] = json!(values.service_account.annotations);
        }
        all.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
            "automountServiceAccountToken": false,
        }));
    }
    for namespace in agent_namespaces(values, release) {
        all.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": release.metadata_in(namespace, &values.agents.service_account, "agent"),
            "automountServiceAccountToken": false,
        }));
    }
    all
}

/// Roles and their bindings.
pub(super) fn roles(values: &Values, release: &Release) -> Vec<Value> {
    let mut all = Vec::new();
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    let subject =
        json!([{"kind": "ServiceAccount", "name": values.service_account.name, "namespace": release.namespace}]);
    let reference = |kind: &str, name: &str| json!({"apiGroup": group, "kind": kind, "name": name});
    if values.watch_namespace.is_empty() {
        all.push(json!({
            "apiVersion": version, "kind": "ClusterRole",
            "metadata": release.cluster_metadata(CONTROLLER, "controller"),
            "rules": controller_rules(),
        }));
        all.push(json!({
            "apiVersion": version, "kind": "ClusterRoleBinding",
            "metadata": release.cluster_metadata(CONTROLLER, "controller"),
            "roleRef": reference("ClusterRole", CONTROLLER),
            "subjects": subject,
        }));
    } else {
        let namespace = &values.watch_namespace;
        all.push(json!({
            "apiVersion": version, "kind": "Role",
            "metadata": release.metadata_in(namespace, CONTROLLER, "controller"),
            "rules": controller_rules(),
        }));
        all.push(json!({
            "apiVersion": version, "kind": "RoleBinding",
            "metadata": release.metadata_in(namespace, CONTROLLER, "controller"),
            "roleRef": reference("Role", CONTROLLER),
            "subjects": subject,
        }));
    }
    let leader = format!("{CONTROLLER}-leader");
    all.push(json!({
        "apiVersion": version, "kind": "Role",
        "metadata": release.metadata(&leader, "controller"),
        "rules": lease_rules(),
    }));
    all.push(json!({
        "apiVersion": version, "kind": "RoleBinding",
        "metadata": release.metadata(&leader, "controller"),
        "roleRef": reference("Role", &leader),
        "subjects": subject,
    }));
    if values.rbac.aggregate {
        let change = json!(["create", "delete", "deletecollection", "patch", "update"]);
        let read = json!(["get", "list", "watch"]);
        for (name, to, verbs) in [("kubetask-edit", "edit", change), ("kubetask-view", "view", read)] {
            let mut metadata = release.cluster_metadata(name, "users");
            metadata["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")] = json!("true");
            if to == "edit" {
                metadata["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] = json!("true");
            }
            all.push(json!({
                "apiVersion": version, "kind": "ClusterRole", "metadata": metadata,
                "rules": [{"apiGroups": ["kubetask.io"], "resources": ["*"], "verbs": verbs}],
            }));
        }
    }
    all
}
