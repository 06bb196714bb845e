//! One session with a process in a pod.

use std::io::{IsTerminal, Write};

use futures::SinkExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use kubetask_engine::traits::TermSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::RawTerminal;
use super::target::Target;
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::output::{Output, TerminalFilter};

/// The key that leaves a session and lets the process go on: Ctrl-].
const DETACH: u8 = 0x1d;

/// What a session carries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Session {
    /// Pass standard input on.
    pub stdin: bool,
    /// Give the process a terminal.
    pub tty: bool,
    /// Whether Ctrl-] leaves the session while the process goes on.
    pub detachable: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The process ended with this code.
    Code(u8),
    /// The user left it.
    Detached,
}

impl Session {
    fn params(self, container: &str) -> AttachParams {
        AttachParams::default().container(container).stdin(self.stdin).stdout(true).stderr(!self.tty).tty(self.tty)
    }
}

/// Runs a command in a container, this process's streams being its own.
///
/// # Errors
/// When the container is not there, or the command cannot be started.
pub async fn exec(target: &Target, command: &[String], session: Session, output: Output) -> CommandResult<Ended> {
    let process = target.pods.exec(&target.pod, command, &session.params(&target.container)).await;
    run(process.map_err(|e| target.said(&e))?, session, output).await
}

/// The streams of a process, wherever it runs.
struct Streams {
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    sizes: Option<mpsc::Sender<TermSize>>,
}

/// Carries the streams of a process in a pod until it ends, or the user leaves it.
///
/// # Errors
/// When the connection breaks, or the server tells of an error.
pub async fn run(mut process: AttachedProcess, session: Session, output: Output) -> CommandResult<Ended> {
    let sizes = process.terminal_size().filter(|_| session.tty).map(|mut sink| {
        let (sizes, mut queue) = mpsc::channel::<TermSize>(4);
        tokio::spawn(async move {
            while let Some(size) = queue.recv().await {
                let _ = sink.send(TerminalSize { width: size.columns, height: size.rows }).await;
            }
        });
        sizes
    });
    let streams = Streams {
        stdin: process.stdin().map(|stdin| Box::new(stdin) as _),
        stdout: process.stdout().map(|stdout| Box::new(stdout) as _),
        stderr: process.stderr().map(|stderr| Box::new(stderr) as _),
        sizes,
    };
    let status = process.take_status();
    let status = async {
        ended(match status {
            Some(status) => status.await,
            None => None,
        })
    };
    let outcome = carry(streams, status, session, output).await;
    if matches!(outcome, Ok(Ended::Detached)) {
        process.abort();
    }
    outcome
}

/// The same for a process that an engine runs.
///
/// # Errors
/// When the program cannot be run, or its end is not known.
pub async fn run_engine(
    process: kubetask_engine::traits::Session,
    session: Session,
    output: Output,
) -> CommandResult<Ended> {
    let kubetask_engine::traits::Session { stdin, stdout, stderr, resize, exit } = process;
    let sizes = session.tty.then_some(resize);
    let streams = Streams { stdin, stdout: Some(stdout), stderr, sizes };
    let code = async {
        match exit.await {
            Ok(Ok(code)) => Ok(Ended::Code(u8::try_from(code).unwrap_or(exit_codes::FAILURE))),
            Ok(Err(error)) => Err(CommandError::failure(chain(&error))),
            Err(_) => Err(CommandError::failure("the program's exit code was lost")),
        }
    };
    carry(streams, code, session, output).await
}

/// Carries streams until they ended and `end` tells how, or the user leaves.
async fn carry(
    streams: Streams,
    end: impl Future<Output = CommandResult<Ended>>,
    session: Session,
    output: Output,
) -> CommandResult<Ended> {
    let Streams { mut stdin, stdout, stderr, sizes } = streams;
    // The signals are caught before the terminal is changed: it must be restored whatever comes.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut resized = signal(SignalKind::window_change())?;
    let raw = if session.tty { RawTerminal::enter() } else { None };
    tell_size(sizes.as_ref()).await;
    let mut keys = if session.stdin { Some(read_stdin()) } else { None };
    // What a process writes to its own terminal must reach ours as it is; anything else is made harmless.
    let safe = !session.tty && output.stdout_is_terminal;
    let out = copy(stdout, safe, std::io::stdout());
    let err = copy(stderr, safe, std::io::stderr());
    let mut streams = std::pin::pin!(async {
        futures::join!(out, err);
        end.await
    });
    let ended = loop {
        tokio::select! {
            ended = &mut streams => break ended,
            chunk = next(&mut keys), if keys.is_some() => match chunk {
                Some(bytes) if session.detachable && bytes.contains(&DETACH) => break Ok(Ended::Detached),
                Some(bytes) => if let Some(stdin) = &mut stdin
                    && (stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err()) {
                        // The process reads no more; it may still write.
                        keys = None;
                    },
                None => {
                    // The end of our input is the end of its input.
                    if let Some(mut stdin) = stdin.take() {
                        let _ = stdin.shutdown().await;
                    }
                    keys = None;
                }
            },
            _ = resized.recv(), if sizes.is_some() => tell_size(sizes.as_ref()).await,
            _ = hangup.recv() => break Err(CommandError::interrupted()),
            _ = terminate.recv() => break Err(CommandError::interrupted()),
        }
    };
    drop(raw);
    ended
}

async fn tell_size(sizes: Option<&mpsc::Sender<TermSize>>) {
    if let (Some(sizes), Some((columns, rows))) = (sizes, RawTerminal::size()) {
        let _ = sizes.send(TermSize { columns, rows }).await;
    }
}

async fn next(keys: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match keys {
        Some(keys) => keys.recv().await,
        None => None,
    }
}

/// How long the reading thread may go on when nobody wants its bytes any more.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Standard input, read by a thread. It reads only when there is something, and not once the session is over: what is
/// typed then belongs to whoever has the terminal next.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let stdin = std::io::stdin();
        let mut buffer = vec![0; 16 << 10];
        while !sender.is_closed() {
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) if !sender.is_closed() => {}
                _ => return,
            }
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(n @ 1..) => {
                    if sender.blocking_send(buffer.get(..n).unwrap_or_default().to_vec()).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                _ => return,
            }
        }
    });
    receiver
}

/// Passes on what the process writes.
async fn copy(from: Option<impl tokio::io::AsyncRead + Unpin>, safe: bool, mut to: impl Write) {
    let Some(mut from) = from else { return };
    let mut filter = TerminalFilter::default();
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = AsyncReadExt::read(&mut from, &mut buffer).await {
        let bytes = buffer.get(..n).unwrap_or_default();
        let written = if safe { to.write_all(&filter.filter(bytes)) } else { to.write_all(bytes) };
        if written.and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// From the server's last word to an exit code.
fn ended(status: Option<Status>) -> CommandResult<Ended> {
    let Some(status) = status else { return Err(CommandError::failure("the connection to the pod was lost")) };
    if status.status.as_deref() == Some("Success") {
        return Ok(Ended::Code(exit_codes::OK));
    }
    let causes = status.details.as_ref().and_then(|d| d.causes.as_deref()).unwrap_or_default();
    let code = causes.iter().find(|c| c.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|c| c.message.as_deref()?.parse::<u8>().ok());
    code.map(Ended::Code).ok_or_else(|| CommandError::failure(status.message.unwrap_or_default()))
}

/// Whether this process can give a terminal to another.
pub(crate) fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
}
