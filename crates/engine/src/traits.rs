//! The interface every engine offers.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, PullPolicy};

/// Result of an engine call.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine cannot work here at all (no daemon, no namespaces); says what to do.
    #[error("{engine} engine is not available: {reason}")]
    Unavailable {
        /// Name of the engine.
        engine: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// No such container.
    #[error("no container {0:?}")]
    NotFound(String),
    /// The specification cannot be run.
    #[error("invalid container: {0}")]
    Invalid(String),
    /// The image is not to be had.
    #[error("image {image}: {reason}")]
    Image {
        /// The image reference.
        image: String,
        /// Why.
        reason: String,
    },
    /// The container did not start.
    #[error("cannot start container: {0}")]
    Start(String),
    /// It does not run yet, and nothing is wrong with it: starting it again goes on waiting.
    #[error("not running yet: {reason}")]
    Waiting {
        /// Name of the engine.
        engine: &'static str,
        /// What it waits for (no room, a quota).
        reason: String,
    },
    /// This engine does not offer this.
    #[error("{engine} engine does not support {what}")]
    Unsupported {
        /// Name of the engine.
        engine: &'static str,
        /// What was asked for.
        what: String,
    },
    /// No engine of this name is configured.
    #[error("no engine {route:?} here (there is: {known})")]
    NoRoute {
        /// The name asked for.
        route: String,
        /// The names there are.
        known: String,
    },
    /// A system call or file operation failed.
    #[error("{step}")]
    Io {
        /// What was being done.
        step: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// What to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Further environment.
    pub env: Vec<(String, String)>,
    /// User to run as; `None`: the container's.
    pub user: Option<u32>,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Whether standard input is connected.
    pub stdin: bool,
    /// Working directory; `None`: the container's.
    pub working_dir: Option<PathBuf>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A program running beside a container's own, or the container's own streams.
pub struct Session {
    /// Its standard input; `None` where none was asked for. Dropping it closes the input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output (and error, with a terminal).
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Tells the terminal's new size; does nothing without a terminal.
    pub resize: mpsc::Sender<TermSize>,
    /// The exit code, once it ended. For an attach: the container's.
    pub exit: tokio::sync::oneshot::Receiver<Result<i32>>,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `local`, `docker`, `kubernetes`, …
    pub name: &'static str,
    /// Version and the facts that matter to a user (how it sandboxes, which daemon).
    pub description: String,
}

/// How the fetching of an image goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProgress {
    /// The layer or tag it is about; empty: the whole.
    pub part: String,
    /// What happens to it, in the engine's words.
    pub status: String,
    /// How much of it is here.
    pub done_bytes: Option<u64>,
    /// How much of it there is.
    pub total_bytes: Option<u64>,
}

/// What a registry asks for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The registry, as it was named where the credentials were found.
    pub server: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A token instead of both.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredentials").field("server", &self.server).finish_non_exhaustive()
    }
}

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Name and tag of the image.
    pub image: String,
    /// Directory with everything that the build may use; what its `.dockerignore` does not leave out is sent.
    pub context: PathBuf,
    /// The build's description, relative to `context`; `None`: `Dockerfile`.
    pub dockerfile: Option<PathBuf>,
    /// Arguments of the build.
    pub args: Vec<(String, String)>,
}

/// Runs containers. Every call may be made again after a crash of the caller: the identity of a run is the caller's.
#[async_trait]
pub trait ContainerEngine: Send + Sync + 'static {
    /// Short name, stable: it is stored in routes.
    fn name(&self) -> &'static str;

    /// Finds out whether the engine works here.
    async fn probe(&self) -> Result<EngineInfo>;

    /// Makes sure that `image` can be started.
    async fn ensure_image(&self, image: &str, policy: PullPolicy) -> Result<()>;

    /// As [`ensure_image`](Self::ensure_image), and tells how it goes on. Messages are dropped while nobody takes them.
    async fn pull_image(&self, image: &str, policy: PullPolicy, progress: mpsc::Sender<ImageProgress>) -> Result<()> {
        drop(progress);
        self.ensure_image(image, policy).await
    }

    /// As [`pull_image`](Self::pull_image), with credentials for the image's registry: each is tried, until one is good
    /// enough. Engines that fetch nothing themselves need none.
    async fn pull_image_as(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: &[RegistryCredentials],
        progress: mpsc::Sender<ImageProgress>,
    ) -> Result<()> {
        let _ = credentials;
        self.pull_image(image, policy, progress).await
    }

    /// Builds an image; the builder's output goes to `output` line by line.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] where the engine has no builder: build the image beforehand.
    async fn build_image(&self, spec: &BuildSpec, output: mpsc::Sender<String>) -> Result<()> {
        drop(output);
        let what = format!("building images: build {} beforehand", spec.image);
        Err(EngineError::Unsupported { engine: self.name(), what })
    }

    /// Starts a container. Starting an id that was started before returns its state and starts nothing.
    ///
    /// # Errors
    /// [`EngineError::Start`] where the program or a mount is wrong: nothing is left behind, and the id counts as ended.
    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState>;

    /// What is known of a container, running or ended.
    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState>;

    /// All containers of this engine that were started with this label (all where `None`), running or ended.
    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>>;

    /// Waits until the container ended; at once where it has. Works for containers started before a restart.
    async fn wait(&self, id: &ContainerId) -> Result<Exit>;

    /// Asks the container to end (SIGTERM), and ends it (SIGKILL) after `grace`. Returns once nothing of it runs.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit>;

    /// Forgets an ended container and everything the engine keeps of it, except its log. Not found is success.
    async fn remove(&self, id: &ContainerId) -> Result<()>;

    /// Runs a program in a running container. Dropping [`Session::exit`] before the program ended kills it.
    ///
    /// # Errors
    /// [`EngineError::Start`] where the program cannot be run: it is not there, or is no program. An engine that is only
    /// told later says so by [`Session::exit`].
    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session>;

    /// Connects to a running container's own input and (from now on) output. Shutting the session's input down closes
    /// the container's input; merely dropping it detaches and leaves the container's input open for the next.
    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session>;
}
