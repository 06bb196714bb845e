//! A TCP proxy that cuts connections, as networks do.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::machine::Machine;

/// Between a client and a machine's server.
pub(super) struct Proxy {
    kubeconfig: PathBuf,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub(super) fn of(machine: &Machine) -> Self {
        let config = std::fs::read_to_string(machine.kubeconfig()).unwrap();
        let server = config.lines().find_map(|line| line.trim().strip_prefix("server: https://")).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let kubeconfig = machine.write("proxied-kubeconfig", config.replace(&server, &own)).into();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = connections.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                kept.lock().unwrap().push(client.try_clone().unwrap());
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        Self { kubeconfig, connections }
    }

    /// The machine's kubeconfig, through this proxy.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Cuts what is connected now; returns how many connections that were.
    pub(super) fn cut(&self) -> usize {
        let cut: Vec<TcpStream> = std::mem::take(&mut *self.connections.lock().unwrap());
        // A connection that ended already cannot be shut down. The other half follows.
        cut.iter().filter(|client| client.shutdown(Shutdown::Both).is_ok()).count()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
