//! `kubectl port-forward`, which tunnels SPDY frames.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{create, pod};
use crate::machine::Machine;

/// Pods share the host's network: what a test listens on is a pod's port as good as any. It sends everything back, and at
/// the end of its input how many bytes there were.
pub(super) fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
                let (mut buffer, mut total) = ([0; 8192], 0);
                while let Ok(length @ 1..) = reader.read(&mut buffer) {
                    total += length;
                    if writer.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
                let _ = writer.write_all(format!("<{total}>").as_bytes());
            });
        }
    });
    port
}

struct Forward {
    child: Child,
    local: u16,
}

impl Forward {
    fn start(machine: &Machine, port: u16) -> Self {
        let mut command = machine.kubectl_command(&["port-forward", "pod/p", &format!(":{port}")]).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        // It writes more later, and must be able to.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let words = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(' '));
        let Some(local) = words.and_then(|(local, _)| local.parse().ok()) else {
            let mut errors = String::new();
            let _ = child.kill();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("{line:?} {errors:?}");
        };
        Self { child, local }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.local)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn connections_are_carried() {
    let machine = Machine::up();
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() {
        return;
    }
    let forward = Forward::start(&machine, echo());
    // Several at once, each with its own data, and none waits for another.
    let mut idle = forward.connect();
    let workers: Vec<_> = (0..8u8)
        .map(|number| {
            let mut stream = forward.connect();
            std::thread::spawn(move || {
                let sent = vec![number; 300_000];
                let (mut writer, data) = (stream.try_clone().unwrap(), sent.clone());
                let writing = std::thread::spawn(move || writer.write_all(&data));
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).unwrap();
                writing.join().unwrap().unwrap();
                assert!(back == sent);
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    idle.write_all(b"late").unwrap();
    let mut back = [0; 4];
    idle.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"late");
    idle.shutdown(Shutdown::Write).unwrap();
    // Connections come and go; none is left over.
    for _ in 0..50 {
        let mut stream = forward.connect();
        stream.write_all(b"x").unwrap();
        let mut back = [0; 1];
        stream.read_exact(&mut back).unwrap();
    }
}

#[test]
fn a_port_where_nobody_listens() {
    let machine = Machine::up();
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() {
        return;
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut forward = Forward::start(&machine, closed);
    let mut stream = forward.connect();
    let mut nothing = Vec::new();
    let _ = stream.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    // That is enough for kubectl to end.
    let mut line = String::new();
    forward.child.stderr.take().unwrap().read_to_string(&mut line).unwrap();
    assert!(line.contains(&format!("error forwarding port {closed} to pod p")), "{line}");
    assert!(line.contains("connection refused"), "{line}");
}
