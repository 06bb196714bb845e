//! What every Kubernetes API server makes on its first start: the system namespaces and the well-known ClusterRoles.

use kubetask_kinds::Part;
use kubetask_store::{Expect, Write, WriteError};
use serde_json::{Value, json};

use crate::handlers::write;
use crate::object::{self, metadata_mut};
use crate::registry;
use crate::server::Inner;

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Makes what is missing, in one transaction.
pub(crate) async fn run(server: &Inner) -> Result<(), WriteError> {
    let mut writes = Vec::new();
    for name in NAMESPACES {
        let namespace = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        add(server, &mut writes, "", "namespaces", namespace);
    }
    for role in roles() {
        add(server, &mut writes, "rbac.authorization.k8s.io", "clusterroles", role);
    }
    let masters = json!({
        "metadata": {"name": "cluster-admin", "labels": labels()},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": crate::auth::MASTERS}],
    });
    add(server, &mut writes, "rbac.authorization.k8s.io", "clusterrolebindings", masters);
    if writes.is_empty() {
        return Ok(());
    }
    server.store.transact(writes).await.map(|_| ())
}

fn labels() -> Value {
    json!({"kubernetes.io/bootstrapping": "rbac-defaults"})
}

fn add(server: &Inner, writes: &mut Vec<Write>, group: &str, plural: &str, mut object: Value) {
    let Some(resource) = registry::builtin(group, "v1", plural) else { return };
    let key = object::meta(&object, "name").to_owned();
    if server.store.get(&resource.bucket, &key).is_some() {
        return;
    }
    let now = object::now();
    object["kind"] = resource.kind.as_str().into();
    object["apiVersion"] = resource.api_version.as_str().into();
    crate::strategy::default(&resource, &mut object);
    let meta = metadata_mut(&mut object);
    meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".into(), now.as_str().into());
    write::track(&resource, None, &mut object, Part::Main, "kube-apiserver", &now);
    crate::strategy::prepare_create(&resource, &mut object);
    let unsealed = write::seal(&resource, object);
    writes.push(Write::put(resource.bucket.clone(), key, Expect::Absent, move |revision| unsealed.seal(revision)));
}

/// `cluster-admin`, and what Kubernetes gives namespace administrators, editors and viewers of the kinds that are here.
fn roles() -> Vec<Value> {
    let all = json!(["*"]);
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name, "labels": labels()}, "rules": rules});
    let read = json!(["get", "list", "watch"]);
    let change = json!(["create", "delete", "deletecollection", "patch", "update"]);
    let core_read = json!([
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "pods/status",
        "resourcequotas",
        "serviceaccounts",
        "services"
    ]);
    let core_change = json!([
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/attach",
        "pods/exec",
        "pods/eviction",
        "pods/portforward",
        "secrets",
        "serviceaccounts",
        "services"
    ]);
    let batch = json!(["cronjobs", "cronjobs/status", "jobs", "jobs/status"]);
    let view = || {
        vec![
            json!({"verbs": read, "apiGroups": [""], "resources": core_read}),
            json!({"verbs": read, "apiGroups": ["batch"], "resources": batch}),
            json!({"verbs": read, "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"]}),
        ]
    };
    let edit = || {
        let mut rules = view();
        rules.push(json!({"verbs": change, "apiGroups": [""], "resources": core_change}));
        rules.push(json!({"verbs": read, "apiGroups": [""], "resources": ["pods/attach", "pods/exec", "pods/portforward", "secrets"]}));
        rules.push(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["serviceaccounts/token"]}));
        rules.push(json!({"verbs": change, "apiGroups": ["batch"], "resources": ["cronjobs", "jobs"]}));
        rules.push(json!({"verbs": change, "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"]}));
        let leases = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        rules.push(json!({"verbs": leases, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}));
        rules
    };
    let admin = || {
        let mut rules = edit();
        let every = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        rules.push(
            json!({"verbs": every, "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"]}),
        );
        rules.push(json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"]}));
        rules
    };
    vec![
        role(
            "cluster-admin",
            json!([{"verbs": all, "apiGroups": all, "resources": all}, {"verbs": all, "nonResourceURLs": all}]),
        ),
        role("admin", admin().into()),
        role("edit", edit().into()),
        role("view", view().into()),
    ]
}
