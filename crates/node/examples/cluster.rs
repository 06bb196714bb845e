//! A whole small Kubernetes on loopback: API server, controllers, and a node with the local engine, for trying the node
//! out with kubectl: `cargo run -p kubetask-node --example cluster -- DIRECTORY [PORT]`.
//!
//! Prints address, token and CA file when it is ready, and writes DIRECTORY/kubeconfig.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_engine::{EngineRouter, LocalEngine, LocalOptions, SHIM_ARGUMENT};
use kubetask_node::{Node, NodeConfig};
use kubetask_store::{Options, Store};
use tower::util::BoxCloneSyncService;

fn main() -> ExitCode {
    // Before any thread: the local engine starts this program again as the keeper of each container.
    if std::env::args().nth(1).as_deref() == Some(SHIM_ARGUMENT) {
        return kubetask_engine::shim_main(std::env::args_os());
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let done = tokio::runtime::Runtime::new().context("runtime").and_then(|runtime| runtime.block_on(run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = std::path::absolute(PathBuf::from(args.next().unwrap_or_else(|| "node-data".into())))?;
    let port: u16 = args.next().unwrap_or_default().parse().unwrap_or(0);
    let pki = Arc::new(Pki::load_or_create(&dir.join("pki"), &[])?);
    let token = uuid::Uuid::new_v4().simple().to_string();
    let auth = AuthConfig {
        tokens: vec![(token.clone(), User::admin("example"))],
        service_account_key: Some(pki.service_account_key().to_owned()),
    };
    let store = Store::open(dir.join("store"), Options::default())?;
    let api = ApiServer::new(Config { auth, ..Config::new(store.clone()) })?;
    let ca = pki.ca_pem().to_owned();
    let client = |name: &str| kube::Client::new(api.service_as(User::admin(name), name), "default");
    let controllers = kubetask_controllers::start(
        client("kube-controller-manager"),
        kubetask_controllers::Options { root_ca: Some(ca.clone()), ..Default::default() },
    );
    let options = LocalOptions { hide: vec![dir.clone()], ..LocalOptions::default() };
    let engines = EngineRouter::new(vec![Arc::new(LocalEngine::new(dir.join("engine"), options)?)]);
    let config = NodeConfig::new(client("kubelet"), "kubetask", dir.join("node"), Arc::new(engines));
    let node = Node::start(config).await?;
    api.set_kubelet(BoxCloneSyncService::new(node.router()));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let server = Server::start(api, pki, listener, ServeOptions::default())?;
    let address = format!("https://{}", server.address());
    write_kubeconfig(&dir, &address, &token)?;
    println!("{address} {token} {}", dir.join("pki/ca.crt").display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    node.shutdown().await;
    controllers.shutdown().await;
    store.close().await;
    Ok(())
}

fn write_kubeconfig(dir: &Path, address: &str, token: &str) -> anyhow::Result<()> {
    let ca = dir.join("pki/ca.crt");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "example",
        "clusters": [{"name": "example", "cluster": {"server": address, "certificate-authority": ca}}],
        "users": [{"name": "example", "user": {"token": token}}],
        "contexts": [{"name": "example", "context": {"cluster": "example", "user": "example"}}],
    });
    let mut file = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(file.write(true).create(true).truncate(true), 0o600);
    std::io::Write::write_all(&mut file.open(dir.join("kubeconfig"))?, text.to_string().as_bytes())?;
    Ok(())
}
