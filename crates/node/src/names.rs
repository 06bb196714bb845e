//! Names of containers and of the files the node keeps for them.

use std::path::{Path, PathBuf};

use kubetask_engine::spec::ContainerId;

/// Identity of one run of a container: `<pod uid>-<container>-<attempt>`.
pub(crate) fn container_id(uid: &str, container: &str, attempt: u32) -> ContainerId {
    ContainerId(format!("{}-{}-{attempt}", sanitise(uid), sanitise(container)))
}

/// A container's id as the pod's status shows it. Clients know the form `<runtime>://<64 hexadecimal digits>`, and some
/// know the runtimes too, so the local engine goes by the name of the usual one.
pub(crate) fn shown_container_id(engine: &str, id: &ContainerId) -> String {
    let runtime = if engine == "local" { "containerd" } else { engine };
    format!("{runtime}://{}", digest(&id.0))
}

/// An image's id as the pod's status shows it: nothing but the reference is known of it.
pub(crate) fn shown_image_id(image: &str) -> String {
    format!("sha256:{}", digest(image))
}

fn digest(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A part of a file name: lower case, without separators, never empty, never hidden, bounded.
fn sanitise(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '-' };
    let text: String = text.to_ascii_lowercase().chars().map(safe).take(80).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "x".to_owned() } else { text.to_owned() }
}

/// Where everything of the node lies, under one root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    memory: PathBuf,
}

impl Layout {
    /// The layout under `root`; `memory` is a directory for what should not reach a disk, where there is one.
    pub(crate) fn new(root: &Path, memory: Option<&Path>) -> Self {
        let memory = memory.map_or_else(|| root.join("private"), Path::to_path_buf);
        Self { root: root.to_path_buf(), memory }
    }

    /// Directory of all pods.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Directory of one pod.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(sanitise(uid))
    }

    /// The file that tells which containers of a pod were started.
    pub(crate) fn record(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("record.json")
    }

    /// Directory of a pod's volumes.
    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// Directory of one volume of a pod.
    pub(crate) fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.volumes(uid).join(sanitise(volume))
    }

    /// Directory of a pod's Secrets and in-memory volumes.
    pub(crate) fn private(&self, uid: &str) -> PathBuf {
        self.memory.join(sanitise(uid))
    }

    /// Directory of all pods' Secrets and in-memory volumes.
    pub(crate) fn private_root(&self) -> PathBuf {
        self.memory.clone()
    }

    /// Directory of one volume that holds Secrets, or that is to lie in memory.
    pub(crate) fn private_volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.private(uid).join(sanitise(volume))
    }

    /// The file in which a container leaves its last words.
    pub(crate) fn termination(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(format!("{}-{attempt}.termination", sanitise(container)))
    }

    /// Directory of a pod's logs.
    pub(crate) fn pod_logs(&self, namespace: &str, pod: &str, uid: &str) -> PathBuf {
        self.root.join("logs").join(format!("{}_{}_{}", file_name(namespace), file_name(pod), sanitise(uid)))
    }

    /// Directory of all logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of one run of a container.
    pub(crate) fn log(&self, namespace: &str, pod: &str, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_logs(namespace, pod, uid).join(sanitise(container)).join(format!("{attempt}.log"))
    }

    /// Directory of a claim's data.
    pub(crate) fn claim(&self, uid: &str) -> PathBuf {
        self.claims().join(format!("pvc-{}", sanitise(uid)))
    }

    /// Directory of all claims' data.
    pub(crate) fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }
}

/// Pod and namespace names may hold dots; anything else odd is replaced.
fn file_name(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' };
    let name: String = text.chars().map(safe).take(100).collect();
    if name.trim_matches('.').is_empty() { "x".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uid: &str, name: &str, expect: &str) {
        assert_eq!(container_id(uid, name, 3).0, expect);
    }

    #[test]
    fn ids_are_safe_file_names() {
        check("0a-b", "main", "0a-b-main-3");
        check("../x", "A/b", "x-a-b-3");
        check("", "", "x-x-3");
        assert!(container_id(&"u".repeat(500), &"c".repeat(500), u32::MAX).0.len() <= 200);
    }

    #[test]
    fn nothing_leaves_the_root() {
        let layout = Layout::new(Path::new("/r"), None);
        for hostile in ["..", "../..", "/etc", ".", "", "a/../../b"] {
            let paths = [
                layout.pod(hostile),
                layout.volume("u", hostile),
                layout.log(hostile, hostile, hostile, hostile, 0),
                layout.claim(hostile),
                layout.private_volume(hostile, hostile),
                layout.termination(hostile, hostile, 0),
            ];
            for path in paths {
                assert!(path.starts_with("/r"), "{}", path.display());
                assert!(path.components().all(|part| part.as_os_str() != ".."), "{}", path.display());
                assert!(path.components().count() > 3, "{}", path.display());
            }
        }
    }
}
