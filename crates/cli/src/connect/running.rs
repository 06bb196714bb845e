//! Finding the KubeTask server that runs on this machine for a data directory.
//!
//! A server publishes `server.json` beside its kubeconfig once it answers, and removes it when it ends. After a crash
//! the file is still there: what counts is whether the process lives and the server answers.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};

use crate::error::{CommandError, CommandResult, chain};
use crate::paths::DataDir;

/// What a running server tells of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Process id.
    pub pid: i32,
    /// URL of the API.
    pub server: String,
    /// Its version.
    pub version: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Which process of this number it is, on this machine since it started: numbers are given again, above all in
    /// containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Whether it ends with the command that started it.
    pub temporary: bool,
}

/// The server that runs for this data directory, by what it published and whether its process lives.
#[must_use]
pub fn find(data_dir: &DataDir) -> Option<ServerInfo> {
    let bytes = std::fs::read(data_dir.server_info()).ok()?;
    let info: ServerInfo = serde_json::from_slice(&bytes).ok()?;
    let pid = rustix::process::Pid::from_raw(info.pid)?;
    // A process of another user cannot be signalled, but it lives.
    match rustix::process::test_kill_process(pid) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(_) => return None,
    }
    let same = info.process.is_none() || incarnation(info.pid).is_none_or(|now| Some(now) == info.process);
    same.then_some(info)
}

/// What tells a process from every other of its number: the machine's start, and the process's.
#[must_use]
pub fn incarnation(pid: i32) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start time is the 20th word after it.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
    Some(format!("{}/{started}", boot.trim()))
}

/// Connects to the running server, if one runs and answers.
pub(super) async fn connect(data_dir: &DataDir) -> CommandResult<Option<Client>> {
    if find(data_dir).is_none() {
        return Ok(None);
    }
    let Ok(kubeconfig) = Kubeconfig::read_from(data_dir.kubeconfig()) else { return Ok(None) };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|e| CommandError::failure(format!("{}: {}", data_dir.kubeconfig().display(), chain(&e))))?;
    let client = Client::try_from(config)?;
    match tokio::time::timeout(Duration::from_secs(5), client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(Some(client)),
        Ok(Err(kube::Error::Api(status))) => Err(kube::Error::Api(status).into()),
        Ok(Err(error)) => {
            tracing::debug!(error = %chain(&error), "a server is published but does not answer");
            Ok(None)
        }
        Err(_) => Err(CommandError::failure("the KubeTask server on this machine does not answer")
            .hint("look at `kubetask status`; `kubetask down` ends it")),
    }
}

/// Publishes the running server, atomically and readable by its owner only.
///
/// # Errors
/// When the file cannot be written.
pub fn publish(data_dir: &DataDir, info: &ServerInfo) -> std::io::Result<()> {
    let path = data_dir.server_info();
    let temporary = path.with_extension("json.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(info)?)?;
    std::fs::rename(temporary, path)
}

/// Takes back what [`publish`] wrote, if it is this process's.
pub fn forget(data_dir: &DataDir) {
    if find(data_dir).is_some_and(|info| u32::try_from(info.pid) == Ok(std::process::id())) {
        // Gone already is as good.
        let _ = std::fs::remove_file(data_dir.server_info());
    }
}
