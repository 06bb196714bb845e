//! The embedded server with KubeTask on it: what `kubetask up` runs, and `kubetask run` when nothing else does.

mod install;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kubetask_api::config::Notifications;
use kubetask_core::task::Settings;
use kubetask_embedded::{Embedded, EmbeddedConfig, Mode, Permit, StartError as EmbeddedError, TlsConfig};
use kubetask_operator::traces::TraceConfig;
use kubetask_operator::{Operator, OperatorConfig};

use crate::connect::{ServerInfo, forget, incarnation, publish};
use crate::error::{CommandError, chain};
use crate::paths::DataDir;
use crate::settings::{self, Backend};

/// How to run the server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where to listen. `None`: a loopback port of its own choice, for commands that come while this one runs.
    pub listen: Option<SocketAddr>,
    /// Only for a look at what is stored: no controllers, no node, no operator, not published.
    pub passive: bool,
    /// Without the operator: another process brings it.
    pub without_operator: bool,
    /// Names and certificates.
    pub tls: TlsConfig,
    /// Where a lease says who may write: asked before each commit.
    pub permit: Option<Permit>,
    /// What agents must not see of this machine, besides the data directory.
    pub hide: Vec<PathBuf>,
    /// The webhook of namespaces that name none.
    pub webhook: Option<String>,
    /// The engine of what asks for none; `None`: as configured.
    pub engine: Option<Backend>,
}

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// Another process has the data directory.
    InUse {
        /// Its process id, if it left it.
        pid: Option<u32>,
    },
    /// Anything else.
    Other(CommandError),
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::InUse { pid } => {
                let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                Self::failure(format!("another KubeTask process{who} uses this data directory and does not answer"))
                    .hint("`kubetask down` ends it; --data-dir chooses another directory")
            }
            StartError::Other(error) => error,
        }
    }
}

/// A server in this process.
pub struct LocalServer {
    embedded: Embedded,
    operator: Option<Operator>,
    data_dir: DataDir,
}

impl LocalServer {
    /// A client of it, in this process.
    #[must_use]
    pub fn client(&self) -> Client {
        self.embedded.client(concat!("kubetask/", env!("CARGO_PKG_VERSION")))
    }

    /// URL of its API; empty when it does not listen.
    #[must_use]
    pub fn url(&self) -> String {
        self.embedded.address().map(|address| format!("https://{address}")).unwrap_or_default()
    }

    /// Ends it: takes no new work, lets writes finish, and ends the agents that run where it is asked to. Returns how many
    /// go on running.
    pub async fn drain(mut self, stop: Option<Duration>) -> usize {
        self.embedded.drain();
        forget(&self.data_dir);
        if let Some(operator) = self.operator.take() {
            operator.shutdown().await;
        }
        let left = match stop {
            Some(grace) => self.embedded.stop_pods(grace).await,
            None => self.embedded.running(),
        };
        self.embedded.shutdown().await;
        left
    }

    /// Ends it. Agents go on.
    pub async fn shutdown(self) {
        forget(&self.data_dir);
        if let Some(operator) = self.operator {
            operator.shutdown().await;
        }
        self.embedded.shutdown().await;
    }
}

/// Starts the server, installs KubeTask's definitions, starts the operator, and publishes where it is.
///
/// # Errors
/// See [`StartError`].
pub async fn start(data_dir: &DataDir, options: ServerOptions) -> Result<LocalServer, StartError> {
    let mut configured = settings::Settings::load().map_err(StartError::Other)?;
    configured.backend = options.engine.or(configured.backend);
    let config = EmbeddedConfig {
        default_engine: configured.engine().name().to_owned(),
        only_default_engine: configured.only_cluster(),
        kubernetes: configured.kubernetes_of_server(data_dir.root()),
        mode: if options.passive { Mode::Passive } else { Mode::Full },
        listen: (!options.passive).then(|| options.listen.unwrap_or_else(crate::commands::up::default_listen)),
        commit: crate::version::commit().to_owned(),
        tls: options.tls,
        permit: options.permit,
        hide: options.hide,
        ..EmbeddedConfig::new(data_dir.root())
    };
    let embedded = Embedded::start(config).await.map_err(|error| match error {
        EmbeddedError::Store(kubetask_store_error) => locked_or(kubetask_store_error),
        other => StartError::Other(CommandError::failure(chain(&other))),
    })?;
    let mut server = LocalServer { embedded, operator: None, data_dir: data_dir.clone() };
    if options.passive {
        return Ok(server);
    }
    if let Err(error) = install::install(&server.client()).await {
        server.shutdown().await;
        return Err(StartError::Other(error));
    }
    if !options.without_operator {
        let traces = TraceConfig::from_env(|name| std::env::var(name).ok());
        let notifications =
            options.webhook.map(|url| Notifications { webhook_url: Some(url), ..Notifications::default() });
        let settings = Settings { notifications, ..Settings::default() };
        let config = OperatorConfig { traces, settings, ..OperatorConfig::default() };
        server.operator = Some(kubetask_operator::start(server.embedded.client("kubetask"), config));
    }
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let info = ServerInfo {
        pid,
        process: incarnation(pid),
        server: server.url(),
        version: crate::version::short().to_owned(),
        started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        temporary: options.listen.is_none(),
    };
    if let Err(error) = publish(data_dir, &info) {
        server.shutdown().await;
        let path = data_dir.server_info();
        return Err(StartError::Other(CommandError::failure(format!("{}: {error}", path.display()))));
    }
    crate::memory::release_when_quiet(server.embedded.revisions(), server.embedded.settler());
    Ok(server)
}

fn locked_or(error: kubetask_embedded::OpenError) -> StartError {
    match error {
        kubetask_embedded::OpenError::Locked { pid, .. } => StartError::InUse { pid },
        other => StartError::Other(CommandError::failure(chain(&other))),
    }
}

/// The log of a server in the background, readable by its owner only.
///
/// # Errors
/// When it cannot be opened.
pub fn open_log(data_dir: &DataDir) -> std::io::Result<File> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir.root())?;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(data_dir.server_log())
}
