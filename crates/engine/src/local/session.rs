//! Sessions: exec and attach, whose streams are pipes (or a terminal) straight between the caller and the container.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use crate::control::{Program, Reply, Request};
use crate::dir::ContainerDir;
use crate::sys;
use crate::traits::{EngineError, ExecSpec, Result, Session, TermSize};

/// Runs a program in a running container.
pub(super) async fn exec(directory: &ContainerDir, spec: &ExecSpec) -> Result<Session> {
    let program = Program {
        command: spec.command.clone(),
        env: spec.env.clone(),
        user: spec.user,
        tty: spec.tty,
        stdin: spec.stdin,
        working_dir: spec.working_dir.clone(),
    };
    if spec.tty {
        return exec_in_terminal(directory, program).await;
    }
    let streams = Streams::new(spec.stdin).map_err(io("make pipes"))?;
    let mut connection = Connection::ask(directory, &Request::Exec(program), &streams.outer_ends())
        .await
        .map_err(io("ask for a program to be run"))?;
    let Outside { stdin, stdout, stderr } = streams.outside;
    drop((streams.output, streams.errors, streams.input));
    running(&mut connection).await?;
    let (exit_sender, exit) = oneshot::channel();
    let (resize, sizes) = mpsc::channel(1);
    drop(sizes);
    tokio::spawn(follow(connection, exit_sender));
    Ok(Session {
        stdin: stdin.map(|stdin| Box::new(stdin) as Box<_>),
        stdout: Box::new(stdout),
        stderr: Some(Box::new(stderr)),
        resize,
        exit,
    })
}

async fn exec_in_terminal(directory: &ContainerDir, program: Program) -> Result<Session> {
    let stdin = program.stdin;
    let request = Request::Exec(program);
    let mut connection = Connection::ask(directory, &request, &[]).await.map_err(io("ask for a program to be run"))?;
    running(&mut connection).await?;
    let master = connection.take_fd().ok_or_else(|| EngineError::Start("no terminal came".to_owned()))?;
    let terminal = Terminal::new(master).map_err(io("use the terminal"))?;
    let (exit_sender, exit) = oneshot::channel();
    let (resize, mut sizes) = mpsc::channel::<TermSize>(8);
    let sized = Arc::clone(&terminal.0);
    tokio::spawn(async move {
        let resizing = async {
            while let Some(size) = sizes.recv().await {
                let size =
                    rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = rustix::termios::tcsetwinsize(sized.get_ref(), size);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = follow(connection, exit_sender) => {}
            () = resizing => {}
        }
    });
    Ok(Session {
        stdin: if stdin { Some(Box::new(Terminal(Arc::clone(&terminal.0)))) } else { None },
        stdout: Box::new(terminal),
        stderr: None,
        resize,
        exit,
    })
}

/// Connects to a running container's own streams.
pub(super) async fn attach(directory: &ContainerDir, tty: bool, stdin: bool) -> Result<Session> {
    let streams = Streams::new(stdin).map_err(io("make pipes"))?;
    let request = Request::Attach { input: stdin };
    let mut connection =
        Connection::ask(directory, &request, &streams.outer_ends()).await.map_err(io("attach to the container"))?;
    let Outside { stdin, stdout, stderr } = streams.outside;
    drop((streams.output, streams.errors, streams.input));
    running(&mut connection).await?;
    let (mut exit_sender, exit) = oneshot::channel();
    let (resize, mut sizes) = mpsc::channel::<TermSize>(8);
    let (close, mut closed) = mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let outcome = loop {
            let request = tokio::select! {
                reply = connection.next() => match outcome_of(reply) {
                    Some(outcome) => break outcome,
                    None => continue,
                },
                () = exit_sender.closed() => return,
                Some(size) = sizes.recv() => Request::Resize { columns: size.columns, rows: size.rows },
                Some(()) = closed.recv() => Request::CloseInput,
            };
            // Where this fails, the next answer says why.
            let _ = connection.send(&request, &[]).await;
        };
        let _ = exit_sender.send(outcome);
    });
    Ok(Session {
        stdin: stdin.map(|pipe| Box::new(AttachInput { pipe: Some(pipe), close }) as Box<_>),
        stdout: Box::new(stdout),
        stderr: if tty { None } else { Some(Box::new(stderr)) },
        resize,
        exit,
    })
}

/// Waits for the word that it runs.
async fn running(connection: &mut Connection) -> Result<()> {
    match connection.next().await {
        Ok(Some(Reply::Running)) => Ok(()),
        Ok(Some(Reply::Refused(reason))) => Err(EngineError::Start(reason)),
        Ok(Some(Reply::Exit(_) | Reply::Code(_)) | None) => {
            Err(EngineError::Invalid("the container has ended".to_owned()))
        }
        Err(error) => Err(io("talk to the container's shim")(error)),
    }
}

/// Waits for the end of an exec; hangs up, which kills the program, when nobody waits for it.
async fn follow(mut connection: Connection, mut exit: oneshot::Sender<Result<i32>>) {
    let outcome = loop {
        tokio::select! {
            reply = connection.next() => if let Some(outcome) = outcome_of(reply) { break outcome },
            () = exit.closed() => return,
        }
    };
    let _ = exit.send(outcome);
}

fn outcome_of(reply: io::Result<Option<Reply>>) -> Option<Result<i32>> {
    match reply {
        Ok(Some(Reply::Code(code))) => Some(Ok(code)),
        Ok(Some(Reply::Exit(exit))) => Some(Ok(exit.code)),
        Ok(Some(Reply::Refused(reason))) => Some(Err(EngineError::Start(reason))),
        Ok(Some(Reply::Running)) => None,
        // The shim is gone, and everything of the container with it.
        Ok(None) => Some(Ok(137)),
        Err(error) => Some(Err(io("talk to the container's shim")(error))),
    }
}

/// Both ends of a session's pipes: ours, and those to give away.
struct Streams {
    output: OwnedFd,
    errors: OwnedFd,
    input: Option<OwnedFd>,
    outside: Outside,
}

struct Outside {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Streams {
    fn new(stdin: bool) -> io::Result<Self> {
        let (stdout, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, errors) = pipe_with(PipeFlags::CLOEXEC)?;
        let (input, stdin) = match stdin {
            true => pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), Some(write)))?,
            false => (None, None),
        };
        let outside = Outside {
            stdin: stdin.map(pipe::Sender::from_owned_fd).transpose()?,
            stdout: pipe::Receiver::from_owned_fd(stdout)?,
            stderr: pipe::Receiver::from_owned_fd(stderr)?,
        };
        Ok(Self { output, errors, input, outside })
    }

    fn outer_ends(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        [&self.output, &self.errors].into_iter().chain(&self.input).map(|fd| fd.as_fd()).collect()
    }
}

/// The input of an attach: only shutting it down ends the container's input.
struct AttachInput {
    pipe: Option<pipe::Sender>,
    close: mpsc::Sender<()>,
}

impl AsyncWrite for AttachInput {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(context, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pipe.take().is_some() {
            // There is room for one, and it is sent once. The session's end is as good as a closed input.
            let _ = self.close.try_send(());
        }
        Poll::Ready(Ok(()))
    }
}

/// The master of a terminal.
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(&master)?;
        Ok(Self(Arc::new(sys::async_fd(master)?)))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // The last program has closed it.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn io(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Io { step: step.to_owned(), source }
}
