//! `/exec` and `/attach`: a program's streams over the channels of a WebSocket.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use kubetask_engine::spec::ContainerId;
use kubetask_engine::traits::{ExecSpec, Session, TermSize};
use kubetask_engine::{ContainerEngine, EngineError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::{Channels, Incoming, LONGEST_MESSAGE, PROTOCOLS, Sender};
use super::{Query, error, flag};
use crate::shared::Shared;
use crate::{engines, names};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// What the client wants connected.
#[derive(Debug, Clone)]
struct Wanted {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn of(query: &[(String, String)]) -> Self {
        let command = query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone());
        Self {
            command: command.collect(),
            stdin: flag(query, &["stdin", "input"]),
            stdout: flag(query, &["stdout", "output"]),
            stderr: flag(query, &["stderr", "error"]),
            tty: flag(query, &["tty"]),
        }
    }
}

pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let wanted = Wanted::of(&query);
    if wanted.command.is_empty() {
        return error(StatusCode::BAD_REQUEST, "you must specify a command");
    }
    connect(&shared, path, wanted, upgrade, false)
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    connect(&shared, path, Wanted::of(&query), upgrade, true)
}

fn connect(
    shared: &Arc<Shared>,
    (namespace, pod, container): (String, String, String),
    wanted: Wanted,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    attach: bool,
) -> Response {
    let (id, engine) = match running(shared, &namespace, &pod, &container) {
        Ok(found) => found,
        Err(text) => return error(StatusCode::NOT_FOUND, text),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols(PROTOCOLS).max_message_size(LONGEST_MESSAGE),
        Err(_) => {
            return error(StatusCode::BAD_REQUEST, "this needs a WebSocket: use a client of Kubernetes 1.31 or newer");
        }
    };
    if upgrade.selected_protocol().is_none() {
        let text =
            format!("unable to upgrade: none of the protocols is supported; use one of {}", PROTOCOLS.join(", "));
        return error(StatusCode::FORBIDDEN, text);
    }
    let stop = shared.stop.clone();
    upgrade.on_upgrade(move |socket| async move {
        let Some(channels) = Channels::new(socket) else { return };
        stop.run_until_cancelled(serve(channels, engine, id, wanted, attach)).await;
    })
}

/// The run of the container that is going on, and the engine that has it.
fn running(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(ContainerId, Arc<dyn ContainerEngine>), String> {
    let handle = shared.find(namespace, pod).ok_or_else(|| format!("pod {pod:?} not found"))?;
    let view = handle.view.borrow();
    let found = view.container(container).and_then(|found| Some((found, found.running?)));
    let (found, attempt) = found.ok_or_else(|| format!("container not found ({container:?})"))?;
    let engine = shared.config.engines.stored(&view.engine).map_err(|error| error.to_string())?;
    let engine = engines::of_container(&shared.config.engines, &engine, Some(&found.image));
    Ok((names::container_id(&view.uid, container, attempt), engine))
}

async fn serve(channels: Channels, engine: Arc<dyn ContainerEngine>, id: ContainerId, wanted: Wanted, attach: bool) {
    let sender = channels.sender();
    let session = if attach {
        engine.attach(&id, wanted.stdin).await
    } else {
        let spec =
            ExecSpec { command: wanted.command.clone(), tty: wanted.tty, stdin: wanted.stdin, ..ExecSpec::default() };
        engine.exec(&id, &spec).await
    };
    // Tells the client that the connection stands.
    sender.send(if wanted.stdout { STDOUT } else { STDERR }, &[]).await;
    let channels = match session {
        Ok(session) => run(channels, sender, session, &wanted, attach).await,
        Err(problem) => {
            sender.send(ERROR, internal(&problem).to_string().as_bytes()).await;
            drop(sender);
            Some(channels)
        }
    };
    if let Some(channels) = channels {
        channels.close().await;
    }
}

/// Connects the streams until the program ended and all its output was sent; `None` where the client went first.
async fn run(
    mut channels: Channels,
    sender: Sender,
    session: Session,
    wanted: &Wanted,
    attach: bool,
) -> Option<Channels> {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let (input, input_queue) = mpsc::channel(16);
    let feeding = tokio::spawn(feed(stdin.filter(|_| wanted.stdin), input_queue));
    let output = async {
        tokio::join!(copy(stdout, &sender, STDOUT, wanted.stdout), async {
            if let Some(stderr) = stderr {
                copy(stderr, &sender, STDERR, wanted.stderr).await;
            }
        });
        exit.await
    };
    // A program that does not read its input for now must be able to write: neither waits for the other.
    let ended = tokio::select! {
        ended = output => Some(ended),
        () = hear(&mut channels, input, resize) => None,
    };
    feeding.abort();
    let ended = ended?;
    let status = match ended {
        Ok(Ok(0)) => success(),
        // An attach tells of the connection, not of the program.
        Ok(Ok(_)) if attach => success(),
        Ok(Ok(code)) => non_zero(&wanted.command, code),
        Ok(Err(problem)) => internal(&problem),
        Err(_) => internal(&EngineError::Start("the program's exit code was lost".to_owned())),
    };
    sender.send(ERROR, status.to_string().as_bytes()).await;
    Some(channels)
}

/// Passes on what the client says, until it is gone.
async fn hear(channels: &mut Channels, input: mpsc::Sender<bytes::Bytes>, resize: mpsc::Sender<TermSize>) {
    let mut input = Some(input);
    while let Some(incoming) = channels.next().await {
        match incoming {
            Incoming::Data(STDIN, data) => {
                // The program may have closed its input; its output still counts.
                if let Some(queue) = &input
                    && queue.send(data).await.is_err()
                {
                    input = None;
                }
            }
            Incoming::Data(RESIZE, data) => {
                if let Some(size) = size(&data) {
                    let _ = resize.try_send(size);
                }
            }
            Incoming::Closed(STDIN) => input = None,
            _ => {}
        }
    }
}

async fn feed(stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>, mut queue: mpsc::Receiver<bytes::Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(data) = queue.recv().await {
        if stdin.write_all(&data).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
    let _ = stdin.shutdown().await;
}

/// Passes a stream on; one that nobody wants is read all the same, so that the program is not held up.
async fn copy(mut stream: impl AsyncRead + Unpin, sender: &Sender, channel: u8, wanted: bool) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if wanted && !sender.send(channel, &buffer[..length]).await {
            return;
        }
    }
}

fn size(data: &[u8]) -> Option<TermSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let Size { width, height } = serde_json::from_slice(data).ok()?;
    Some(TermSize { columns: width, rows: height })
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn non_zero(command: &[String], code: i32) -> Value {
    let command = command.join(" ");
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: error executing command [{command}], exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal(problem: &EngineError) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {problem}"),
        "details": {"causes": [{"message": problem.to_string()}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let pairs = [
            ("command", "sh"),
            ("command", "-c"),
            ("command", "a b"),
            ("stdin", "true"),
            ("output", "1"),
            ("tty", "false"),
        ];
        let query: Vec<(String, String)> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let wanted = Wanted::of(&query);
        assert_eq!(wanted.command, ["sh", "-c", "a b"]);
        assert!(wanted.stdin && wanted.stdout && !wanted.stderr && !wanted.tty);
    }

    #[test]
    fn sizes() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some(TermSize { columns: 80, rows: 24 }));
        assert_eq!(size(br#"{"Width":-1,"Height":24}"#), None);
        assert_eq!(size(b"junk"), None);
    }
}
