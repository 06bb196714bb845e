//! Containers of a Docker Engine, or of Podman in its place.
//!
//! The daemon is asked over its unix socket, and only when a container is wanted: an engine that was never used costs
//! nothing, not even a look. Containers carry the caller's identity as their name and in labels, so after any crash they
//! are found again, and starting one twice starts it once. Their output is copied into the caller's log files by
//! [`follow`], which goes on where it ended.
//!
//! What differs from the local engine: the program is the container's first process (so one that does not handle SIGTERM
//! is only ended by SIGKILL), and an attach that is dropped closes the container's input.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell, mpsc, watch};

use crate::check;
use crate::runtime::words;
use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, PullPolicy};
use crate::traits::{
    BuildSpec, ContainerEngine, EngineError, EngineInfo, ExecSpec, ImageProgress, RegistryCredentials, Result, Session,
};

mod create;
mod follow;
mod frames;
mod http;
mod ignore;
mod image;
mod session;
mod state;

use http::{Api, Failure, encode};
use state::Inspected;

/// The engine's name in routes.
const NAME: &str = "docker";
/// File that says which daemon has containers of ours; where it is missing there are none.
const USED: &str = "socket";
/// How long the rest of an ended container's output may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_secs(30);

/// Runs containers by a Docker Engine.
#[derive(Debug)]
pub struct DockerEngine {
    api: Arc<Api>,
    root: PathBuf,
    scope: String,
    /// Logs that are being copied, or were.
    logs: StdMutex<HashMap<ContainerId, watch::Receiver<bool>>>,
    /// Held while a container is started or removed, by a hash of its id.
    busy: Vec<Mutex<()>>,
    podman: OnceCell<bool>,
    /// Why containers did not start: Podman forgets it. After a restart of the caller it is found out anew.
    refused: StdMutex<HashMap<ContainerId, String>>,
}

impl DockerEngine {
    /// An engine that finds the daemon by itself: `DOCKER_HOST`, then the usual places of Docker and of Podman, rootless
    /// ones included. `root` is a directory for the little that it keeps; one daemon may serve several.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_sockets(root, sockets(|name| std::env::var(name).ok()))
    }

    /// An engine for the daemon behind one of these sockets.
    pub fn with_sockets(root: impl Into<PathBuf>, sockets: Vec<PathBuf>) -> Self {
        let root = root.into();
        let root = std::path::absolute(&root).unwrap_or(root);
        let known = std::fs::read_to_string(root.join(USED)).ok().map(PathBuf::from);
        let scope = root.to_string_lossy().into_owned();
        let busy = (0..64).map(|_| Mutex::default()).collect();
        Self {
            api: Arc::new(Api::new(sockets, known)),
            root,
            scope,
            logs: StdMutex::default(),
            busy,
            podman: OnceCell::new(),
            refused: StdMutex::default(),
        }
    }

    /// The daemon's name for a container: of all who use the daemon, only we call ours so.
    fn name_of(&self, id: &ContainerId) -> String {
        let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        format!("kubetask-{:08x}-{}", self.scope.bytes().fold(0x811c_9dc5, fnv), id.0)
    }

    /// Whether there may be containers of this engine.
    fn used(&self) -> bool {
        self.root.join(USED).exists()
    }

    /// Writes down which daemon has containers of ours, before it has any.
    fn mark_used(&self) -> Result<()> {
        let (Some(socket), false) = (self.api.socket(), self.used()) else { return Ok(()) };
        let write = || {
            std::fs::create_dir_all(&self.root)?;
            let temporary = self.root.join(format!("{USED}.new"));
            std::fs::write(&temporary, socket.to_string_lossy().as_bytes())?;
            std::fs::File::open(&temporary)?.sync_all()?;
            std::fs::rename(&temporary, self.root.join(USED))
        };
        let step = || format!("write {}", self.root.join(USED).display());
        write().map_err(|source| EngineError::Io { step: step(), source })
    }

    fn busy(&self, id: &ContainerId) -> &Mutex<()> {
        let hash = id.0.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        &self.busy[hash % self.busy.len()]
    }

    /// What the daemon knows of a container of ours.
    async fn look(&self, id: &ContainerId) -> Result<Option<Inspected>> {
        if !self.used() {
            return Ok(None);
        }
        match self.api.call(Method::GET, &format!("/containers/{}/json", self.name_of(id)), None).await {
            Ok(mut found) => {
                let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                if let Some(error) = refused {
                    found["State"]["Error"] = error.into();
                }
                Ok(Some(Inspected(found)).filter(|found| found.state(&self.scope).is_some()))
            }
            Err(failure) if failure.not_found() => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// As [`Self::look`], for a container that was started.
    async fn started(&self, id: &ContainerId) -> Result<(Inspected, ContainerState)> {
        let found = self.look(id).await?.filter(|found| !found.never_started());
        let state = found.and_then(|found| found.state(&self.scope).map(|state| (found, state)));
        state.ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn running(&self, id: &ContainerId) -> Result<Inspected> {
        let (found, state) = self.started(id).await?;
        match state.exit {
            None => Ok(found),
            Some(_) => Err(EngineError::Invalid(format!("container {:?} is not running", id.0))),
        }
    }

    /// Sees to it that a container's output is copied.
    fn follow(&self, id: &ContainerId, found: &Inspected) -> Option<watch::Receiver<bool>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = logs.get(id) {
            return Some(done.clone());
        }
        let done = follow::spawn(Arc::clone(&self.api), self.name_of(id), found.log()?, found.tty());
        logs.insert(id.clone(), done.clone());
        Some(done)
    }

    /// The state of a container; that of an ended one is told once all its output is in the log.
    async fn told(&self, id: &ContainerId, found: &Inspected, state: ContainerState) -> ContainerState {
        let failed = state.exit.as_ref().is_some_and(|exit| exit.error.is_some());
        if !failed
            && let Some(mut done) = self.follow(id, found)
            && state.exit.is_some()
        {
            let _ = tokio::time::timeout(LAST_OUTPUT, done.wait_for(|done| *done)).await;
        }
        state
    }

    async fn version(&self) -> Result<Value> {
        Ok(self.api.call(Method::GET, "/version", None).await?)
    }

    /// Whether the daemon is Podman.
    async fn podman(&self) -> Result<bool> {
        let ask = async || Ok::<_, EngineError>(product(&self.version().await?).contains("Podman"));
        self.podman.get_or_try_init(ask).await.copied()
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<()> {
        let path = format!("/containers/create?name={}", encode(&self.name_of(&spec.id)));
        match self.api.call(Method::POST, &path, Some(&create::body(spec, &self.scope, self.podman().await?))).await {
            Ok(_) => Ok(()),
            // Somebody was faster, or the last attempt was interrupted.
            Err(Failure::Refused { status: 409, .. }) => Ok(()),
            Err(Failure::Refused { status: 500, message }) if message.contains("name is already in use") => Ok(()),
            Err(Failure::Refused { status: 404, message }) if message.to_lowercase().contains("no such image") => {
                Err(EngineError::Image { image: spec.image.clone(), reason: message })
            }
            Err(Failure::Refused { message, .. }) => Err(EngineError::Invalid(message)),
            Err(gone) => Err(gone.into()),
        }
    }

    async fn signal(&self, id: &ContainerId, signal: &str) -> Result<()> {
        match self.api.call(Method::POST, &format!("/containers/{}/kill?signal={signal}", self.name_of(id)), None).await
        {
            // Not running any more: that is what was wanted.
            Ok(_) | Err(Failure::Refused { status: 404 | 409, .. }) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

impl Api {
    /// A call that is answered when something happens.
    async fn call_for_ever(&self, path: &str) -> Result<Value> {
        use http_body_util::BodyExt as _;
        let response = self
            .stream(Method::POST, path, http::full(bytes::Bytes::new()), &[("content-type", "application/json")])
            .await?;
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Failure::Gone(format!("the daemon went away: {error}")))?.to_bytes();
        // Where the daemon ends meanwhile, it may answer with nothing.
        serde_json::from_slice(&body).map_err(|_| Failure::Gone("the daemon gave no answer".to_owned()).into())
    }
}

#[async_trait]
impl ContainerEngine for DockerEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<EngineInfo> {
        let version = self.version().await?;
        let number = version["Version"].as_str().unwrap_or_default();
        let socket = self.api.socket().unwrap_or_default();
        let description = format!("{} {number} at {}", product(&version), socket.display());
        Ok(EngineInfo { name: NAME, description })
    }

    async fn ensure_image(&self, image: &str, policy: PullPolicy) -> Result<()> {
        image::ensure(&self.api, image, policy, &[], None).await
    }

    async fn pull_image(&self, image: &str, policy: PullPolicy, progress: mpsc::Sender<ImageProgress>) -> Result<()> {
        image::ensure(&self.api, image, policy, &[], Some(&progress)).await
    }

    async fn pull_image_as(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: &[RegistryCredentials],
        progress: mpsc::Sender<ImageProgress>,
    ) -> Result<()> {
        image::ensure(&self.api, image, policy, credentials, Some(&progress)).await
    }

    async fn build_image(&self, spec: &BuildSpec, output: mpsc::Sender<String>) -> Result<()> {
        image::build(&self.api, spec, &output).await
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        check::hosted(spec, NAME)?;
        let _alone = self.busy(&spec.id).lock().await;
        // Which daemon it is must be known before it is written down.
        let podman = self.podman().await?;
        self.mark_used()?;
        if podman && self.look(&spec.id).await?.is_none() {
            sources_exist(spec)?;
        }
        self.create(spec).await?;
        let found = self.look(&spec.id).await?;
        if found.as_ref().is_some_and(Inspected::never_started) {
            match self.api.call(Method::POST, &format!("/containers/{}/start", self.name_of(&spec.id)), None).await {
                Ok(_) => {}
                Err(Failure::Refused { message, .. }) => {
                    let error = words(&message);
                    if podman {
                        self.refused
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(spec.id.clone(), error.clone());
                    }
                    return Err(EngineError::Start(error));
                }
                Err(gone) => return Err(gone.into()),
            }
        }
        let (found, state) = self.started(&spec.id).await?;
        self.follow(&spec.id, &found);
        Ok(state)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState> {
        let (found, state) = self.started(id).await?;
        Ok(self.told(id, &found, state).await)
    }

    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        if !self.used() {
            return Ok(Vec::new());
        }
        let mut labels = vec![format!("{}={}", create::SCOPE_LABEL, self.scope)];
        labels.extend(label.map(|(name, value)| format!("{name}={value}")));
        let filters = json!({"label": labels}).to_string();
        let listed =
            self.api.call(Method::GET, &format!("/containers/json?all=1&filters={}", encode(&filters)), None).await?;
        let mut states = Vec::new();
        for entry in listed.as_array().into_iter().flatten() {
            let Some(id) = entry["Id"].as_str() else { continue };
            match self.api.call(Method::GET, &format!("/containers/{id}/json"), None).await {
                Ok(found) => states.extend(Inspected(found).state(&self.scope)),
                Err(failure) if failure.not_found() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(states)
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit> {
        loop {
            let (found, state) = self.started(id).await?;
            let state = self.told(id, &found, state).await;
            if let Some(exit) = state.exit {
                return Ok(exit);
            }
            match self.api.call_for_ever(&format!("/containers/{}/wait", self.name_of(id))).await {
                Ok(_) => {}
                // It may just have been removed: the next look says so.
                Err(EngineError::Io { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit> {
        let (found, state) = self.started(id).await?;
        if state.exit.is_none() {
            if !grace.is_zero() {
                let signal = found.0["Config"]["StopSignal"].as_str().unwrap_or("SIGTERM").to_owned();
                self.signal(id, &signal).await?;
                if let Ok(exit) = tokio::time::timeout(grace, self.wait(id)).await {
                    return exit;
                }
            }
            self.signal(id, "SIGKILL").await?;
        }
        self.wait(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let _alone = self.busy(id).lock().await;
        let Some(found) = self.look(id).await? else { return Ok(()) };
        if found.running() {
            return Err(EngineError::Invalid(format!("container {:?} is running: stop it first", id.0)));
        }
        // What it said last is not lost with it.
        if let (false, Some(state)) = (found.never_started(), found.state(&self.scope)) {
            self.told(id, &found, state).await;
        }
        match self.api.call(Method::DELETE, &format!("/containers/{}?v=1", self.name_of(id)), None).await {
            Ok(_) | Err(Failure::Refused { status: 404, .. }) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session> {
        self.running(id).await?;
        if spec.command.iter().map(String::len).sum::<usize>() > 2 << 20 {
            return Err(EngineError::Start("argument list too long".to_owned()));
        }
        session::exec(&self.api, &self.name_of(id), spec, self.podman().await?).await
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session> {
        let found = self.running(id).await?;
        session::attach(&self.api, &self.name_of(id), found.tty(), stdin).await
    }
}

/// Podman makes a directory of a source that is missing. What this process may not look at the daemon may have.
fn sources_exist(spec: &ContainerSpec) -> Result<()> {
    for mount in &spec.mounts {
        if let Err(error) = std::fs::symlink_metadata(&mount.source)
            && error.kind() == std::io::ErrorKind::NotFound
        {
            return Err(EngineError::Start(format!("cannot mount {}: {error}", mount.source.display())));
        }
    }
    Ok(())
}

/// What kind of daemon it is, in its own words.
fn product(version: &Value) -> &str {
    version["Components"][0]["Name"].as_str().unwrap_or("Docker")
}

/// Where a daemon may listen.
fn sockets(env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(host) = env("DOCKER_HOST").filter(|host| !host.is_empty()) {
        // Anything but a socket of this machine would not see the files that containers need.
        return host.strip_prefix("unix://").map(PathBuf::from).into_iter().collect();
    }
    let runtime = env("XDG_RUNTIME_DIR").filter(|dir| dir.starts_with('/'));
    let home = env("HOME").filter(|dir| dir.starts_with('/'));
    let mut all = vec![PathBuf::from("/var/run/docker.sock")];
    all.extend(runtime.iter().map(|dir| Path::new(dir).join("docker.sock")));
    all.extend(home.iter().map(|dir| Path::new(dir).join(".docker/run/docker.sock")));
    all.extend(runtime.iter().map(|dir| Path::new(dir).join("podman/podman.sock")));
    all.push(PathBuf::from("/run/podman/podman.sock"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_daemons_listen() {
        let with = |pairs: &'static [(&str, &str)]| {
            sockets(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[("DOCKER_HOST", "unix:///x/d.sock"), ("HOME", "/h")]), [PathBuf::from("/x/d.sock")]);
        assert!(with(&[("DOCKER_HOST", "tcp://elsewhere:2375")]).is_empty());
        let usual = with(&[("XDG_RUNTIME_DIR", "/run/user/1")]);
        assert_eq!(usual[0], PathBuf::from("/var/run/docker.sock"));
        assert!(usual.contains(&PathBuf::from("/run/user/1/podman/podman.sock")));
    }
}
