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
use kubetask_apiserver::{ApiServer, AuthConfig, Config, GivenFiles, OWN_NAME, Pki, ServeOptions, Server, User};
use kubetask_store::{Options, Store};

struct Served {
    server: Server,
    pki: Arc<Pki>,
    dir: tempfile::TempDir,
}

async fn serve() -> Result<Served> {
    let dir = tempfile::tempdir()?;
    serve_with(dir, GivenFiles::default()).await
}

async fn serve_with(dir: tempfile::TempDir, given: GivenFiles) -> Result<Served> {
    let pki = Arc::new(Pki::load_with(&dir.path().join("pki"), &["extra.example.test".into()], given)?);
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

/// Somebody else's authority, and what it signs.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: rcgen::Issuer::new(params, key) })
    }

    fn sign(
        &self,
        mut params: rcgen::CertificateParams,
        usage: rcgen::ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        let key = rcgen::KeyPair::generate()?;
        params.extended_key_usages = vec![usage];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    fn server(&self, name: &str) -> Result<(String, String)> {
        self.sign(rcgen::CertificateParams::new(vec![name.to_owned()])?, rcgen::ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, user: &str, groups: &[&str]) -> Result<(String, String)> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
        }
        self.sign(params, rcgen::ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// Shakes hands as a client that trusts these authorities and asks for a name; what it was shown.
async fn handshake(address: std::net::SocketAddr, ca_pem: &str, name: &str) -> Result<Vec<u8>> {
    use tokio_rustls::rustls;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(tls.get_ref().1.peer_certificates().unwrap_or_default()[0].to_vec())
}

#[tokio::test]
async fn given_certificates_serve_those_who_ask_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let (crt, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let (certificate, private) = authority.server("tasks.example.test")?;
    std::fs::write(&crt, certificate)?;
    std::fs::write(&key, private)?;
    let served = serve_with(dir, GivenFiles { server: Some((crt.clone(), key.clone())), client_ca: None }).await?;
    let (address, theirs, own) = (served.server.address(), authority.certificate.pem(), served.pki.ca_pem().to_owned());
    let first = handshake(address, &theirs, "tasks.example.test").await?;
    // Pods and commands of this machine come by address and know our own authority.
    handshake(address, &own, "127.0.0.1").await?;
    handshake(address, &own, OWN_NAME).await?;
    assert!(handshake(address, &own, "tasks.example.test").await.is_err());
    // A renewed certificate is used without a restart.
    let (certificate, private) = authority.server("tasks.example.test")?;
    std::fs::write(&crt, certificate)?;
    std::fs::write(&key, private)?;
    assert!(!served.pki.renew_if_due()?, "clients' authorities are the same");
    assert_ne!(handshake(address, &theirs, "tasks.example.test").await?, first);
    // What is of no use is not taken.
    std::fs::write(&crt, "nothing")?;
    assert!(served.pki.renew_if_due().is_err());
    handshake(address, &theirs, "tasks.example.test").await?;
    Ok(())
}

#[tokio::test]
async fn client_certificates_of_a_given_authority_are_who_they_say() -> Result<()> {
    use base64::Engine as _;
    use kube::api::PostParams;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let ca = dir.path().join("clients.crt");
    std::fs::write(&ca, authority.certificate.pem())?;
    let served = serve_with(dir, GivenFiles { server: None, client_ca: Some(ca) }).await?;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let auth = |(certificate, key): (String, String)| AuthInfo {
        client_certificate_data: Some(encode(&certificate)),
        client_key_data: Some(encode(&key).into()),
        ..AuthInfo::default()
    };
    let admin = client(&served, auth(authority.client("root", &["system:masters"])?)).await?;
    assert_eq!(count_namespaces(admin.clone()).await?, 4);
    let viewer = client(&served, auth(authority.client("ann", &["viewers"])?)).await?;
    let refused = count_namespaces(viewer.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("User \"ann\" cannot list resource \"namespaces\""), "{refused}");
    let binding = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "viewers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "viewers"}],
    }))?;
    Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(admin).create(&PostParams::default(), &binding).await?;
    assert_eq!(count_namespaces(viewer).await?, 4);
    // An authority that nobody named: the handshake fails.
    let stranger = client(&served, auth(Authority::new()?.client("root", &["system:masters"])?)).await?;
    assert!(count_namespaces(stranger).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_server_that_drains_takes_no_new_work() -> Result<()> {
    use axum::body::Body;
    use http::{Method, Request};
    use tower::ServiceExt as _;
    let auth = AuthConfig { tokens: vec![("secret".into(), User::admin("admin"))], ..AuthConfig::default() };
    let api = ApiServer::new(Config { auth, ..Config::new(Store::in_memory(Options::default())?) })?;
    api.bootstrap().await?;
    // Over the network, without a client that tries again by itself.
    let ask = async |method: Method, path: &str, body: &str| -> Result<(u16, bool)> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer secret");
        let request = request.header("content-type", kind).body(Body::from(body.to_owned()))?;
        let response = api.router().oneshot(request).await?;
        Ok((response.status().as_u16(), response.headers().contains_key("retry-after")))
    };
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str| format!("{{\"metadata\": {{\"name\": \"{name}\"}}}}");
    assert_eq!(ask(Method::POST, maps, &map("before")).await?, (201, false));
    assert_eq!(ask(Method::GET, "/readyz", "").await?.0, 200);
    api.drain();
    assert_eq!(ask(Method::POST, maps, &map("after")).await?, (503, true));
    // What is there can be read and changed, questions are answered, and who works inside goes on.
    assert_eq!(ask(Method::PATCH, &format!("{maps}/before"), "{\"data\": {\"k\": \"v\"}}").await?.0, 200);
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(ask(Method::POST, review, "{}").await?.0, 201);
    let inside = kube::Client::new(api.service_as(User::admin("inside"), "test"), "default");
    let inside: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(inside);
    inside.create(&kube::api::PostParams::default(), &serde_json::from_str(&map("after"))?).await?;
    assert_eq!(ask(Method::GET, "/readyz", "").await?.0, 500);
    assert_eq!(ask(Method::GET, "/livez", "").await?.0, 200);
    Ok(())
}
