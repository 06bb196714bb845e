//! Containers as sandboxed processes of this machine: no daemon, no images.
//!
//! [`LocalEngine`] writes down what to run in a directory per container (see `dir`), starts a shim process for it
//! (see `shim`) and from then on only talks to that shim. The engine keeps nothing in memory: whatever happens to it,
//! another one over the same directory goes on.
//!
//! `SANDBOX.md` in this crate says what a container sees and may do.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::control::{Reply, Report, Request};
use crate::dir::{Config, ContainerDir, MOUNT_POINT, SandboxConfig, Seen, remove_tree};
use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, Network, PullPolicy, Resources};
use crate::traits::{ContainerEngine, EngineError, EngineInfo, ExecSpec, Result, Session};
use crate::{image, sandbox, shim};

mod advice;
mod check;
mod connection;
mod session;
mod start;

use connection::Connection;

/// The engine's name in routes.
const NAME: &str = "local";

/// Names of directories that are being removed start with this.
const GONE: &str = ".gone-";

/// How the local engine runs containers.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Program that calls [`shim_main`](crate::shim_main) when its first argument is [`SHIM_ARGUMENT`](crate::SHIM_ARGUMENT);
    /// by default this very program.
    pub shim: PathBuf,
    /// Program that containers of KubeTask's own image run as `kubetask`; by default this very program.
    pub own_binary: PathBuf,
    /// Further host paths that no container may see, such as the data directory. The engine's own directory is hidden anyway.
    pub hide: Vec<PathBuf>,
    /// Host paths that are shown, read-only, although they lie in something hidden by default: programs in a home directory.
    pub expose: Vec<PathBuf>,
    /// Environment that every container starts from, before its own. By default `PATH` and the language of this process.
    pub env: Vec<(String, String)>,
    /// Program that makes sandboxes where this process may not: `bwrap`. By default the one on the path, if any.
    pub bwrap: Option<PathBuf>,
    /// Whether `bwrap` makes all sandboxes.
    pub always_bwrap: bool,
}

impl Default for LocalOptions {
    fn default() -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let standard = sandbox::DEFAULT_PATH.split(':').filter(|part| !path.split(':').any(|known| known == *part));
        let path = path.split(':').filter(|part| part.starts_with('/')).chain(standard).collect::<Vec<_>>().join(":");
        let language =
            ["LANG", "LC_ALL", "TZ"].map(|name| std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        let bwrap = std::env::split_paths(&path).map(|directory| directory.join("bwrap")).find(|file| file.is_file());
        Self {
            bwrap,
            always_bwrap: false,
            shim: PathBuf::from("/proc/self/exe"),
            own_binary: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
            hide: Vec::new(),
            expose: Vec::new(),
            env: std::iter::once(("PATH".to_owned(), path)).chain(language.into_iter().flatten()).collect(),
        }
    }
}

/// Runs containers as sandboxed processes. Cheap to make; several over the same directory get along.
#[derive(Debug)]
pub struct LocalEngine {
    root: PathBuf,
    containers: PathBuf,
    options: LocalOptions,
    hide: Vec<PathBuf>,
    host_home: Option<PathBuf>,
    /// Whether sandboxes are made by bwrap: asked for, or found to be the only way.
    by_bwrap: Arc<AtomicBool>,
    /// Held while a container is started or removed, by a hash of its id.
    busy: Vec<Arc<Mutex<()>>>,
}

impl LocalEngine {
    /// An engine that keeps what it knows of its containers under `root`, which it creates.
    ///
    /// # Errors
    /// Where `root` cannot be created or read.
    pub fn new(root: impl Into<PathBuf>, options: LocalOptions) -> Result<Self> {
        let root = root.into();
        let step = |step: &str| {
            let step = format!("{step} {}", root.display());
            move |source| EngineError::Io { step, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(step("create"))?;
        let canonical = std::fs::canonicalize(&root).map_err(step("find"))?;
        let containers = canonical.join("containers");
        for directory in [&containers, &canonical.join(MOUNT_POINT)] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(step("create directories in"))?;
        }
        for entry in std::fs::read_dir(&containers).map_err(step("read"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(GONE) {
                let _ = remove_tree(&entry.path());
            }
        }
        let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let hide = std::iter::once(canonical.clone()).chain(options.hide.iter().map(real)).collect();
        let home =
            std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && *home != Path::new("/"));
        let busy = (0..64).map(|_| Arc::default()).collect();
        let by_bwrap = Arc::new(AtomicBool::new(options.always_bwrap));
        Ok(Self { by_bwrap, root: canonical, containers, options, hide, host_home: home.as_ref().map(real), busy })
    }

    /// Where this engine keeps what it knows.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn directory(&self, id: &ContainerId) -> Result<ContainerDir> {
        check::id(id)?;
        Ok(ContainerDir::new(&self.containers, id))
    }

    fn config(&self, spec: ContainerSpec) -> Config {
        let own_binary = image::is_own(&spec.image).then(|| self.options.own_binary.clone());
        let sandbox = SandboxConfig {
            own_binary,
            hide: self.hide.clone(),
            expose: self.options.expose.clone(),
            env: self.options.env.clone(),
            host_home: self.host_home.clone(),
            bwrap: self.options.bwrap.clone().filter(|_| self.by_bwrap.load(Ordering::Relaxed)),
        };
        let cgroups = shim::cgroup::places(&spec.id.0, &spec.resources);
        Config { spec, sandbox, cgroups }
    }

    fn busy(&self, id: &ContainerId) -> Arc<Mutex<()>> {
        let hash = id.0.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        Arc::clone(&self.busy[hash % self.busy.len()])
    }

    /// What is on record of a container, after burying it if it died.
    async fn seen(&self, directory: &ContainerDir) -> Result<Seen> {
        match directory.look().map_err(io("look at the container"))? {
            Seen::Died => {
                let directory = directory.clone();
                blocking(move || start::bury(&directory)).await.map(Seen::Ended)
            }
            seen => Ok(seen),
        }
    }

    /// Asks a container's shim, and waits until it answers that the container ended.
    async fn until_end(&self, id: &ContainerId, request: Request) -> Result<Exit> {
        let directory = self.directory(id)?;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.seen(&directory).await? {
                Seen::Ended(exit) => return Ok(exit),
                Seen::Absent | Seen::Died => return Err(EngineError::NotFound(id.0.clone())),
                Seen::Alive => {}
            }
            // Cannot be reached: it is about to listen, or about to be gone.
            if let Ok(mut connection) = Connection::ask(&directory, &request, &[]).await {
                while let Ok(Some(reply)) = connection.next().await {
                    if let Reply::Exit(exit) = reply {
                        return Ok(exit);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn probe_once(&self) -> Result<EngineInfo> {
        static PROBES: AtomicU64 = AtomicU64::new(0);
        let serial = PROBES.fetch_add(1, Ordering::Relaxed);
        let directory = ContainerDir::at(self.containers.join(format!("{GONE}probe-{}-{serial}", std::process::id())));
        let config = self.config(probe_spec(&directory));
        let shim = self.options.shim.clone();
        let report = blocking(move || {
            directory.prepare(&config).map_err(io("write the probe's specification"))?;
            let report = start::run_shim(&shim, shim::PROBE, directory.path());
            let _ = remove_tree(directory.path());
            report
        });
        match report.await? {
            Some(Report::Works(how)) => {
                Ok(EngineInfo { name: NAME, description: format!("sandboxed processes: {how}") })
            }
            Some(Report::Unavailable(reason)) => {
                Err(EngineError::Unavailable { engine: NAME, reason: advice::explain(&reason) })
            }
            Some(Report::Broken(reason)) => Err(EngineError::Unavailable { engine: NAME, reason }),
            _ => Err(EngineError::Unavailable {
                engine: NAME,
                reason: format!("{} does not work as a shim", self.options.shim.display()),
            }),
        }
    }

    async fn start_once(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        let directory = self.directory(&spec.id)?;
        let (config, shim) = (self.config(spec.clone()), self.options.shim.clone());
        let alone = self.busy(&spec.id).lock_owned().await;
        blocking(move || {
            let state = start::start(&directory, &config, &shim);
            drop(alone);
            state
        })
        .await
    }

    /// From now on bwrap makes the sandboxes, if it is there. `false`: it is not, or it has failed (`by_bwrap`).
    fn fall_back(&self, by_bwrap: bool) -> bool {
        let possible = self.options.bwrap.is_some() && !by_bwrap;
        self.by_bwrap.fetch_or(possible, Ordering::Relaxed);
        possible
    }

    async fn running(&self, id: &ContainerId) -> Result<ContainerDir> {
        let directory = self.directory(id)?;
        match self.seen(&directory).await? {
            Seen::Alive => Ok(directory),
            Seen::Ended(_) | Seen::Died => Err(EngineError::Invalid(format!("container {:?} is not running", id.0))),
            Seen::Absent => Err(EngineError::NotFound(id.0.clone())),
        }
    }

    async fn state(&self, directory: &ContainerDir) -> Result<Option<ContainerState>> {
        let exit = match self.seen(directory).await? {
            Seen::Absent => return Ok(None),
            Seen::Ended(exit) => Some(exit),
            Seen::Alive | Seen::Died => None,
        };
        match directory.config().map_err(io("read the container's specification"))? {
            Some(config) => start::state(directory, &config.spec, exit).map(Some),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl ContainerEngine for LocalEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<EngineInfo> {
        let by_bwrap = self.by_bwrap.load(Ordering::Relaxed);
        match self.probe_once().await {
            Err(EngineError::Unavailable { .. }) if self.fall_back(by_bwrap) => self.probe_once().await,
            outcome => outcome,
        }
    }

    async fn ensure_image(&self, image: &str, _policy: PullPolicy) -> Result<()> {
        // Images are not used: whatever is asked for is "there", unless it can be nowhere.
        match image::nowhere(image) {
            None => Ok(()),
            Some(host) => Err(EngineError::Image {
                image: image.to_owned(),
                reason: format!("failed to resolve reference \"{image}\": dial tcp: lookup {host}: no such host"),
            }),
        }
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        check::spec(spec)?;
        let by_bwrap = self.by_bwrap.load(Ordering::Relaxed);
        match self.start_once(spec).await {
            Err(EngineError::Unavailable { .. }) if self.fall_back(by_bwrap) => self.start_once(spec).await,
            outcome => outcome,
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState> {
        let directory = self.directory(id)?;
        self.state(&directory).await?.ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        let mut states = Vec::new();
        for entry in std::fs::read_dir(&self.containers).map_err(io("list the containers"))?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(directory) = self.directory(&ContainerId(name)) else { continue };
            match self.state(&directory).await {
                Ok(Some(state)) => states.push(state),
                Ok(None) => {}
                // One that cannot be read must not make the others disappear.
                Err(error) => {
                    tracing::warn!(directory = %directory.path().display(), %error, "cannot read a container")
                }
            }
        }
        if let Some((name, value)) = label {
            states.retain(|state| state.labels.get(name).is_some_and(|found| found == value));
        }
        Ok(states)
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit> {
        self.until_end(id, Request::Wait).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.until_end(id, Request::Stop { grace_millis }).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        static REMOVALS: AtomicU64 = AtomicU64::new(0);
        let directory = self.directory(id)?;
        let alone = self.busy(id).lock_owned().await;
        if let Seen::Alive = self.seen(&directory).await? {
            return Err(EngineError::Invalid(format!("container {:?} is running: stop it first", id.0)));
        }
        let serial = REMOVALS.fetch_add(1, Ordering::Relaxed);
        let gone = self.containers.join(format!("{GONE}{}-{serial}-{}", std::process::id(), id.0));
        blocking(move || {
            start::reap(&directory);
            start::remove_groups(&directory);
            // First out of sight in one step, so that no half of it is ever found.
            match std::fs::rename(directory.path(), &gone) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => result.map_err(io("remove the container"))?,
            }
            drop(alone);
            // Its shim may still be tidying up in there.
            remove_tree(&gone).or_else(|_| remove_tree(&gone)).map_err(io("remove the container's directory"))
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session> {
        let directory = self.running(id).await?;
        session::exec(&directory, spec).await
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session> {
        let directory = self.running(id).await?;
        let config = directory.config().map_err(io("read the container's specification"))?;
        session::attach(&directory, config.is_some_and(|config| config.spec.tty), stdin).await
    }
}

/// A container that does nothing, to try the sandbox with.
fn probe_spec(directory: &ContainerDir) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId("probe".to_owned()),
        labels: Default::default(),
        image: String::new(),
        command: vec!["true".to_owned()],
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        hostname: None,
        mounts: Vec::new(),
        resources: Resources::default(),
        network: Network::None,
        security: Default::default(),
        tty: false,
        stdin: false,
        log: crate::spec::LogSpec { path: directory.file("log"), max_bytes: 1, max_files: 1 },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(EngineError::Io { step: "run in the background".to_owned(), source: io::Error::other(error) })
        }
    }
}

fn io(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Io { step: step.to_owned(), source }
}
