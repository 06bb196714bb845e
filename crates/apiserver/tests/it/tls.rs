//! A real socket: TLS, both kinds of credentials, HTTP/2, shutdown.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_store::{Options, Store};

struct Served {
    server: Server,
    pki: Arc<Pki>,
    dir: tempfile::TempDir,
}

async fn serve() -> Result<Served> {
    let dir = tempfile::tempdir()?;
    let pki = Arc::new(Pki::load_or_create(dir.path(), &["extra.example.test".into()])?);
    let auth = AuthConfig { tokens: vec![("secret".into(), User::admin("admin"))], ..AuthConfig::default() };
    let api = ApiServer::new(Config { auth, ..Config::new(Store::in_memory(Options::default())?) })?;
    api.bootstrap().await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let server = Server::start(api, pki.clone(), listener, ServeOptions::default())?;
    Ok(Served { server, pki, dir })
}

async fn client(served: &Served, auth: AuthInfo) -> Result<kube::Client> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let cluster = Cluster {
        server: Some(format!("https://{}", served.server.address())),
        certificate_authority_data: Some(encode(served.pki.ca_pem())),
        ..Cluster::default()
    };
    let context = Context { cluster: "c".into(), user: Some("u".into()), ..Context::default() };
    let config = Kubeconfig {
        clusters: vec![NamedCluster { name: "c".into(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: "u".into(), auth_info: Some(auth), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext { name: "x".into(), context: Some(context), ..NamedContext::default() }],
        current_context: Some("x".into()),
        ..Kubeconfig::default()
    };
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn count_namespaces(client: kube::Client) -> Result<usize> {
    Ok(Api::<Namespace>::all(client).list(&ListParams::default()).await?.items.len())
}

#[tokio::test]
async fn tokens_and_certificates() -> Result<()> {
    use base64::Engine as _;
    let served = serve().await?;
    let by_token = client(&served, AuthInfo { token: Some("secret".to_owned().into()), ..AuthInfo::default() }).await?;
    assert_eq!(count_namespaces(by_token).await?, 4);
    let identity = served.pki.client("me", &["system:masters"])?;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let auth = AuthInfo {
        client_certificate_data: Some(encode(&identity.certificate)),
        client_key_data: Some(encode(&identity.key).into()),
        ..AuthInfo::default()
    };
    assert_eq!(count_namespaces(client(&served, auth).await?).await?, 4);
    let nobody = client(&served, AuthInfo::default()).await?;
    assert!(count_namespaces(nobody).await.is_err());
    served.server.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_authority_survives_and_its_keys_are_private() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = Pki::load_or_create(dir.path(), &[])?;
    let second = Pki::load_or_create(dir.path(), &["new.example.test".into()])?;
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.service_account_key(), second.service_account_key());
    for file in std::fs::read_dir(dir.path())? {
        let file = file?;
        assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    std::fs::write(dir.path().join("ca.crt"), "not a certificate")?;
    let third = Pki::load_or_create(dir.path(), &[])?;
    assert_ne!(first.ca_pem(), third.ca_pem());
    Ok(())
}

#[tokio::test]
async fn shutdown_ends_watches() -> Result<()> {
    let served = serve().await?;
    let client = client(&served, AuthInfo { token: Some("secret".to_owned().into()), ..AuthInfo::default() }).await?;
    let api = Api::<Namespace>::all(client);
    let mut stream = std::pin::pin!(api.watch(&kube::api::WatchParams::default(), "0").await?);
    futures::StreamExt::next(&mut stream).await;
    let started = std::time::Instant::now();
    served.server.shutdown().await;
    assert!(started.elapsed() < std::time::Duration::from_secs(4));
    drop(served.dir);
    Ok(())
}
