//! Programs in running containers, and the containers' own streams.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::frames::Decoder;
use super::http::{Api, Failure, Hijacked, encode};
use crate::input::Input;
use crate::log::Stream;
use crate::runtime::words;
use crate::traits::{EngineError, ExecSpec, Result, Session, TermSize};

/// What one stream holds while nobody reads it.
const BUFFER: usize = 64 * 1024;
/// Longest reason that is read from a program that did not start.
const LONGEST_REASON: usize = 16 * 1024;

/// Runs a program.
pub(super) async fn exec(api: &Arc<Api>, container: &str, spec: &ExecSpec, podman: bool) -> Result<Session> {
    let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut body = json!({
        "Cmd": spec.command, "Env": env, "Tty": spec.tty,
        "AttachStdin": spec.stdin, "AttachStdout": true, "AttachStderr": true,
    });
    if let Some(user) = spec.user {
        body["User"] = user.to_string().into();
    }
    if let Some(directory) = &spec.working_dir {
        body["WorkingDir"] = directory.to_string_lossy().into();
    }
    let made = api.call(Method::POST, &format!("/containers/{}/exec", encode(container)), Some(&body)).await;
    let made = made.map_err(|failure| match failure {
        Failure::Refused { status: 409, message } => EngineError::Invalid(message),
        Failure::Refused { status: 404, .. } => EngineError::NotFound(container.to_owned()),
        Failure::Refused { message, .. } => EngineError::Start(words(&message)),
        gone @ Failure::Gone(_) => gone.into(),
    })?;
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    let start = json!({"Detach": false, "Tty": spec.tty});
    let stream = api.hijack(&format!("/exec/{id}/start"), Some(&start)).await.map_err(|failure| match failure {
        Failure::Refused { message, .. } => EngineError::Start(words(&message)),
        gone @ Failure::Gone(_) => gone.into(),
    })?;
    let (mut reader, writer) = tokio::io::split(stream);
    let pid = match started(api, &id, podman).await? {
        Ok(pid) => pid,
        Err(()) => return Err(EngineError::Start(reason(&mut reader, spec.tty).await)),
    };
    let (stdout, stderr, mut ended) = demultiplex(reader, spec.tty);
    let (resize, sizes) = mpsc::channel(8);
    resizing(api, format!("/exec/{id}/resize"), sizes);
    let (mut sender, exit) = oneshot::channel();
    let (api, container) = (Arc::clone(api), container.to_owned());
    tokio::spawn(async move {
        tokio::select! {
            code = code(&api, &id, &mut ended) => drop(sender.send(code)),
            () = sender.closed() => kill(pid, &container),
        }
    });
    Ok(Session {
        stdin: input(writer, spec.stdin, spec.tty, true),
        stdout: Box::new(stdout),
        stderr: stderr.map(|stderr| Box::new(stderr) as Box<_>),
        resize,
        exit,
    })
}

/// The input of a program. The daemon takes the end of a terminal's input for the end of its output too, so that is never
/// told.
fn input(half: WriteHalf<Hijacked>, wanted: bool, tty: bool, ends: bool) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
    let input = Input { half: Some(half), tells: !tty, ends };
    if wanted { Some(Box::new(input)) } else { None }
}

/// Waits until the program of an exec runs, and gives its process id; an inner error: it never will.
async fn started(api: &Api, id: &str, podman: bool) -> Result<Result<Option<i32>, ()>> {
    let mut pause = Duration::from_micros(500);
    loop {
        let state = match api.call(Method::GET, &format!("/exec/{id}/json"), None).await {
            Ok(state) => state,
            Err(failure) if failure.not_found() => return Ok(Err(())),
            Err(failure) => return Err(failure.into()),
        };
        let pid = state["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        if state["Running"] == true && pid.is_some() {
            return Ok(Ok(pid));
        }
        match state["ExitCode"].as_i64() {
            // 126 and 127 without a process: the runtime's way to say that there is nothing to run. Podman forgets the
            // process of every program that has ended.
            Some(code) if state["Running"] == false => {
                let ran = pid.is_some() || (podman && !matches!(code, 126 | 127));
                return Ok(if ran { Ok(None) } else { Err(()) });
            }
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What the daemon wrote instead of a program's output.
async fn reason(reader: &mut ReadHalf<Hijacked>, tty: bool) -> String {
    let mut decoder = Decoder::new(tty);
    let (mut text, mut buffer) = (Vec::new(), vec![0; 4096]);
    let read = async {
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            decoder.push(&buffer[..length]);
            while let Some((_, data)) = decoder.next() {
                text.extend_from_slice(&data);
            }
            if text.len() > LONGEST_REASON {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    words(&String::from_utf8_lossy(&text))
}

/// Connects to a container's own streams.
pub(super) async fn attach(api: &Arc<Api>, container: &str, tty: bool, stdin: bool) -> Result<Session> {
    let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1&stdin={stdin}", encode(container));
    let stream = api.hijack(&path, None).await.map_err(|failure| match failure {
        Failure::Refused { status: 404, .. } => EngineError::NotFound(container.to_owned()),
        Failure::Refused { message, .. } => EngineError::Invalid(message),
        gone @ Failure::Gone(_) => gone.into(),
    })?;
    let (reader, writer) = tokio::io::split(stream);
    let (stdout, stderr, mut ended) = demultiplex(reader, tty);
    let (resize, sizes) = mpsc::channel(8);
    resizing(api, format!("/containers/{}/resize", encode(container)), sizes);
    let (mut sender, exit) = oneshot::channel();
    let (api, container) = (Arc::clone(api), container.to_owned());
    tokio::spawn(async move {
        let wait = async {
            let _ = (&mut ended.0).await;
            let answer = api.call_for_ever(&format!("/containers/{}/wait", encode(&container))).await?;
            Ok(answer["StatusCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(255))
        };
        tokio::select! {
            code = wait => drop(sender.send(code)),
            () = sender.closed() => {}
        }
    });
    Ok(Session {
        stdin: input(writer, stdin, tty, false),
        stdout: Box::new(stdout),
        stderr: stderr.map(|stderr| Box::new(stderr) as Box<_>),
        resize,
        exit,
    })
}

fn resizing(api: &Arc<Api>, path: String, mut sizes: mpsc::Receiver<TermSize>) {
    let api = Arc::clone(api);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            let path = format!("{path}?h={}&w={}", size.rows, size.columns);
            let _ = api.call(Method::POST, &path, None).await;
        }
    });
}

/// Tells that streams ended; they are given up when it is dropped.
struct Copying(tokio::task::JoinHandle<()>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes the two streams apart; the last part tells that both ended.
fn demultiplex(mut reader: ReadHalf<Hijacked>, tty: bool) -> (DuplexStream, Option<DuplexStream>, Copying) {
    let (stdout, mut out) = tokio::io::duplex(BUFFER);
    let (stderr, mut err) = tokio::io::duplex(BUFFER);
    let copying = tokio::spawn(async move {
        let mut decoder = Decoder::new(tty);
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            decoder.push(&buffer[..length]);
            while let Some((stream, data)) = decoder.next() {
                // One that nobody reads any more must not hold the other up.
                let _ = match stream {
                    Stream::Stdout => out.write_all(&data).await,
                    Stream::Stderr => err.write_all(&data).await,
                };
            }
        }
    });
    (stdout, (!tty).then_some(stderr), Copying(copying))
}

/// The exit code of an exec, once its streams ended.
async fn code(api: &Api, id: &str, ended: &mut Copying) -> Result<i32> {
    let _ = (&mut ended.0).await;
    let mut pause = Duration::from_millis(1);
    loop {
        let state: Value = match api.call(Method::GET, &format!("/exec/{id}/json"), None).await {
            Ok(state) => state,
            // The container is gone, and everything in it.
            Err(failure) if failure.not_found() => return Ok(137),
            Err(failure) => return Err(failure.into()),
        };
        if state["Running"] == false
            && let Some(code) = state["ExitCode"].as_i64()
        {
            return Ok(i32::try_from(code).unwrap_or(255));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Kills a program that nobody waits for. The daemon has no call for it; where the program is visible from here, a signal
/// does. Its connection is closed in any case.
fn kill(pid: Option<i32>, container: &str) {
    let Some(pid) = pid else { return };
    // Numbers are used again: only what is in a container can be meant.
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let contained = ["docker", "libpod"].iter().any(|word| group.contains(word));
    if let Some(process) = rustix::process::Pid::from_raw(pid).filter(|_| contained) {
        tracing::debug!(pid, container, "killing a program that nobody waits for");
        let _ = rustix::process::kill_process_group(process, rustix::process::Signal::KILL);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}
