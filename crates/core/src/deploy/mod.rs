//! The objects of an installation in a cluster.
//!
//! [`Values`] and a [`Release`] become [`objects`]: what `kubetask install` applies, what `deploy/install.yaml` and the
//! Kustomize base hold, and what the templates of the Helm chart must render to. There is no second source.

mod controller;
mod network;
mod rbac;
mod values;

use kubetask_api::labels;
use serde_json::{Map, Value, json};

pub use rbac::{controller_rules, lease_rules};
pub use values::{
    Agents, Crds, Enabled, Image, Metrics, NameRef, Namespace, NetworkPolicy, PodSecurity, PullPolicy, Rbac,
    ServiceAccount, Values, merge, values_schema,
};

/// The usual namespace of an installation.
pub const NAMESPACE: &str = "kubetask-system";
/// Name of the Deployment, and of most that belongs to it.
pub const CONTROLLER: &str = "kubetask-controller";
/// Label with which everything of an installation is found again.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The container port of metrics and probes.
pub const METRICS_PORT: u16 = 8080;

/// The oldest Kubernetes to install into, major and minor: from 1.29 on there are rules in definitions (KEP-2876) and
/// sidecars (KEP-753), and older ones than 1.30 are not tried.
pub const OLDEST_KUBERNETES: (u32, u32) = (1, 30);

/// What is to be said if a server's `/version` tells of a Kubernetes that is too old. Some providers write `30+`; what is
/// no number at all is not judged.
pub fn too_old(major: &str, minor: &str) -> Option<String> {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    let (oldest_major, oldest_minor) = OLDEST_KUBERNETES;
    (number(major).zip(number(minor))? < OLDEST_KUBERNETES).then(|| {
        format!("this cluster is Kubernetes {major}.{minor}: KubeTask needs {oldest_major}.{oldest_minor} or newer")
    })
}

/// Who installs what where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Value of `app.kubernetes.io/instance`.
    pub name: String,
    /// Where the operator runs.
    pub namespace: String,
    /// The version of KubeTask.
    pub version: String,
    /// Value of `app.kubernetes.io/managed-by`.
    pub managed_by: String,
}

impl Release {
    /// What `kubetask install` makes. Not managed by `kubetask`: that is what the operator's own objects are called.
    pub fn by_command(namespace: &str, version: &str) -> Self {
        Self {
            name: labels::APP.to_owned(),
            namespace: namespace.to_owned(),
            version: version.to_owned(),
            managed_by: "kubetask-install".to_owned(),
        }
    }

    /// Labels of an object of the installation.
    fn labels(&self, component: &str) -> Value {
        let mut all = self.selector(component);
        for (label, value) in [
            ("app.kubernetes.io/version", self.version.as_str()),
            (labels::APP_MANAGED_BY, self.managed_by.as_str()),
            (PART_OF, labels::APP),
        ] {
            all.insert(label.to_owned(), json!(value));
        }
        Value::Object(all)
    }

    /// The labels by which pods are selected; they never change.
    fn selector(&self, component: &str) -> Map<String, Value> {
        let pairs =
            [(labels::APP_NAME, labels::APP), (labels::APP_INSTANCE, &self.name), (labels::APP_COMPONENT, component)];
        pairs.into_iter().map(|(label, value)| (label.to_owned(), json!(value))).collect()
    }

    /// Metadata in the installation's namespace.
    fn metadata(&self, name: &str, component: &str) -> Value {
        self.metadata_in(&self.namespace, name, component)
    }

    /// Metadata in another namespace.
    fn metadata_in(&self, namespace: &str, name: &str, component: &str) -> Value {
        json!({"name": name, "namespace": namespace, "labels": self.labels(component)})
    }

    /// Metadata of what lives in no namespace.
    fn cluster_metadata(&self, name: &str, component: &str) -> Value {
        json!({"name": name, "labels": self.labels(component)})
    }
}

/// The namespaces in which agents run.
pub fn agent_namespaces<'a>(values: &'a Values, release: &'a Release) -> Vec<&'a str> {
    if values.agents.namespaces.is_empty() {
        vec![&release.namespace]
    } else {
        values.agents.namespaces.iter().map(String::as_str).collect()
    }
}

/// All objects except the definitions of the kinds, in the order in which they are applied.
pub fn objects(values: &Values, release: &Release) -> Vec<Value> {
    let mut all = Vec::new();
    if values.namespace.create {
        all.push(namespace(values, release));
    }
    all.extend(rbac::service_accounts(values, release));
    if values.rbac.create {
        all.extend(rbac::roles(values, release));
    }
    if values.network_policy.enabled {
        all.extend(network::policies(values, release));
    }
    all.extend(controller::objects(values, release));
    all
}

/// The namespace, with the Pod Security standard that it enforces.
fn namespace(values: &Values, release: &Release) -> Value {
    let mut metadata = release.cluster_metadata(&release.namespace, "namespace");
    let level = serde_json::to_value(values.namespace.pod_security).unwrap_or_default();
    if let Some(labels) = metadata["labels"].as_object_mut() {
        for mode in ["enforce", "warn"] {
            labels.insert(format!("pod-security.kubernetes.io/{mode}"), level.clone());
        }
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, networking::v1::NetworkPolicy, policy::v1::PodDisruptionBudget};
    use k8s_openapi::api::{core::v1 as core, rbac::v1 as rbac};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    fn all() -> Vec<Value> {
        let values = Values { namespace: Namespace { create: true, ..Namespace::default() }, ..Values::default() };
        objects(&values, &Release::by_command(NAMESPACE, "1.2.3"))
    }

    /// The typed API reads every field: nothing is misspelt.
    fn same<K: DeserializeOwned + Serialize>(object: &Value) {
        let typed: K = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(&serde_json::to_value(&typed).unwrap(), object);
    }

    #[test]
    fn every_field_is_one_that_kubernetes_knows() {
        for object in all() {
            match object["kind"].as_str().unwrap() {
                "Namespace" => same::<core::Namespace>(&object),
                "ServiceAccount" => same::<core::ServiceAccount>(&object),
                "ClusterRole" => same::<rbac::ClusterRole>(&object),
                "ClusterRoleBinding" => same::<rbac::ClusterRoleBinding>(&object),
                "Role" => same::<rbac::Role>(&object),
                "RoleBinding" => same::<rbac::RoleBinding>(&object),
                "NetworkPolicy" => same::<NetworkPolicy>(&object),
                "Deployment" => same::<Deployment>(&object),
                "Service" => same::<core::Service>(&object),
                "PodDisruptionBudget" => same::<PodDisruptionBudget>(&object),
                other => panic!("{other} is not checked here"),
            }
        }
    }

    #[test]
    fn the_operator_does_not_take_its_own_pods_for_agents() {
        for object in all() {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels[PART_OF], labels::APP, "uninstall finds it: {object}");
            assert_ne!(labels[labels::APP_MANAGED_BY], labels::APP, "{object}");
        }
    }

    #[test]
    fn one_namespace_needs_no_cluster_role_for_the_operator() {
        let values = Values { watch_namespace: "team".to_owned(), ..Values::default() };
        let made = objects(&values, &Release::by_command("team", "1.2.3"));
        let kinds: Vec<_> = made.iter().filter_map(|o| o["kind"].as_str()).collect();
        assert!(!kinds.contains(&"ClusterRoleBinding"), "{kinds:?}");
        let deployment = made.iter().find(|o| o["kind"] == "Deployment").unwrap();
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(args.contains("--watch-namespace=team"), "{args}");
    }

    #[test]
    fn an_image_is_named_by_digest_before_tag_before_version() {
        let mut image = Image { repository: "r".to_owned(), ..Image::default() };
        assert_eq!(image.reference("1"), "r:1");
        image.tag = "t".to_owned();
        assert_eq!(image.reference("1"), "r:t");
        image.digest = "sha256:0".to_owned();
        assert_eq!(image.reference("1"), "r@sha256:0");
    }

    #[test]
    fn old_clusters_are_known_by_what_they_say_of_themselves() {
        for (major, minor, old) in [
            ("1", "20", true),
            ("1", "29+", true),
            ("1", "30", false),
            ("1", "30+", false),
            ("1", "36", false),
            ("2", "0", false),
            ("1", "", false),
            ("", "", false),
        ] {
            assert_eq!(too_old(major, minor).is_some(), old, "{major}.{minor}");
        }
    }
}
