//! What this machine's configuration says of engines: where containers run, and in which cluster.
//!
//! From the highest: flags of the command, environment variables, the file `kubetask/config.yaml` in the XDG configuration
//! directory (or `KUBETASK_CONFIG`), defaults. Inside a cluster the default engine is that cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use kubetask_engine::KubernetesOptions;
use kubetask_engine::kubernetes::{Access, Mapping, Place};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{CommandError, CommandResult};

/// Where containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Sandboxed processes of this machine
    Local,
    /// Docker or Podman
    Docker,
    /// Pods of a cluster
    Kubernetes,
}

impl Backend {
    /// The engine's name in routes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// The file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    runner: Runner,
    kubernetes: Cluster,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Runner {
    backend: Option<Backend>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cluster {
    kubeconfig: Option<String>,
    context: Option<String>,
    namespace: Option<String>,
    pvc_name: Option<String>,
    data_pvc_name: Option<String>,
    resources: Resources,
    service_account: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resources {
    requests: BTreeMap<String, Value>,
    limits: BTreeMap<String, Value>,
}

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where containers run; `None`: nothing was said.
    pub backend: Option<Backend>,
    /// The kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Its context.
    pub context: Option<String>,
    /// The namespace of Pods.
    pub namespace: Option<String>,
    /// The claim with the workspace of environments.
    pub pvc_name: Option<String>,
    /// The claim that holds the data directory, where Pods can mount it too.
    pub data_pvc_name: Option<String>,
    /// Requests of containers.
    pub requests: BTreeMap<String, String>,
    /// Limits of containers.
    pub limits: BTreeMap<String, String>,
    /// The service account of Pods.
    pub service_account: Option<String>,
    /// Whether this process runs in a cluster and may use its API.
    pub in_cluster: bool,
}

impl Settings {
    /// Reads file and environment.
    ///
    /// # Errors
    /// When the file cannot be read or says something that is not known.
    pub fn load() -> CommandResult<Self> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = match (env("KUBETASK_CONFIG"), usual_path(env)) {
            (Some(path), _) => read(Path::new(&path))?,
            (None, Some(path)) if path.exists() => read(&path)?,
            _ => File::default(),
        };
        let token = Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists();
        Self::of(file, env, token)
    }

    /// Puts file and environment together.
    fn of(file: File, env: impl Fn(&str) -> Option<String>, token: bool) -> CommandResult<Self> {
        let File { runner, kubernetes } = file;
        let variable = |name: &str| env(&format!("KUBETASK_KUBERNETES_{name}"));
        let backend = match env("KUBETASK_BACKEND") {
            Some(text) => Some(Backend::from_str(&text, true).map_err(|_| {
                CommandError::usage(format!("KUBETASK_BACKEND={text}: one of local, docker, kubernetes"))
            })?),
            None => runner.backend,
        };
        let home = env("HOME");
        let expand = |path: String| match (path.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(path),
        };
        Ok(Self {
            backend,
            kubeconfig: variable("KUBECONFIG").or(kubernetes.kubeconfig).map(expand),
            context: variable("CONTEXT").or(kubernetes.context),
            namespace: variable("NAMESPACE").or(kubernetes.namespace),
            pvc_name: variable("PVC_NAME").or(kubernetes.pvc_name),
            data_pvc_name: variable("DATA_PVC_NAME").or(kubernetes.data_pvc_name),
            requests: amounts(kubernetes.resources.requests)?,
            limits: amounts(kubernetes.resources.limits)?,
            service_account: variable("SERVICE_ACCOUNT").or(kubernetes.service_account),
            in_cluster: token && env("KUBERNETES_SERVICE_HOST").is_some(),
        })
    }

    /// The engine of what asks for none.
    #[must_use]
    pub fn engine(&self) -> Backend {
        self.backend.unwrap_or(if self.in_cluster { Backend::Kubernetes } else { Backend::Local })
    }

    /// Whether everything goes to the cluster that this process runs in: there is no other place.
    #[must_use]
    pub fn only_cluster(&self) -> bool {
        self.in_cluster && self.engine() == Backend::Kubernetes
    }

    /// What the Kubernetes engine is told.
    #[must_use]
    pub fn kubernetes(&self) -> KubernetesOptions {
        let access = match (&self.kubeconfig, &self.context) {
            (None, None) => Access::Inferred,
            (path, context) => Access::Kubeconfig { path: path.clone(), context: context.clone() },
        };
        KubernetesOptions {
            access,
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            requests: self.requests.clone(),
            limits: self.limits.clone(),
            ..KubernetesOptions::default()
        }
    }

    /// The same for the server over `data_dir`.
    #[must_use]
    pub fn kubernetes_of_server(&self, data_dir: &Path) -> KubernetesOptions {
        let claim = self.data_pvc_name.iter();
        let mappings = claim.map(|name| Mapping { path: data_dir.to_owned(), place: Place::Claim(name.clone()) });
        // The server asks again, and tells meanwhile what a container waits for.
        let start_timeout = Duration::from_secs(20);
        KubernetesOptions { mappings: mappings.collect(), start_timeout, ..self.kubernetes() }
    }
}

fn usual_path(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("kubetask/config.yaml"))
}

fn read(path: &Path) -> CommandResult<File> {
    let wrong = |what: &dyn std::fmt::Display| CommandError::usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    parse(&text).map_err(|error| wrong(&error))
}

fn parse(text: &str) -> Result<File, String> {
    let document = kubetask_yaml::read_one(text, kubetask_yaml::Limits::default());
    let document = document.map_err(|error| format!("line {}: {}", error.line, error.kind))?;
    if document.value.is_null() {
        return Ok(File::default());
    }
    serde_json::from_value(document.value).map_err(|error| error.to_string())
}

/// Amounts are text; numbers are written without quotes now and then.
fn amounts(all: BTreeMap<String, Value>) -> CommandResult<BTreeMap<String, String>> {
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        _ => Err(CommandError::usage(format!("kubernetes.resources: {name}: expected an amount such as 500m or 1Gi"))),
    };
    all.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
runner:
  backend: "kubernetes" # or "docker"
kubernetes:
  kubeconfig: "~/.kube/config"
  context: "my-cluster"
  namespace: "agents"
  pvc_name: "workspace"
  resources:
    requests: {cpu: "500m", memory: "1Gi"}
    limits: {cpu: 2, memory: "4Gi"}
  service_account: "agent-sa"
"#;

    fn settings(text: &str, env: &[(&str, &str)], token: bool) -> CommandResult<Settings> {
        let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::of(parse(text).map_err(CommandError::usage)?, get, token)
    }

    #[test]
    fn the_file_and_the_environment() {
        let file = settings(FILE, &[("HOME", "/h")], false).unwrap();
        assert_eq!(file.engine(), Backend::Kubernetes);
        assert_eq!(file.kubeconfig.as_deref(), Some(Path::new("/h/.kube/config")));
        assert_eq!((file.limits["cpu"].as_str(), file.requests["cpu"].as_str()), ("2", "500m"));
        assert_eq!(file.pvc_name.as_deref(), Some("workspace"));
        assert!(!file.only_cluster());
        let env = [("KUBETASK_BACKEND", "docker"), ("KUBETASK_KUBERNETES_NAMESPACE", "other")];
        let both = settings(FILE, &env, false).unwrap();
        assert_eq!((both.engine(), both.namespace.as_deref()), (Backend::Docker, Some("other")));
        assert_eq!(both.context.as_deref(), Some("my-cluster"), "what the environment does not say, the file does");
        assert_eq!(settings("", &[], false).unwrap().engine(), Backend::Local);
    }

    #[test]
    fn in_a_cluster() {
        let host = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
        let inside = settings("", &host, true).unwrap();
        assert!(inside.only_cluster() && inside.engine() == Backend::Kubernetes);
        assert!(!settings("", &host, false).unwrap().in_cluster, "without a token its API is of no use");
        let asked = settings("runner: {backend: local}", &host, true).unwrap();
        assert!(!asked.only_cluster() && asked.engine() == Backend::Local);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, env: &[(&str, &str)], part: &str| {
            let error = settings(text, env, false).unwrap_err();
            assert!(error.lines[0].contains(part), "{:?}", error.lines);
        };
        check("runner: {backend: podman}", &[], "podman");
        check("kubernetes: {name_space: x}", &[], "name_space");
        check("kubernetes: {resources: {limits: {cpu: [1]}}}", &[], "cpu");
        check("a: [", &[], "line");
        check("", &[("KUBETASK_BACKEND", "moon")], "KUBETASK_BACKEND=moon");
    }
}
