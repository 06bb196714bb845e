//! Serves an empty API server on loopback, for trying it out with kubectl:
//! `cargo run -p kubetask-apiserver --example serve -- DIRECTORY [PORT]`.
//!
//! Prints a line with address, token and CA file when it is ready. The controllers run, but there is no node: pods wait.

use std::sync::Arc;

use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_store::{Options, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(args.next().unwrap_or_else(|| "apiserver-data".into()));
    let port: u16 = args.next().unwrap_or_default().parse().unwrap_or(0);
    let pki = Arc::new(Pki::load_or_create(&dir.join("pki"), &[])?);
    let token = uuid::Uuid::new_v4().simple().to_string();
    let store = Store::open(dir.join("store"), Options::default())?;
    let auth = AuthConfig {
        tokens: vec![(token.clone(), User::admin("example"))],
        service_account_key: Some(pki.service_account_key().to_owned()),
    };
    let api = ApiServer::new(Config { auth, ..Config::new(store) })?;
    api.bootstrap().await?;
    let client = kube::Client::new(api.service_as(User::admin("controllers"), "kube-controller-manager"), "default");
    let options = kubetask_controllers::Options { root_ca: Some(pki.ca_pem().to_owned()), ..Default::default() };
    let controllers = kubetask_controllers::start(client, options);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let server = Server::start(api, pki, listener, ServeOptions::default())?;
    println!("https://{} {token} {}", server.address(), dir.join("pki/ca.crt").display());
    tokio::signal::ctrl_c().await?;
    controllers.shutdown().await;
    server.shutdown().await;
    Ok(())
}
