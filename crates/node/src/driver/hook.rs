//! Lifecycle hooks and probes: what they do, once. When they are due is the machine's business.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubetask_engine::traits::{ExecSpec, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Driver;
use super::container::Run;
use super::wire;
use crate::machine::{Event, Hook, ProbeKind};

/// Most of a probe's output that is kept.
const OUTPUT: usize = 10 * 1024;
/// Most of a response's head that is looked at.
const HEAD: usize = 8 * 1024;

impl Driver {
    pub(super) fn hook(&mut self, slot: usize, attempt: u32, hook: Hook, timeout: Duration) {
        let Some(caller) = self.caller(slot, attempt) else { return };
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            let lifecycle = caller.container.lifecycle.clone().unwrap_or_default();
            let handler = match hook {
                Hook::PostStart => lifecycle.post_start,
                Hook::PreStop => lifecycle.pre_stop,
            };
            let handled = caller.run_handler(handler.unwrap_or_default());
            let Some(result) = stop.run_until_cancelled(tokio::time::timeout(timeout, handled)).await else { return };
            let result = result.unwrap_or_else(|_| Err(format!("timed out after {}s", timeout.as_secs())));
            caller.run.tell(Event::HookDone { slot, attempt, hook, result });
        });
    }

    fn caller(&self, slot: usize, attempt: u32) -> Option<Caller> {
        let container = Arc::clone(&self.machine.slots()[slot].spec);
        Some(Caller { run: self.container_run(slot, attempt).ok()?, container })
    }

    pub(super) fn probe(&mut self, slot: usize, attempt: u32, kind: ProbeKind) {
        let Some(caller) = self.caller(slot, attempt) else { return };
        let Some(probe) = self.machine.slots()[slot].probe(kind).cloned() else { return };
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            let seconds = u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1);
            let timeout = Duration::from_secs(seconds);
            let probing = async {
                if let Some(action) = &probe.exec {
                    let ran = tokio::time::timeout(timeout, caller.run_exec(action));
                    let command = action.command.clone().unwrap_or_default().join(" ");
                    return ran
                        .await
                        .unwrap_or_else(|_| Err(format!("command timed out: {command:?} timed out after {seconds}s")));
                }
                let asked = async {
                    match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
                        (Some(action), ..) => caller.http_get(action).await,
                        (None, Some(action), _) => caller.connect(action).await,
                        (None, None, Some(action)) => caller.grpc(action).await,
                        (None, None, None) => Err("missing probe handler".to_owned()),
                    }
                };
                let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(late.to_owned()))
            };
            let Some(result) = stop.run_until_cancelled(probing).await else { return };
            caller.run.tell(Event::Probed { slot, attempt, kind, result });
        });
    }
}

/// What a handler of a container is run with.
struct Caller {
    run: Run,
    container: Arc<Container>,
}

impl Caller {
    async fn run_handler(&self, handler: LifecycleHandler) -> Result<(), String> {
        if let Some(action) = &handler.exec {
            return self.run_exec(action).await;
        }
        if let Some(action) = &handler.http_get {
            return self.http_get(action).await;
        }
        if let Some(action) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        }
        Ok(())
    }

    /// Runs a program in the container; an error is its output.
    async fn run_exec(&self, action: &ExecAction) -> Result<(), String> {
        let id = self.run.id();
        let spec = ExecSpec { command: action.command.clone().unwrap_or_default(), ..ExecSpec::default() };
        let session = self.run.engine.exec(&id, &spec).await.map_err(|error| error.to_string())?;
        let Session { stdin, stdout, stderr, resize: _resize, exit } = session;
        drop(stdin);
        let (out, err) = tokio::join!(read_some(stdout), async {
            match stderr {
                Some(stderr) => read_some(stderr).await,
                None => Vec::new(),
            }
        });
        match exit.await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(_)) => Err(String::from_utf8_lossy(&[out, err].concat()).into_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the command's exit code was lost".to_owned()),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self.container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
        number.ok_or_else(|| match port {
            IntOrString::Int(number) => format!("invalid port number: {number}"),
            IntOrString::String(name) => format!("couldn't find port: {name:?}"),
        })
    }

    async fn connect(&self, action: &TCPSocketAction) -> Result<(), String> {
        let port = self.port(&action.port)?;
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.run.shared.facts.address.clone());
        open(&host, port).await.map(drop)
    }

    async fn grpc(&self, action: &GRPCAction) -> Result<(), String> {
        let port = self.port(&IntOrString::Int(action.port))?;
        let host = &self.run.shared.facts.address;
        let stream = open(host, port).await?;
        wire::grpc(stream, &format!("{host}:{port}"), action.service.as_deref().unwrap_or_default()).await
    }

    async fn http_get(&self, action: &HTTPGetAction) -> Result<(), String> {
        let scheme = if action.scheme.as_deref() == Some("HTTPS") { "https" } else { "http" };
        let port = self.port(&action.port)?;
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.run.shared.facts.address.clone());
        let path = action.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let url = format!("{scheme}://{host}:{port}{path}");
        let request = request(&host, port, &path, action)?;
        let told = |error: String| format!("Get {url:?}: {error}");
        let stream = open(&host, port).await.map_err(told)?;
        let head = match scheme {
            "https" => exchange(wire::tls(stream, &host).await.map_err(told)?, &request).await,
            _ => exchange(stream, &request).await,
        };
        match status_code(&head.map_err(|error| told(error.to_string()))?) {
            Some(200..400) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err(format!("Get {url:?}: malformed HTTP response")),
        }
    }
}

/// Sends a request, and reads the first line of the answer.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while head.len() < HEAD && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// The text of a request; nothing in it may begin another line.
fn request(host: &str, port: u16, path: &str, action: &HTTPGetAction) -> Result<String, String> {
    let mut headers: Vec<(&str, &str)> = Vec::new();
    for header in action.http_headers.iter().flatten() {
        headers.push((&header.name, &header.value));
    }
    let clean = |text: &str| text.chars().all(|c| !c.is_control());
    let path_ok = clean(path) && !path.contains(' ');
    if !path_ok
        || !clean(host)
        || headers.iter().any(|(name, value)| !clean(name) || !clean(value) || name.contains([' ', ':']))
    {
        return Err("the probe's path or headers are not valid in HTTP".to_owned());
    }
    let given = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in
        [("Host", format!("{host}:{port}")), ("User-Agent", "kube-probe/1.36".to_owned()), ("Accept", "*/*".to_owned())]
    {
        if !given(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text)
}

fn status_code(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|code| (100..600).contains(code))
}

async fn open(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {host}:{port}: {why}")
    })
}

/// The beginning of a stream; the rest is read and dropped, so that the program is not held up.
async fn read_some(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_cannot_be_split() {
        let action = |path: &str, headers: serde_json::Value| -> HTTPGetAction {
            serde_json::from_value(json!({"port": 80, "path": path, "httpHeaders": headers})).unwrap()
        };
        let text = |path: &str, headers| request("h", 80, path, &action(path, headers));
        assert_eq!(
            text("/x?y=1", json!([{"name": "Host", "value": "me"}])).unwrap(),
            "GET /x?y=1 HTTP/1.1\r\nConnection: close\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nHost: me\r\n\r\n"
        );
        assert!(text("/x HTTP/1.1\r\nEvil: 1", json!([])).is_err());
        assert!(text("/", json!([{"name": "A", "value": "b\r\nc: d"}])).is_err());
        assert!(text("/", json!([{"name": "A: b", "value": ""}])).is_err());
    }

    #[test]
    fn status_lines() {
        let check = |head: &str, expect: Option<u16>| assert_eq!(status_code(head.as_bytes()), expect, "{head:?}");
        check("HTTP/1.1 200 OK\r\n", Some(200));
        check("HTTP/1.0 503\r\n", Some(503));
        check("SSH-2.0-x 200\r\n", None);
        check("HTTP/1.1 999 x", None);
        check("", None);
    }
}
