//! One session with a process in a pod.

use std::io::{IsTerminal, Write};

use futures::SinkExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    run(process.map_err(|e| said(&e))?, session, output).await
}

/// What the server answered instead of opening the streams.
pub(crate) fn said(error: &kube::Error) -> CommandError {
    match error {
        kube::Error::Api(status) => CommandError::failure(status.message.clone()),
        other => CommandError::failure(chain(other)),
    }
}

/// Carries the streams of a process until it ends, or the user leaves it.
///
/// # Errors
/// When the connection breaks, or the server tells of an error.
pub async fn run(mut process: AttachedProcess, session: Session, output: Output) -> CommandResult<Ended> {
    // The signals are caught before the terminal is changed: it must be restored whatever comes.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut resized = signal(SignalKind::window_change())?;
    let raw = if session.tty { RawTerminal::enter() } else { None };
    let mut sizes = if session.tty { process.terminal_size() } else { None };
    if let (Some(sizes), Some((width, height))) = (&mut sizes, RawTerminal::size()) {
        let _ = sizes.send(TerminalSize { width, height }).await;
    }
    let mut stdin = process.stdin();
    let mut keys = if session.stdin { Some(read_stdin()) } else { None };
    // What a process writes to its own terminal must reach ours as it is; anything else is made harmless.
    let safe = !session.tty && output.stdout_is_terminal;
    let out = copy(process.stdout(), safe, std::io::stdout());
    let err = copy(process.stderr(), safe, std::io::stderr());
    let status = process.take_status();
    let mut streams = std::pin::pin!(async {
        futures::join!(out, err);
        match status {
            Some(status) => status.await,
            None => None,
        }
    });
    let ended = loop {
        tokio::select! {
            status = &mut streams => break ended(status),
            chunk = next(&mut keys), if keys.is_some() => match chunk {
                Some(bytes) if session.detachable && bytes.contains(&DETACH) => break Ok(Ended::Detached),
                Some(bytes) => if let Some(stdin) = &mut stdin
                    && stdin.write_all(&bytes).await.is_err() {
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
            _ = resized.recv(), if sizes.is_some() => {
                if let (Some(sizes), Some((width, height))) = (&mut sizes, RawTerminal::size()) {
                    let _ = sizes.send(TerminalSize { width, height }).await;
                }
            }
            _ = hangup.recv() => break Err(interrupted()),
            _ = terminate.recv() => break Err(interrupted()),
        }
    };
    drop(raw);
    if matches!(ended, Ok(Ended::Detached)) {
        process.abort();
    }
    ended
}

fn interrupted() -> CommandError {
    CommandError { lines: vec!["interrupted".to_owned()], hint: None, code: exit_codes::INTERRUPTED }
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
