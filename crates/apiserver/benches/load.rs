//! Throughput over TLS with 32 connections, client and server in one process: durable creates and gets of 1 KiB
//! ConfigMaps, and a list of all of them. `cargo bench -p kubetask-apiserver --bench load -- [OBJECTS]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kubetask_apiserver::{ApiServer, AuthConfig, Config, Pki, ServeOptions, Server, User};
use kubetask_store::{Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};

const CONNECTIONS: usize = 32;
const TOKEN: &str = "benchmark";

#[tokio::main]
async fn main() -> Result<()> {
    let objects = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(28_000usize);
    let dir = tempfile::tempdir()?;
    let pki = Arc::new(Pki::load_or_create(&dir.path().join("pki"), &[])?);
    let store = Store::open(dir.path().join("store"), Options::default())?;
    let auth = AuthConfig { tokens: vec![(TOKEN.into(), User::admin("bench"))], ..AuthConfig::default() };
    let api = ApiServer::new(Config { auth, ..Config::new(store) })?;
    api.bootstrap().await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let server = Server::start(api, pki.clone(), listener, ServeOptions::default())?;
    let connector = connector(&pki)?;

    let base = "/api/v1/namespaces/default/configmaps";
    let value = "x".repeat(1024);
    let post = move |index: usize| {
        let body = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"c{index}\"}},\"data\":{{\"k\":\"{value}\"}}}}"
        );
        request("POST", base, &body)
    };
    report("create, durable", objects, run(&server, &connector, objects, post).await?);
    let get = move |index: usize| request("GET", &format!("{base}/c{}", index % objects), "");
    report("get", objects * 4, run(&server, &connector, objects * 4, get).await?);
    let mut connection = Connection::open(&server, &connector).await?;
    for _ in 0..3 {
        let started = Instant::now();
        let bytes = connection.send(&request("GET", base, "")).await?;
        println!("list of {objects}: {:.3} s, {} MiB", started.elapsed().as_secs_f64(), bytes >> 20);
    }
    server.shutdown().await;
    Ok(())
}

fn report(what: &str, count: usize, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {rate:.0}/s ({count} in {:.2} s)", took.as_secs_f64());
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nuser-agent: bench/1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn run(
    server: &Server,
    connector: &TlsConnector,
    count: usize,
    make: impl Fn(usize) -> Vec<u8> + Clone + Send + 'static,
) -> Result<Duration> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(server, connector).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (next, make) = (next.clone(), make.clone());
            tokio::spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return anyhow::Ok(());
                    }
                    connection.send(&make(index)).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(started.elapsed())
}

fn connector(pki: &Pki) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A keep-alive connection that understands just enough HTTP to be cheap.
struct Connection {
    stream: TlsStream<tokio::net::TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: &Server, connector: &TlsConnector) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request, reads the whole answer, returns the length of its body.
    async fn send(&mut self, request: &[u8]) -> Result<usize> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                anyhow::ensure!(head.starts_with("HTTP/1.1 20"), "{head}");
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok())
                    .context("no content-length")?;
                let mut have = self.buffer.len() - end - 4;
                while have < length {
                    self.buffer.clear();
                    have += self.stream.read_buf(&mut self.buffer).await?;
                }
                return Ok(length);
            }
        }
    }
}
