//! Which API server a command talks to.
//!
//! 1. `--context` or `--kubeconfig`: that cluster.
//! 2. A KubeTask server that runs on this machine for this data directory.
//! 3. None runs: commands that only look (`get`, `logs`, …) open the store for a moment; `run` brings a server of its
//!    own for as long as it lasts.
//!
//! `KUBECONFIG` alone selects nothing: nobody should reach their production cluster by a variable left in a shell.

mod running;

use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

pub use running::{ServerInfo, find as find_running, forget, incarnation, publish};

use crate::args::GlobalArgs;
use crate::error::{CommandError, CommandResult, chain};
use crate::paths::DataDir;
use crate::server::{self, LocalServer, ServerOptions, StartError};

/// How often, a tenth of a second apart, a store that is in use is asked for: a server that just takes it over from another
/// reads it and begins to listen meanwhile.
const ATTEMPTS: u32 = 150;

/// What a command needs of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Only stored objects; nothing has to happen.
    Store,
    /// Objects must come to life: controllers, node, operator.
    Everything,
}

/// An API server within reach.
pub struct Connection {
    /// Talks to it.
    pub client: Client,
    /// The namespace to use.
    pub namespace: String,
    /// The server that this process runs itself, where it does.
    pub local: Option<LocalServer>,
    /// Whether it is a real cluster that the user named.
    pub cluster: bool,
}

impl Connection {
    /// Whether it is a server that another process runs on this machine: it may end, and another take its place.
    #[must_use]
    pub fn is_server_of_machine(&self) -> bool {
        self.local.is_none() && !self.cluster
    }

    /// Ends what this process runs itself. Agents go on.
    pub async fn close(self) {
        if let Some(local) = self.local {
            local.shutdown().await;
        }
    }
}

/// Connects.
///
/// # Errors
/// When there is no such cluster or context, or this machine's server cannot be started.
pub async fn connect(global: &GlobalArgs, need: Need) -> CommandResult<Connection> {
    if let Some((client, namespace)) = cluster(global).await? {
        return Ok(Connection { client, namespace, local: None, cluster: true });
    }
    let namespace = global.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let data_dir = DataDir::resolve(global.data_dir.as_deref())?;
    // Between looking and starting another process may come or go: look again when the store turns out to be in use.
    let mut attempts = 0;
    loop {
        if let Some(client) = running::connect(&data_dir).await? {
            return Ok(Connection { client, namespace, local: None, cluster: false });
        }
        // A directory in which nothing has run yet has no definitions to look things up by: set it up first.
        let passive = need == Need::Store && data_dir.is_set_up();
        let options = ServerOptions { passive, ..ServerOptions::default() };
        match server::start(&data_dir, options).await {
            Ok(local) => {
                return Ok(Connection { client: local.client(), namespace, local: Some(local), cluster: false });
            }
            Err(StartError::InUse { pid }) if attempts < ATTEMPTS => {
                attempts += 1;
                tracing::debug!(?pid, "the store is in use by a server that does not answer yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The cluster that the user named, with its namespace; `None` when none was named.
///
/// # Errors
/// When the kubeconfig or the context is not there or not usable.
pub async fn cluster(global: &GlobalArgs) -> CommandResult<Option<(Client, String)>> {
    if global.context.is_none() && global.kubeconfig.is_none() && !global.current_context {
        return Ok(None);
    }
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let config = config_of(global.kubeconfig.as_deref(), &options).await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    Ok(Some((client, namespace)))
}

/// The cluster of a kubeconfig's current context.
///
/// # Errors
/// When the file is not there or not usable.
pub async fn from_kubeconfig(path: &Path) -> CommandResult<Client> {
    Ok(Client::try_from(config_of(Some(path), &KubeConfigOptions::default()).await?)?)
}

async fn config_of(path: Option<&Path>, options: &KubeConfigOptions) -> CommandResult<kube::Config> {
    kube::Config::from_custom_kubeconfig(read_kubeconfig(path)?, options)
        .await
        .map_err(|e| CommandError::usage(format!("kubeconfig: {}", chain(&e))))
}

fn read_kubeconfig(path: Option<&Path>) -> CommandResult<Kubeconfig> {
    let read = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    read.map_err(|e| CommandError::usage(format!("kubeconfig: {}", chain(&e))))
}
