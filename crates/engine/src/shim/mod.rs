//! The shim: a small process per container that outlives the engine. It starts the container, keeps its log, records its
//! exit, and answers on its control socket; then it ends.
//!
//! It has one thread and one event loop ([`keeper`]) through which everything goes: output, exit, stop, exec,
//! attach. It belongs to no terminal and to no process group of the engine's, and it holds no descriptor of the engine's.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::control::{self, Report};
use crate::dir::{ContainerDir, SOCKET};
use crate::sandbox::{bwrap, init};
use crate::sys::{self, Fork};

mod attach;
pub(crate) mod cgroup;
mod clients;
pub(crate) mod ending;
mod keeper;
mod launch;
mod prepare;

/// What a shim is asked to do, its first argument.
pub(crate) const RUN: &str = "run";
pub(crate) const PROBE: &str = "probe";

/// `run DIRECTORY` keeps the container of that directory, `probe DIRECTORY` tries whether a sandbox can be made.
pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(what), Some(directory), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("this is run by the container engine only");
        return ExitCode::from(2);
    };
    if what == bwrap::INIT_COMMAND {
        init::run_in_bwrap(&directory.to_string_lossy());
    }
    let directory = ContainerDir::at(PathBuf::from(directory));
    match what.to_str() {
        Some(RUN) => run(&directory),
        Some(PROBE) => {
            let report = launch::probe(&directory);
            ExitCode::from(u8::from(send_report(rustix::stdio::stdout(), &report).is_err()))
        }
        _ => ExitCode::from(2),
    }
}

fn run(directory: &ContainerDir) -> ExitCode {
    let report = match detach() {
        Ok(Some(report)) => report,
        // The process that the engine waits for.
        Ok(None) => sys::exit_now(0),
        Err(error) => {
            let message = Report::Broken(format!("detach from the engine: {error}"));
            return ExitCode::from(u8::from(send_report(rustix::stdio::stdout(), &message).is_err()));
        }
    };
    let tell = |message: Report| drop(send_report(&report, &message));
    let lock = match directory.lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            tell(Report::Busy);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            tell(Report::Broken(format!("lock the container: {error}")));
            return ExitCode::FAILURE;
        }
    };
    // Whoever had the lock before may have done it all.
    if directory.is_launched() || matches!(directory.exit(), Ok(Some(_))) {
        tell(Report::Busy);
        return ExitCode::SUCCESS;
    }
    let listener = match std::env::set_current_dir(directory.path()).and_then(|()| listen()) {
        Ok(listener) => listener,
        Err(error) => {
            tell(Report::Broken(format!("open the control socket: {error}")));
            return ExitCode::FAILURE;
        }
    };
    match launch::launch(directory, listener) {
        Ok(keeper) => {
            tell(keeper.started());
            drop(report);
            keeper.run();
        }
        Err(message) => {
            let _ = std::fs::remove_file(SOCKET);
            tell(message);
        }
    }
    drop(lock);
    ExitCode::SUCCESS
}

/// Becomes a process of its own: `Some` with the socket to the engine in the shim, `None` in the process to end.
fn detach() -> io::Result<Option<OwnedFd>> {
    sys::close_from(3);
    match sys::fork()? {
        Fork::Parent(_) => return Ok(None),
        Fork::Child => {}
    }
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE] {
        sys::ignore_signal(signal);
    }
    let _ = rustix::thread::set_name(c"kubetask-shim");
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    (0..3).try_for_each(|number| sys::dup_to(null.as_fd(), number))?;
    Ok(Some(report))
}

/// Listens on the control socket, in the current directory: that way its path is never too long.
fn listen() -> io::Result<OwnedFd> {
    match std::fs::remove_file(SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

fn send_report(socket: impl std::os::fd::AsFd, report: &Report) -> io::Result<()> {
    let bytes = control::encode(report)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let sent = rustix::io::write(&socket, rest)?;
        rest = &rest[sent..];
    }
    Ok(())
}
