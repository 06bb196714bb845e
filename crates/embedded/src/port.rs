//! The port: the same as last time where possible, so that what people have written down stays right.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use crate::error::StartError;
use crate::token::write_private;

/// Listens on `wanted`; with port 0 on last time's port if it is free, else on any.
pub(crate) async fn bind(data_dir: &Path, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let file = data_dir.join("port");
    let listener = match last(&file).filter(|_| wanted.port() == 0) {
        Some(port) => match TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(wanted).await,
        },
        None => TcpListener::bind(wanted).await,
    };
    let listen = |source| StartError::Listen { address: wanted, source };
    let listener = listener.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    if last(&file) != Some(address.port()) {
        write_private(&file, address.port().to_string().as_bytes())?;
    }
    Ok((listener, address))
}

fn last(file: &Path) -> Option<u16> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|port| *port != 0)
}
