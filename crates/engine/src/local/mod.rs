//! Containers as sandboxed processes of this machine.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, PullPolicy};
use crate::traits::{ContainerEngine, EngineError, EngineInfo, ExecSpec, Result, Session};

/// How the local engine runs containers.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Program that calls [`shim_main`](crate::shim_main) when its first argument is [`SHIM_ARGUMENT`](crate::SHIM_ARGUMENT);
    /// by default this very program.
    pub shim: PathBuf,
    /// Program that containers of KubeTask's own image run as `kubetask`; by default this very program.
    pub own_binary: PathBuf,
    /// Further host paths that no container may see, such as the data directory.
    pub hide: Vec<PathBuf>,
    /// Host paths that are shown, read-only, although they lie in something hidden by default: programs in a home directory.
    pub expose: Vec<PathBuf>,
    /// Environment that every container starts from, before its own.
    pub env: Vec<(String, String)>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            shim: PathBuf::from("/proc/self/exe"),
            own_binary: std::env::current_exe().unwrap_or_default(),
            hide: Vec::new(),
            expose: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// The local engine.
#[derive(Debug)]
pub struct LocalEngine {
    root: PathBuf,
    options: LocalOptions,
}

impl LocalEngine {
    /// An engine that keeps what it knows of its containers under `root`.
    ///
    /// # Errors
    /// Where `root` cannot be created.
    pub fn new(root: impl Into<PathBuf>, options: LocalOptions) -> Result<Self> {
        Ok(Self { root: root.into(), options })
    }
    fn soon<T>(&self) -> Result<T> {
        Err(EngineError::Unsupported { engine: "local", what: format!("{:?} {:?}", self.root, self.options) })
    }
}

#[async_trait]
impl ContainerEngine for LocalEngine {
    fn name(&self) -> &'static str {
        "local"
    }
    async fn probe(&self) -> Result<EngineInfo> {
        self.soon()
    }
    async fn ensure_image(&self, _: &str, _: PullPolicy) -> Result<()> {
        self.soon()
    }
    async fn start(&self, _: &ContainerSpec) -> Result<ContainerState> {
        self.soon()
    }
    async fn inspect(&self, _: &ContainerId) -> Result<ContainerState> {
        self.soon()
    }
    async fn list(&self, _: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        self.soon()
    }
    async fn wait(&self, _: &ContainerId) -> Result<Exit> {
        self.soon()
    }
    async fn stop(&self, _: &ContainerId, _: Duration) -> Result<Exit> {
        self.soon()
    }
    async fn remove(&self, _: &ContainerId) -> Result<()> {
        self.soon()
    }
    async fn exec(&self, _: &ContainerId, _: &ExecSpec) -> Result<Session> {
        self.soon()
    }
    async fn attach(&self, _: &ContainerId, _: bool) -> Result<Session> {
        self.soon()
    }
}
