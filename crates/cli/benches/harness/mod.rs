//! What the benchmarks of the binary share: a server process, raw connections to it, load, and a line for each figure.

mod program;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

pub(crate) use program::program;

/// Connections of a load.
pub(crate) const CONNECTIONS: usize = 32;

pub(crate) fn report(what: &str, seconds: &mut [f64], budget: &str) {
    seconds.sort_by(f64::total_cmp);
    let at = |q: f64| seconds[((seconds.len() - 1) as f64 * q) as usize] * 1000.0;
    println!(
        "{what:<45} {:>8.1} ms    min {:.1}, p90 {:.1}, max {:.1}   ({budget})",
        at(0.5),
        at(0.0),
        at(0.9),
        at(1.0)
    );
}

pub(crate) fn command(dir: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).env("KUBETASK_DATA_DIR", dir.path().join("d")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// How long a start took.
pub(crate) struct Start {
    /// Until `/readyz` said 200 over TLS.
    pub(crate) ready: Duration,
    /// Until KubeTask's definitions were installed and served, and the operator was started.
    pub(crate) serving: Duration,
}

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) kubeconfig: PathBuf,
}

impl Server {
    /// Starts `kubetask up` and waits until it serves KubeTask's kinds.
    pub(crate) fn start(dir: &tempfile::TempDir) -> (Self, Start) {
        let data = dir.path().join("d");
        let info = data.join("server.json");
        let started = Instant::now();
        let child = command(dir, &["up"]).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, kubeconfig: data.join("kubeconfig") };
        let wait = |what: &dyn Fn() -> bool| {
            while !what() {
                assert!(started.elapsed() < Duration::from_secs(20), "up does not answer");
                std::thread::sleep(Duration::from_micros(300));
            }
        };
        // Written when the port is open, as a whole; one of an earlier start has the same port and key.
        wait(&|| server.kubeconfig.exists());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ready = runtime.block_on(async {
            let target = Target::of(&server);
            loop {
                if let Some(mut connection) = target.try_connect().await
                    && target.request(&mut connection, "GET", "/readyz", None).await == 200
                {
                    return started.elapsed();
                }
                assert!(started.elapsed() < Duration::from_secs(20), "up is not ready");
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
        let pid = format!("\"pid\": {},", server.child.id());
        wait(&|| std::fs::read_to_string(&info).unwrap_or_default().contains(&pid));
        (server, Start { ready, serving: started.elapsed() })
    }

    /// Processor time used so far.
    #[allow(dead_code, reason = "not every benchmark counts it")]
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// Processor time that the benchmark itself used so far.
#[allow(dead_code, reason = "not every benchmark counts it")]
pub(crate) fn own_cpu() -> Duration {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    // A tick is 10 ms on every Linux that runs here.
    Duration::from_millis(10 * ticks)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the server is and how to talk to it, without a client library in the way.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) token: Arc<str>,
    tls: Arc<tokio_rustls::rustls::ClientConfig>,
}

pub(crate) type Connection = http1::SendRequest<Full<bytes::Bytes>>;

impl Target {
    pub(crate) fn of(server: &Server) -> Self {
        let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
        let config = kubetask_yaml::read_one(&text, kubetask_yaml::Limits::default()).unwrap().value;
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let ca = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            text("/clusters/0/cluster/certificate-authority-data"),
        )
        .unwrap();
        let mut roots = tokio_rustls::rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let tls = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address: text("/clusters/0/cluster/server").trim_start_matches("https://").to_owned(),
            token: text("/users/0/user/token").into(),
            tls: Arc::new(tls),
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Option<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls().await?)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    /// A TLS connection that has not said anything yet.
    pub(crate) async fn tls(&self) -> Option<TlsStream<TcpStream>> {
        self.tls_through(|stream| stream).await
    }

    /// The same over a stream that is put around the socket.
    pub(crate) async fn tls_through<S>(&self, through: impl FnOnce(TcpStream) -> S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(self.tls.clone()).connect(name, through(stream)).await.ok()
    }

    pub(crate) async fn request(
        &self,
        connection: &mut Connection,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> u16 {
        // What a PATCH is, its path says to us alone; everything else is JSON.
        let (path, content_type) = path.split_once('#').unwrap_or((path, "application/json"));
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", content_type)
            .body(Full::new(bytes::Bytes::from(body.unwrap_or_default())))
            .unwrap();
        connection.ready().await.unwrap();
        let response = connection.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        status
    }
}

/// Method, path, body and expected status of request number `i`.
pub(crate) type Make = fn(usize) -> (&'static str, String, Option<String>, u16);

/// Sends `total` requests over [`CONNECTIONS`] connections; returns the rate and the time it took.
pub(crate) async fn load(server: &Server, total: usize, make: Make) -> (f64, Duration) {
    let target = Target::of(server);
    let next = Arc::new(AtomicUsize::new(0));
    let connections = futures::future::join_all((0..CONNECTIONS.min(total)).map(|_| target.connect())).await;
    let started = Instant::now();
    let workers = connections.into_iter().map(|mut connection| {
        let (target, next) = (target.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= total {
                    return;
                }
                let (method, path, body, expect) = make(i);
                assert_eq!(target.request(&mut connection, method, &path, body).await, expect, "{method} {path}");
            }
        })
    });
    for worker in futures::future::join_all(workers).await {
        worker.expect("a worker failed");
    }
    let time = started.elapsed();
    (total as f64 / time.as_secs_f64(), time)
}
