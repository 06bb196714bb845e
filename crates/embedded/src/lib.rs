//! The embedded Kubernetes: store, API server, controllers and node in one process, over one data directory.
//!
//! [`Embedded::start`] assembles them; everything meets over the Kubernetes API. It knows nothing of what is built on
//! top: whoever wants custom resources installs their definitions through [`Embedded::client`].
//!
//! Under the data directory: `store/` (objects), `pki/` (authority, keys, token), `node/` (logs, volumes, records),
//! `containers/` (what the local engine keeps), `kubeconfig`.

mod config;
mod error;
mod kubeconfig;
mod port;
mod token;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kubetask_apiserver::{ApiServer, AuthConfig, OWN_NAME, Pki, ServeOptions, Server, User, VersionInfo};
use kubetask_engine::{ContainerEngine, DockerEngine, EngineRouter, KubernetesEngine, LocalEngine, LocalOptions};
use kubetask_node::{Node, NodeConfig, NodeHandle};
use kubetask_store::{Locking, Store};

pub use config::{EmbeddedConfig, Mode, TlsConfig};
pub use error::StartError;
pub use kubetask_apiserver::GivenFiles;
pub use kubetask_store::{OpenError, Permit};

/// A running embedded Kubernetes.
pub struct Embedded {
    api: ApiServer,
    store: Store,
    server: Option<Server>,
    controllers: Option<kubetask_controllers::Handle>,
    node: Option<NodeHandle>,
    kubeconfig: PathBuf,
}

impl Embedded {
    /// Starts everything that the mode asks for; returns once the API answers.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing keeps running then.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, StartError> {
        private_dir(&config.data_dir)?;
        let locking = if config.permit.is_some() { Locking::WhereSupported } else { Locking::Required };
        let options = kubetask_store::Options { locking, permit: config.permit.clone(), ..Default::default() };
        let store = Store::open(config.data_dir.join("store"), options)?;
        let mut names = config.tls.names.clone();
        // Who listens on one address is reached by it.
        names
            .extend(config.listen.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
        let given = config.tls.given.clone();
        let pki = Arc::new(Pki::load_with(&config.data_dir.join("pki"), &names, given)?);
        let token = token::load_or_create(&config.data_dir.join("pki/token"))?;
        let api = ApiServer::new(kubetask_apiserver::Config {
            auth: AuthConfig {
                tokens: vec![(token.clone(), User::admin("kubetask-admin"))],
                service_account_key: Some(pki.service_account_key().to_owned()),
            },
            version: VersionInfo {
                program: config.version.clone(),
                git_commit: config.commit.clone(),
                ..VersionInfo::default()
            },
            ..kubetask_apiserver::Config::new(store.clone())
        })?;
        let kubeconfig = config.data_dir.join("kubeconfig");
        let mut this = Self { api, store, server: None, controllers: None, node: None, kubeconfig };
        if let Err(error) = this.bring_up(config, &pki, &token).await {
            this.shutdown().await;
            return Err(error);
        }
        Ok(this)
    }

    async fn bring_up(&mut self, config: EmbeddedConfig, pki: &Arc<Pki>, token: &str) -> Result<(), StartError> {
        if config.mode == Mode::Passive {
            return Ok(());
        }
        self.api.bootstrap().await?;
        if let Some(listen) = config.listen {
            let (listener, address) = port::bind(&config.data_dir, listen).await?;
            let server = Server::start(self.api.clone(), pki.clone(), listener, ServeOptions::default())
                .map_err(|source| StartError::Listen { address, source })?;
            // With somebody else's certificate, our own is asked for by its name.
            let name = config.tls.given.server.is_some().then_some(OWN_NAME);
            kubeconfig::write(&self.kubeconfig, local(server.address()), pki.ca_pem(), name, token)?;
            self.server = Some(server);
        }
        let options = kubetask_controllers::Options {
            root_ca: Some(pki.ca_pem().to_owned()),
            ..kubetask_controllers::Options::default()
        };
        self.controllers = Some(kubetask_controllers::start(
            self.client_as("system:kube-controller-manager", "kube-controller-manager"),
            options,
        ));
        let mut engines: Vec<Arc<dyn ContainerEngine>> = config.engines;
        if engines.is_empty() {
            let options = LocalOptions {
                hide: std::iter::once(config.data_dir.clone()).chain(config.hide).collect(),
                shim: config.program.clone(),
                own_binary: config.program.clone(),
                ..LocalOptions::default()
            };
            engines.push(Arc::new(LocalEngine::new(config.data_dir.join("containers"), options)?));
            // Costs nothing until a pod asks for it.
            engines.push(Arc::new(DockerEngine::new(config.data_dir.join("docker"))));
            engines.push(Arc::new(KubernetesEngine::new(config.data_dir.join("kubernetes"), config.kubernetes)));
            engines.sort_by_key(|engine| !engine.name().eq_ignore_ascii_case(&config.default_engine));
        }
        let router = EngineRouter::new(engines);
        let router = if config.only_default_engine { router.all_to_default() } else { router };
        let client = self.client_as(&format!("system:node:{}", config.node_name), "kubelet");
        let node = NodeConfig {
            version: config.version,
            api_server: self.address().map(|address| (address.ip().to_string(), address.port())),
            ..NodeConfig::new(client, config.node_name, config.data_dir.join("node"), Arc::new(router))
        };
        let node = Node::start(node).await?;
        self.api.set_kubelet(tower::util::BoxCloneSyncService::new(node.router()));
        self.node = Some(node);
        Ok(())
    }

    /// A client of the API with all rights, in this process: no socket, no TLS.
    #[must_use]
    pub fn client(&self, user_agent: &str) -> Client {
        self.client_as("kubetask-admin", user_agent)
    }

    fn client_as(&self, user: &str, user_agent: &str) -> Client {
        Client::new(self.api.service_as(User::admin(user), user_agent), "default")
    }

    /// The number of the latest change, and a wake-up whenever there is another.
    #[must_use]
    pub fn revisions(&self) -> tokio::sync::watch::Receiver<u64> {
        self.store.revisions()
    }

    /// What gives back memory of the store when nothing has been written for a while.
    pub fn settler(&self) -> impl Fn() + Send + 'static + use<> {
        self.store.settler()
    }

    /// Where this machine reaches the API, if it is served.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| local(server.address()))
    }

    /// The kubeconfig for other processes; written when the API is served.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Takes no new work over the network from here on; what is there goes on.
    pub fn drain(&self) {
        self.api.drain();
    }

    /// Ends the controllers, and then every pod that runs, within `grace`. Returns how many were still running.
    pub async fn stop_pods(&mut self, grace: Duration) -> usize {
        // They would make new pods of what ends.
        if let Some(controllers) = self.controllers.take() {
            controllers.shutdown().await;
        }
        match &self.node {
            Some(node) => node.stop_pods(grace).await,
            None => 0,
        }
    }

    /// How many pods have containers that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.node.as_ref().map_or(0, NodeHandle::running)
    }

    /// Ends it: no new work, requests in flight finish, everything acknowledged is on disk. Containers go on.
    pub async fn shutdown(mut self) {
        if let Some(controllers) = self.controllers.take() {
            controllers.shutdown().await;
        }
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
        self.store.close().await;
    }
}

/// The address by which this machine reaches a listener.
fn local(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
    }
}

/// Creates a directory that only its owner may enter.
fn private_dir(path: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StartError::Io {
        step: "create",
        path: path.to_owned(),
        source,
    })
}
