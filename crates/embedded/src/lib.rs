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

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;
use kubetask_apiserver::{ApiServer, AuthConfig, Pki, ServeOptions, Server, User, VersionInfo};
use kubetask_engine::{ContainerEngine, DockerEngine, EngineRouter, KubernetesEngine, LocalEngine, LocalOptions};
use kubetask_node::{Node, NodeConfig, NodeHandle};
use kubetask_store::Store;

pub use config::{EmbeddedConfig, Mode};
pub use error::StartError;
pub use kubetask_store::OpenError;

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
        let store = Store::open(config.data_dir.join("store"), kubetask_store::Options::default())?;
        let pki = Arc::new(Pki::load_or_create(&config.data_dir.join("pki"), &[])?);
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
            kubeconfig::write(&self.kubeconfig, server.address(), pki.ca_pem(), token)?;
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
                hide: vec![config.data_dir.clone()],
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
            api_server: self.server.as_ref().map(|s| (s.address().ip().to_string(), s.address().port())),
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

    /// Where the API is served, if it is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// The kubeconfig for other processes; written when the API is served.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
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

/// Creates a directory that only its owner may enter.
fn private_dir(path: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StartError::Io {
        step: "create",
        path: path.to_owned(),
        source,
    })
}
