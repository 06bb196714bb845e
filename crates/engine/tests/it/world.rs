//! An engine under test, with a directory of its own and short ways to say what to run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kubetask_engine::fake::{FakeEngine, Script};
use kubetask_engine::kubernetes::{Mapping, Place};
use kubetask_engine::spec::{ContainerId, ContainerSpec, Exit, LogSpec, Mount, Network, Resources, Security};
use kubetask_engine::traits::{ExecSpec, Session};
use kubetask_engine::{
    ContainerEngine, DockerEngine, EngineError, KubernetesEngine, KubernetesOptions, LocalEngine, LocalOptions,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::kubernetes::Cluster;

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An engine and a scratch directory.
pub(crate) struct World {
    pub(crate) engine: Arc<dyn ContainerEngine>,
    scratch: TempDir,
    serial: AtomicU32,
    /// Whether only the container's own user exists in it.
    pub(crate) single_user: bool,
    image: String,
    /// Whether containers see an image's files instead of this machine's.
    images: bool,
    /// The other cluster, which lasts as long as somebody uses it.
    _cluster: Option<Arc<Cluster>>,
}

impl Drop for World {
    /// What a failed test leaves running must not stay.
    fn drop(&mut self) {
        if matches!(self.engine.name(), "docker" | "kubernetes") {
            return crate::docker::remove_all(&self.engine);
        }
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            let ours =
                command.starts_with("kubetask-shim") && command.contains(&*self.scratch.path().to_string_lossy());
            let pid = entry.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid.filter(|_| ours) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl World {
    /// The local engine; `None`, said aloud, where this machine allows no sandboxes.
    pub(crate) async fn local() -> Option<Self> {
        let scratch = tempfile::Builder::new().prefix("kubetask-engine-").tempdir().unwrap();
        let engine = local_engine(scratch.path());
        match engine.probe().await {
            Ok(_) => {
                let single_user = !rustix::process::geteuid().is_root();
                Some(Self::of(engine, scratch, single_user))
            }
            Err(EngineError::Unavailable { reason, .. }) => skipped(reason),
            Err(error) => panic!("{error}"),
        }
    }

    /// The local engine with sandboxes made by bwrap; `None`, said aloud, where there is none.
    pub(crate) async fn bwrap() -> Option<Self> {
        let scratch = tempfile::Builder::new().prefix("kubetask-engine-").tempdir().unwrap();
        let options = LocalOptions { always_bwrap: true, ..options() };
        if options.bwrap.is_none() {
            return skipped("no bwrap on the path");
        }
        let engine = LocalEngine::new(scratch.path().join("engine"), options).unwrap();
        engine.probe().await.unwrap();
        Some(Self::of(engine, scratch, true))
    }

    /// The Docker engine (or Podman in its place), with an image that holds busybox.
    pub(crate) async fn docker() -> Option<Self> {
        let scratch = tempfile::Builder::new().prefix("kubetask-engine-").tempdir().unwrap();
        let engine = docker_engine(scratch.path()).await?;
        static BUILT: crate::docker::Built = crate::docker::Built::const_new();
        let image = crate::docker::busybox(&engine, &BUILT).await?;
        let mut world = Self::of(engine, scratch, false);
        (world.image, world.images) = (image, true);
        Some(world)
    }

    /// The Docker engine before Podman's socket: that which `KUBETASK_PODMAN_SOCKET` names, else the system's. Podman is
    /// not on every machine; where the variable is set, it has to work.
    pub(crate) async fn podman() -> Option<Self> {
        let named = std::env::var_os("KUBETASK_PODMAN_SOCKET").map(PathBuf::from);
        let socket = named.clone().unwrap_or_else(|| PathBuf::from("/run/podman/podman.sock"));
        let scratch = tempfile::Builder::new().prefix("kubetask-engine-").tempdir().unwrap();
        let engine = DockerEngine::with_sockets(scratch.path().join("podman"), vec![socket]);
        match engine.probe().await {
            Ok(_) => {}
            Err(error) if named.is_none() => {
                eprintln!("SKIPPED: no Podman: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        static BUILT: crate::docker::Built = crate::docker::Built::const_new();
        let image = crate::docker::busybox(&engine, &BUILT).await?;
        let mut world = Self::of(engine, scratch, false);
        (world.image, world.images) = (image, true);
        Some(world)
    }

    /// The Kubernetes engine; files are sent.
    pub(crate) async fn kubernetes() -> Option<Self> {
        Self::in_cluster(KubernetesOptions::default()).await
    }

    /// The Kubernetes engine, with a cluster whose nodes have this machine's files.
    pub(crate) async fn kubernetes_here() -> Option<Self> {
        if crate::kubernetes::elsewhere() {
            eprintln!("SKIPPED: the nodes of that cluster do not have this machine's files");
            return None;
        }
        let everything = Mapping { path: "/".into(), place: Place::NodePath("/".into()) };
        Self::in_cluster(KubernetesOptions { mappings: vec![everything], ..KubernetesOptions::default() }).await
    }

    async fn in_cluster(options: KubernetesOptions) -> Option<Self> {
        let scratch = tempfile::Builder::new().prefix("kubetask-engine-").tempdir().unwrap();
        // The embedded one runs containers in sandboxes of this machine.
        let local = local_engine(scratch.path()).probe().await;
        if let (Err(error), false) = (local, crate::kubernetes::elsewhere()) {
            return skipped(error);
        }
        let (cluster, options) = crate::kubernetes::cluster(options);
        let engine = KubernetesEngine::new(scratch.path().join("kubernetes"), options);
        let single_user = cluster.is_some() && !rustix::process::geteuid().is_root();
        let mut world = Self::of(engine, scratch, single_user);
        world.image = crate::kubernetes::image();
        (world.images, world._cluster) = (cluster.is_none(), cluster);
        Some(world)
    }

    fn of(engine: impl ContainerEngine, scratch: TempDir, single_user: bool) -> Self {
        let (engine, image) = (Arc::new(engine), "example.test/any:1".to_owned());
        Self { engine, scratch, single_user, serial: AtomicU32::new(0), image, images: false, _cluster: None }
    }

    /// The scripted engine, taught the few commands that the cases for it use.
    pub(crate) async fn fake() -> Option<Self> {
        let engine = FakeEngine::new();
        engine.on(|spec| {
            let command = spec.command.last().map(String::as_str).unwrap_or_default();
            let number = |text: &str| text.trim().parse().ok();
            Some(match command.split_once(' ').unwrap_or((command, "")) {
                ("exit", code) => Script::exits(number(code)?),
                ("trap", rest) => Script::runs_until_stopped().on_term(number(rest.split(['\'', ' ']).nth(2)?)?),
                (_, _) if command.contains("sleep") => Script::runs_until_stopped(),
                (program, _) if program.starts_with("/no/") => Script::fails_to_start("no such file or directory"),
                _ => Script::exits(0),
            })
        });
        let scratch = tempfile::tempdir().unwrap();
        Some(Self::of(engine, scratch, false))
    }

    /// Whether containers see an image's files instead of this machine's.
    pub(crate) fn has_images(&self) -> bool {
        self.images
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A directory of the host for containers to use, open to every user.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        path
    }

    /// What runs a shell script under a new identity.
    pub(crate) fn sh(&self, script: &str) -> ContainerSpec {
        self.command(&["sh", "-c", script])
    }

    pub(crate) fn command(&self, command: &[&str]) -> ContainerSpec {
        let id = format!("c{}", self.serial.fetch_add(1, Ordering::Relaxed));
        ContainerSpec {
            labels: [("test".to_owned(), "yes".to_owned())].into(),
            image: self.image.clone(),
            command: command.iter().map(|&part| part.to_owned()).collect(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            hostname: None,
            mounts: Vec::new(),
            resources: Resources::default(),
            network: Network::Host,
            security: Security::default(),
            tty: false,
            stdin: false,
            log: LogSpec { path: self.path(&format!("{id}.log")), max_bytes: 1 << 30, max_files: 3 },
            id: ContainerId(id),
        }
    }

    pub(crate) async fn start(&self, spec: &ContainerSpec) -> ContainerId {
        self.engine.start(spec).await.unwrap();
        spec.id.clone()
    }

    pub(crate) async fn wait(&self, id: &ContainerId) -> Exit {
        tokio::time::timeout(PATIENCE, self.engine.wait(id)).await.expect("the container does not end").unwrap()
    }

    /// Runs to the end.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Exit {
        let id = self.start(spec).await;
        self.wait(&id).await
    }

    /// Runs a script to the end and gives what it printed (both outputs), which must have gone well.
    pub(crate) async fn output(&self, spec: &ContainerSpec) -> String {
        let exit = self.run(spec).await;
        let text = text(&spec.log.path);
        assert_eq!((exit.code, exit.error), (0, None), "{text}");
        text
    }

    /// Waits until a container's log contains something.
    pub(crate) async fn printed(&self, spec: &ContainerSpec, what: &str) {
        let seen = async {
            while !text(&spec.log.path).contains(what) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "{what:?} was never printed: {:?}", text(&spec.log.path));
    }

    /// Runs a program in a container to its end: code, output, error output.
    pub(crate) async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> (i32, String, String) {
        collect(self.engine.exec(id, &spec).await.unwrap()).await
    }
}

/// A shell script for exec.
pub(crate) fn exec_sh(script: &str) -> ExecSpec {
    ExecSpec { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() }
}

/// Everything a session gives: code, output, error output.
pub(crate) async fn collect(session: Session) -> (i32, String, String) {
    let Session { stdin, mut stdout, stderr, exit, resize: _resize } = session;
    drop(stdin);
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let reading = async {
        stdout.read_to_end(&mut output).await.unwrap();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut errors).await.unwrap();
        }
        exit.await.unwrap().unwrap()
    };
    let code = tokio::time::timeout(PATIENCE, reading).await.expect("the session does not end");
    (code, String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&errors).into_owned())
}

/// Nothing to test with, said aloud. In CI everything is tested.
pub(crate) fn skipped<T>(why: impl std::fmt::Display) -> Option<T> {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must not skip: {why}");
    eprintln!("SKIPPED: {why}");
    None
}

/// Whether tests may go on without Docker: anywhere but in CI, and there where no daemon can run (`.ci/run` says so).
fn docker_may_be_missing() -> bool {
    std::env::var("CI").as_deref() != Ok("true") || std::env::var_os("KUBETASK_CI_WITHOUT_DOCKER").is_some()
}

/// A Docker engine that keeps what it knows in `scratch`; `None`, said aloud, where there is no daemon.
pub(crate) async fn docker_engine(scratch: &Path) -> Option<DockerEngine> {
    let engine = DockerEngine::new(scratch.join("docker"));
    match engine.probe().await {
        Ok(_) => Some(engine),
        Err(EngineError::Unavailable { reason, .. }) if docker_may_be_missing() => {
            eprintln!("SKIPPED: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A local engine over `scratch/engine`, with this crate's own shim.
pub(crate) fn local_engine(scratch: &Path) -> LocalEngine {
    LocalEngine::new(scratch.join("engine"), options()).unwrap()
}

fn options() -> LocalOptions {
    let shim = std::env::var_os("ENGINE_TEST_SHIM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kubetask-engine-shim")), PathBuf::from);
    LocalOptions { own_binary: shim.clone(), shim, ..LocalOptions::default() }
}

pub(crate) fn mount(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount { source, target: target.into(), read_only }
}

/// Entries of a log file: stream, tag, text.
pub(crate) fn entries(log: &Path) -> Vec<(String, String, Vec<u8>)> {
    let content = std::fs::read(log).unwrap_or_default();
    let entry = |line: &[u8]| {
        let mut parts = line.splitn(4, |&byte| byte == b' ');
        let mut word = || String::from_utf8_lossy(parts.next().unwrap()).into_owned();
        let (_time, stream, tag) = (word(), word(), word());
        (stream, tag, parts.next().unwrap().to_vec())
    };
    content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(entry).collect()
}

/// What a log says, both outputs, as printed.
pub(crate) fn text(log: &Path) -> String {
    let join = |(_, tag, text): &(String, String, Vec<u8>)| {
        let end = if tag == "F" { "\n" } else { "" };
        format!("{}{end}", String::from_utf8_lossy(text))
    };
    entries(log).iter().map(join).collect()
}
