//! What an engine is asked to run, and what it tells of it: plain data, serialisable, no behaviour.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Identity of one run of a container, chosen by the caller *before* it starts and stored by the caller, so that a
/// run can be found again after any crash. Starting the same id twice is the same run.
///
/// Safe as a file name: `[a-z0-9]([-._a-z0-9]*[a-z0-9])?`, at most 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

/// A file or directory of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Absolute path on the host; a file or a directory, which must exist.
    pub source: PathBuf,
    /// Absolute path in the container; created where it is missing.
    pub target: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// Limits of one container; `None` is "no limit".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Greatest number of processes and threads.
    pub pids: Option<u64>,
}

/// What network a container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Only a loopback interface of its own.
    None,
}

/// Where the container's output goes: files in the CRI log format
/// (`<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`), as the kubelet keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogSpec {
    /// The current file; rotated files are `<path>.1`, `<path>.2`, … (1 is the newest).
    pub path: PathBuf,
    /// Size in bytes at which the file is rotated.
    pub max_bytes: u64,
    /// Greatest number of files, the current one included.
    pub max_files: u32,
}

/// Security settings, as far as an engine can honour them; see each engine's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Numeric user to run as; `None`: the engine's default.
    pub run_as_user: Option<u32>,
    /// Numeric group to run as.
    pub run_as_group: Option<u32>,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// Whether the container's root file system refuses writes.
    pub read_only_root: bool,
    /// Capabilities to add (`NET_ADMIN`…); `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// Whether the container may gain privileges (set-uid programs).
    pub allow_privilege_escalation: bool,
}

/// One container to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Identity of this run.
    pub id: ContainerId,
    /// Labels to find it by ([`ContainerEngine::list`](crate::traits::ContainerEngine::list)).
    pub labels: BTreeMap<String, String>,
    /// Image reference. The local engine does not use it.
    pub image: String,
    /// Program and arguments that replace the image's entrypoint; empty: the image's own.
    pub command: Vec<String>,
    /// Arguments after `command` (or after the image's entrypoint).
    pub args: Vec<String>,
    /// Environment, in order; later entries win.
    pub env: Vec<(String, String)>,
    /// Working directory in the container; `None`: the image's own, or `/workspace` where it exists, else `/`.
    pub working_dir: Option<PathBuf>,
    /// Host name in the container.
    pub hostname: Option<String>,
    /// Mounts, in order; a later one may lie inside an earlier one.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: Resources,
    /// Network.
    pub network: Network,
    /// Security settings.
    pub security: Security,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Whether standard input stays open for [`ContainerEngine::attach`](crate::traits::ContainerEngine::attach);
    /// otherwise it is empty.
    pub stdin: bool,
    /// Where output goes.
    pub log: LogSpec,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since the Unix epoch.
    pub finished_at_nanos: i128,
    /// Why it could not even start (program not found, mount failed): the message for the user.
    pub error: Option<String>,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// Its identity.
    pub id: ContainerId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Process id on this host, where there is one.
    pub pid: Option<i32>,
    /// When it started, in nanoseconds since the Unix epoch.
    pub started_at_nanos: i128,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

/// When to fetch an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Always ask the registry.
    Always,
    /// Only where it is not here.
    IfNotPresent,
    /// Never; not here is an error.
    Never,
}
