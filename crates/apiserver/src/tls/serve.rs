//! The accept loop: TLS handshakes with a deadline, HTTP/1.1 and HTTP/2, a bound on connections, graceful shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::cork::corked;
use super::pki::user_of;
use super::{Pki, PkiError};
use crate::ApiServer;
use crate::auth::User;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Connections served at the same time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Time for the TLS handshake, and for the head of each request.
    pub header_timeout: Duration,
    /// Time for requests in flight when the server shuts down; watches are ended at once.
    pub shutdown_grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { max_connections: 2000, header_timeout: Duration::from_secs(20), shutdown_grace: Duration::from_secs(5) }
    }
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Who the client certificate of a connection names.
#[derive(Debug, Clone)]
pub(crate) struct PeerUser(pub(crate) Arc<User>);

/// The request came over a connection, so that its identity must be proved.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FromNetwork {
    /// The number of the connection.
    pub(crate) connection: u32,
}

impl Server {
    /// Serves `api` on a listener.
    pub fn start(api: ApiServer, pki: Arc<Pki>, listener: TcpListener, options: ServeOptions) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let acceptors = Acceptors::new(&pki).map_err(std::io::Error::other)?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(api, pki, acceptors, listener, options, stop.clone()));
        Ok(Self { address, stop, task })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends watches, lets requests in flight finish within the grace period.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // The task only fails if it panicked; there is nothing left to stop then.
        let _ = self.task.await;
    }
}

/// What makes TLS of a connection: to a loopback address, and to any other.
struct Acceptors {
    loopback: TlsAcceptor,
    other: TlsAcceptor,
}

impl Acceptors {
    fn new(pki: &Pki) -> Result<Self, PkiError> {
        Ok(Self { loopback: pki.server_config(true)?.into(), other: pki.server_config(false)?.into() })
    }

    fn of(&self, stream: &TcpStream) -> TlsAcceptor {
        let loopback = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        if loopback { self.loopback.clone() } else { self.other.clone() }
    }

    /// Looks after the certificates.
    fn renew(&mut self, pki: &Pki) -> Result<(), PkiError> {
        if pki.renew_if_due()? {
            *self = Self::new(pki)?;
        }
        Ok(())
    }
}

async fn run(
    api: ApiServer,
    pki: Arc<Pki>,
    mut acceptors: Acceptors,
    listener: TcpListener,
    options: ServeOptions,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let graceful = GracefulShutdown::new();
    let mut number = 0_u32;
    let mut renewal = tokio::time::interval(pki.renewal_interval());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            _ = renewal.tick() => {
                if let Err(error) = acceptors.renew(&pki) {
                    tracing::warn!(%error, "certificates are not renewed; those in use stay");
                }
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let (api, acceptor) = (api.clone(), acceptors.of(&stream));
        number = number.wrapping_add(1);
        let network = FromNetwork { connection: number };
        let (options, watcher) = (options.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            connection(api, acceptor, stream, network, &options, watcher).await;
        });
    }
    drop(listener);
    api.end_watches();
    if tokio::time::timeout(options.shutdown_grace, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open after the grace period");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of file descriptors, most likely: do not spin.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    api: ApiServer,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    network: FromNetwork,
    options: &ServeOptions,
    graceful: hyper_util::server::graceful::Watcher,
) {
    // Small answers must not wait for more to send; failure only costs latency.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(options.header_timeout, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = certificate.and_then(user_of).map(|user| PeerUser(Arc::new(user)));
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let api = api.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(network);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        async move { Ok::<_, Infallible>(api.handle(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .max_header_list_size(64 * 1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let (stream, turns) = corked(tls);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = turns.drive(graceful.watch(connection)).await {
        tracing::debug!(%error, "connection ended with an error");
    }
}
