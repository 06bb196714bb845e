//! The Pod that runs a container. Pure.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::options::{KubernetesOptions, Place};
use crate::spec::{ContainerSpec, PullPolicy};
use crate::traits::{EngineError, Result};

/// Label of the engine whose Pods these are; several may share a namespace.
pub(super) const SCOPE_LABEL: &str = "engine.kubetask.io/scope";
/// Annotation with the caller's identity of the run.
pub(super) const ID: &str = "engine.kubetask.io/id";
/// Annotation with the caller's labels, as JSON: they may be longer than labels of Kubernetes.
pub(super) const LABELS: &str = "engine.kubetask.io/labels";
/// Annotation with where the log goes, as JSON.
pub(super) const LOG: &str = "engine.kubetask.io/log";
/// Annotation with the file of the caller that takes the termination message.
pub(super) const WORDS: &str = "engine.kubetask.io/termination-message";
/// Annotation with why a container could not be started.
pub(super) const PROBLEM: &str = "engine.kubetask.io/problem";
/// Keeps a Pod that was stopped until its end was read and it is removed.
pub(super) const FINALIZER: &str = "engine.kubetask.io/end-is-read";
/// Name of the container.
pub(super) const MAIN: &str = "main";
/// Name of the init container that takes files.
pub(super) const FILES: &str = "files";
/// Where that container has them.
pub(super) const FILES_AT: &str = "/kubetask-files";

/// Waits until everything was sent.
const TAKE_FILES: &str = "until [ -e /kubetask-files/.complete ]; do sleep 0.1 2>/dev/null || sleep 1; done";

/// A Pod, and what has to be sent into it.
pub(super) struct Plan {
    /// The Pod.
    pub(super) pod: Pod,
    /// Names in the volume of files, and what they are here.
    pub(super) files: Vec<(String, PathBuf)>,
}

/// Name of the Pod of a container. Readable where the identity can be part of a name.
pub(super) fn name(scope: &str, id: &str) -> String {
    let plain = id.len() <= 200
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !id.ends_with('-');
    let scope = scope.get(..8).unwrap_or(scope);
    if plain {
        return format!("kubetask-{scope}-{id}");
    }
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let readable: String = id.chars().take(60).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("kubetask-{scope}-{readable}-{:016x}", id.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The Pod of `spec`. `is_file` tells what a path of this machine is.
///
/// # Errors
/// What a cluster cannot do.
pub(super) fn plan(
    spec: &ContainerSpec,
    scope: &str,
    options: &KubernetesOptions,
    policy: PullPolicy,
    is_file: impl Fn(&Path) -> bool,
) -> Result<Plan> {
    let mut volumes: Vec<Value> = Vec::new();
    let mut mounts: Vec<Value> = Vec::new();
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let copied = |path: &Path| options.place(path).0 == Place::Copied;
    let words = spec.mounts.iter().rposition(|m| !m.read_only && copied(&m.source) && is_file(&m.source));
    for (index, mount) in spec.mounts.iter().enumerate() {
        if Some(index) == words {
            continue;
        }
        let (place, rest) = options.place(&mount.source);
        let (volume, part) = match place {
            Place::Copied => {
                files.push((index.to_string(), mount.source.clone()));
                (FILES.to_owned(), index.to_string())
            }
            Place::Claim(claim) => {
                let volume = format!("claim-{}", volumes.len());
                volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
                (volume, text(rest)?.to_owned())
            }
            Place::NodePath(path) => {
                let volume = format!("node-{}", volumes.len());
                let path = if rest.as_os_str().is_empty() { path } else { path.join(rest) };
                volumes.push(json!({"name": volume, "hostPath": {"path": text(&path)?}}));
                (volume, String::new())
            }
        };
        let mut entry = json!({"name": volume, "mountPath": text(&mount.target)?, "readOnly": mount.read_only});
        if !part.is_empty() {
            entry["subPath"] = part.into();
        }
        mounts.push(entry);
    }
    let policy = match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    let security = security(spec);
    let mut main = json!({
        "name": MAIN, "image": spec.image, "imagePullPolicy": policy, "volumeMounts": mounts,
        "command": literal(&spec.command), "args": literal(&spec.args), "env": env(spec),
        "tty": spec.tty, "stdin": spec.stdin, "stdinOnce": spec.stdin,
        "resources": resources(spec, options), "securityContext": security,
    });
    if let Some(directory) = &spec.working_dir {
        main["workingDir"] = text(directory)?.into();
    }
    let mut annotations = Map::new();
    annotations.insert(ID.to_owned(), spec.id.0.clone().into());
    annotations.insert(LABELS.to_owned(), json(&spec.labels)?.into());
    annotations.insert(LOG.to_owned(), json(&spec.log)?.into());
    if let Some(mount) = words.and_then(|index| spec.mounts.get(index)) {
        main["terminationMessagePath"] = text(&mount.target)?.into();
        annotations.insert(WORDS.to_owned(), text(&mount.source)?.into());
    }
    let mut pod = json!({
        "restartPolicy": "Never", "enableServiceLinks": false, "containers": [main],
        "automountServiceAccountToken": options.service_account.is_some(),
        "securityContext": {"supplementalGroups": spec.security.supplemental_groups},
    });
    if let Some(account) = &options.service_account {
        pod["serviceAccountName"] = account.clone().into();
    }
    if let Some(name) = spec.hostname.as_ref().filter(|name| is_label(name)) {
        pod["hostname"] = name.clone().into();
    }
    if !files.is_empty() {
        volumes.push(json!({"name": FILES, "emptyDir": {}}));
        pod["initContainers"] = json!([{
            "name": FILES, "image": spec.image, "imagePullPolicy": policy, "command": ["sh", "-c", TAKE_FILES],
            "resources": resources(spec, options), "securityContext": security,
            "volumeMounts": [{"name": FILES, "mountPath": FILES_AT}],
        }]);
    }
    pod["volumes"] = volumes.into();
    let pod = json!({
        "metadata": {
            "name": name(scope, &spec.id.0), "annotations": annotations, "finalizers": [FINALIZER],
            "labels": {SCOPE_LABEL: scope, "app.kubernetes.io/managed-by": "kubetask"},
        },
        "spec": pod,
    });
    let pod = serde_json::from_value(pod).map_err(|error| EngineError::Invalid(error.to_string()))?;
    Ok(Plan { pod, files })
}

/// Kubernetes replaces `$(NAME)` in these; here they are meant as they are.
fn literal(words: &[String]) -> Vec<String> {
    words.iter().map(|word| word.replace('$', "$$")).collect()
}

fn env(spec: &ContainerSpec) -> Vec<Value> {
    let last = |index: usize, name: &str| spec.env.iter().skip(index + 1).all(|(later, _)| later != name);
    let entries = spec.env.iter().enumerate().filter(|(index, (name, _))| last(*index, name));
    entries.map(|(_, (name, value))| json!({"name": name, "value": value.replace('$', "$$")})).collect()
}

fn resources(spec: &ContainerSpec, options: &KubernetesOptions) -> Value {
    let (mut limits, mut requests) = (options.limits.clone(), options.requests.clone());
    let own = [
        ("cpu", spec.resources.cpu_millis.map(|millis| format!("{millis}m"))),
        ("memory", spec.resources.memory_bytes.map(|bytes| bytes.to_string())),
    ];
    for (name, value) in own {
        let Some(value) = value else { continue };
        limits.insert(name.to_owned(), value);
        // One that is greater than the limit would be refused; none means as much as the limit.
        requests.remove(name);
    }
    json!({"limits": limits, "requests": requests})
}

fn security(spec: &ContainerSpec) -> Value {
    let security = &spec.security;
    let mut value = json!({
        "readOnlyRootFilesystem": security.read_only_root,
        "allowPrivilegeEscalation": security.allow_privilege_escalation,
        "capabilities": {"add": security.add_capabilities, "drop": security.drop_capabilities},
    });
    if let Some(user) = security.run_as_user {
        value["runAsUser"] = user.into();
    }
    if let Some(group) = security.run_as_group {
        value["runAsGroup"] = group.into();
    }
    value
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| EngineError::Invalid(format!("path {}: not UTF-8", path.display())))
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| EngineError::Invalid(error.to_string()))
}

/// Whether a text is a label of the DNS.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::super::options::Mapping;
    use super::*;
    use crate::spec::{ContainerId, LogSpec, Mount, Network, Resources, Security};

    fn spec() -> ContainerSpec {
        let mount =
            |source: &str, target: &str, read_only| Mount { source: source.into(), target: target.into(), read_only };
        ContainerSpec {
            id: ContainerId("u-main-0".to_owned()),
            labels: [("a".to_owned(), "b ".repeat(100))].into(),
            image: "busybox:1".to_owned(),
            command: vec!["sh".to_owned()],
            args: vec!["-c".to_owned(), "echo $$ $(A)".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned()), ("A".to_owned(), "$(B)".to_owned())],
            working_dir: Some("/w".into()),
            hostname: Some("h".to_owned()),
            mounts: vec![
                mount("/data/a", "/a", true),
                mount("/else", "/b", false),
                mount("/node/x", "/c", false),
                mount("/words", "/dev/termination-log", false),
            ],
            resources: Resources { cpu_millis: Some(1500), memory_bytes: Some(4 << 30), pids: Some(9) },
            network: Network::Host,
            security: Security { run_as_user: Some(1), ..Security::default() },
            tty: false,
            stdin: true,
            log: LogSpec { path: "/l".into(), max_bytes: 5, max_files: 2 },
        }
    }

    #[test]
    fn everything_is_passed_on() {
        let options = KubernetesOptions {
            mappings: vec![
                Mapping { path: "/data".into(), place: Place::Claim("data".to_owned()) },
                Mapping { path: "/node".into(), place: Place::NodePath("/srv".into()) },
            ],
            requests: [("cpu".to_owned(), "9".to_owned()), ("memory".to_owned(), "1Ki".to_owned())].into(),
            limits: [("memory".to_owned(), "1Ti".to_owned()), ("gpu".to_owned(), "1".to_owned())].into(),
            ..KubernetesOptions::default()
        };
        let plan =
            plan(&spec(), "0123456789", &options, PullPolicy::Never, |path| path == Path::new("/words")).unwrap();
        let pod = serde_json::to_value(&plan.pod).unwrap();
        let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
        let main = |pointer: &str| at(&format!("/spec/containers/0{pointer}"));
        assert_eq!(at("/metadata/name"), "kubetask-01234567-u-main-0");
        assert_eq!(main("/args"), json!(["-c", "echo $$$$ $$(A)"]), "meant as it is");
        assert_eq!(main("/env"), json!([{"name": "A", "value": "$$(B)"}]));
        assert_eq!(main("/resources/limits"), json!({"cpu": "1500m", "memory": "4294967296", "gpu": "1"}));
        assert_eq!(main("/resources/requests"), json!({}));
        assert_eq!(main("/imagePullPolicy"), "Never");
        assert_eq!(main("/terminationMessagePath"), "/dev/termination-log");
        assert_eq!(
            main("/volumeMounts/0"),
            json!({"name": "claim-0", "mountPath": "/a", "readOnly": true, "subPath": "a"})
        );
        assert_eq!(main("/volumeMounts/1/subPath"), "1");
        assert_eq!(main("/volumeMounts/3"), json!(null), "it comes back as the termination message");
        assert_eq!(at("/spec/volumes/1/hostPath/path"), "/srv/x");
        assert_eq!(plan.files, [("1".to_owned(), PathBuf::from("/else"))]);
        assert_eq!(at("/spec/automountServiceAccountToken"), false);
        assert_eq!(at("/spec/initContainers/0/securityContext/runAsUser"), 1);
    }

    #[test]
    fn names() {
        assert_eq!(name("scope", "c0"), "kubetask-scope-c0");
        for id in ["a_b", "a.b", "a..b", &"x".repeat(200)] {
            let name = name("0123456789abcdef", id);
            assert!(name.len() < 253 && !name.contains(['_', '.']), "{name}");
        }
        assert_ne!(name("s", "a_b"), name("s", "a.b"));
    }
}
