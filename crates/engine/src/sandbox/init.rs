//! The first process of a container: it builds the root, starts the program, runs further programs on request, and takes
//! every process that ends. When the program ends it ends too, and the kernel ends everything else in the container.
//!
//! It is a fork of the shim, so it shares the shim's memory, and it obeys only the shim: signals from inside do nothing to
//! it, nobody inside may look into it, and it dies with the shim.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};
use serde::{Deserialize, Serialize};

use super::program::{self, NotRun, Program, Streams};
use super::{Facts, SetupError, root};
use crate::control::{self, Received};
use crate::dir::{Config, ContainerDir};
use crate::sys::{self, Fork};

/// Longest message between shim and init.
pub(crate) const MAX_MESSAGE: usize = 192 << 10;

/// Longest reason for not running a program that is passed on.
const LONGEST_VERDICT: usize = 1024;

/// What the shim says to init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Users are mapped and limits are set: begin.
    Begin,
    /// Send the program a signal.
    Signal(i32),
    /// Run a program; its streams come along.
    Exec { id: u32, program: control::Program },
    /// Kill such a program.
    Kill { id: u32 },
}

/// What init says to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// The program ended with this wait status.
    Ended(i32),
    /// The program of an exec runs; its terminal, if any, comes along.
    Running { id: u32 },
    /// It ended, with this code.
    Code { id: u32, code: i32 },
    /// It could not be started at all.
    Refused { id: u32, message: String },
}

/// What is said while the container starts, over a socket that ends with the program's `execve`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Handshake {
    /// The sandbox cannot be made: on this host at all, or this one.
    Unavailable(String),
    Failed(String),
    /// The program's terminal comes along.
    Terminal,
    /// From the program's process, which waits for [`Handshake::Run`]. Mount points that were made on the host.
    Ready {
        made: Vec<PathBuf>,
    },
    /// From the shim: it is on record now.
    Run,
}

/// What init is started with.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) directory: &'a ContainerDir,
    pub(crate) facts: Facts,
    pub(crate) control: OwnedFd,
    pub(crate) handshake: OwnedFd,
    /// None with a terminal.
    pub(crate) streams: Option<ProgramStreams>,
}

/// The program's ends of its streams.
pub(crate) struct ProgramStreams {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
}

impl ProgramStreams {
    /// In the order in which init inherits them.
    pub(crate) fn into_fds(self) -> impl Iterator<Item = OwnedFd> {
        [self.output, self.errors].into_iter().chain(self.input)
    }
}

/// Runs in the new process, for all of its life.
pub(crate) fn run(start: Start<'_>) -> ! {
    // If the shim dies in whatever way, so does this process, and with it the container.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let Start { config, directory, facts, control, handshake, streams } = start;
    let fds = [control, handshake].into_iter().chain(streams.into_iter().flat_map(ProgramStreams::into_fds));
    // Above all it must not keep the shim's lock.
    match sys::keep_only(fds.collect(), true).and_then(|count| adopt(count, false)) {
        Ok(adopted) => live(config, directory, facts, adopted),
        Err(_) => sys::exit_now(1),
    }
}

/// Runs in a sandbox that `bwrap` has made, with its descriptors inherited. `user`: the engine's
/// user and group.
pub(crate) fn run_in_bwrap(user: &str) -> ! {
    let ids = user.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let count = (3..64).take_while(|&number| sys::is_open(number)).count();
    let (Some((engine_uid, engine_gid)), Ok(mut adopted)) = (ids, adopt(count, true)) else { sys::exit_now(1) };
    let facts = Facts { user_namespace: true, by_bwrap: true, engine_uid, engine_gid };
    let quiet = std::fs::File::options().read(true).write(true).open("/dev/null");
    let config = adopted.config.take().map(std::fs::File::from).map(serde_json::from_reader::<_, Config>);
    let (Ok(quiet), Some(Ok(config))) = (quiet, config) else { sys::exit_now(1) };
    let _ = (0..3).try_for_each(|number| sys::dup_to(quiet.as_fd(), number));
    drop(quiet);
    live(&config, &ContainerDir::at(PathBuf::from("/")), facts, adopted)
}

/// What was inherited.
struct Adopted {
    control: OwnedFd,
    handshake: OwnedFd,
    config: Option<OwnedFd>,
    streams: Option<ProgramStreams>,
}

/// Takes over the descriptors from 3 on: control, handshake, the configuration if it comes that way, streams.
fn adopt(count: usize, with_config: bool) -> io::Result<Adopted> {
    let mut fds = Vec::new();
    for (_, number) in (0..count).zip(3..) {
        let fd = sys::inherited(number);
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        fds.push(fd);
    }
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let (control, handshake) = (next()?, next()?);
    let config = if with_config { Some(next()?) } else { None };
    Ok(Adopted { control, handshake, config, streams: streams_of(fds)? })
}

fn live(config: &Config, directory: &ContainerDir, facts: Facts, adopted: Adopted) -> ! {
    let Adopted { control, handshake, streams, .. } = adopted;
    // Waiting for it also notices a shim that died before this process could be told to die with it.
    if !matches!(receive(&control), Ok((ToInit::Begin, _))) {
        sys::exit_now(1);
    }
    match launch(config, directory, facts, handshake, streams) {
        Ok((program, signals)) => Init { config, facts, control, program, execs: HashMap::new() }.run(&signals),
        Err(()) => sys::exit_now(1),
    }
}

fn launch(
    config: &Config,
    directory: &ContainerDir,
    facts: Facts,
    handshake: OwnedFd,
    streams: Option<ProgramStreams>,
) -> Result<(i32, OwnedFd), ()> {
    let tell = |message: Handshake, fds: &[BorrowedFd<'_>]| send(&handshake, &message, fds).map_err(drop);
    let fail = |error: SetupError| match error {
        SetupError::Unavailable(reason) => drop(tell(Handshake::Unavailable(reason), &[])),
        SetupError::Container(reason) => drop(tell(Handshake::Failed(reason), &[])),
    };
    let made = set_up(config, directory, facts).map_err(fail)?;
    let signals = sys::signal_fd(&[libc::SIGCHLD]).map_err(SetupError::step("watch children")).map_err(fail)?;
    let streams = match streams {
        Some(ProgramStreams { input, output, errors }) => Streams::Pipes(input, output, errors),
        None => {
            let (master, terminal) = open_terminal().map_err(SetupError::step("open a terminal")).map_err(fail)?;
            tell(Handshake::Terminal, &[master.as_fd()])?;
            Streams::Terminal(terminal)
        }
    };
    match sys::fork().map_err(SetupError::step("start the program")).map_err(fail)? {
        Fork::Parent(pid) => Ok((pid, signals)),
        Fork::Child => {
            let program = Program::main(config, facts);
            let not_run = match program::become_program(&program, streams, config, facts) {
                Err(not_run) => not_run,
                Ok(()) => {
                    let waited = tell(Handshake::Ready { made }, &[]).and_then(|()| receive(&handshake).map_err(drop));
                    match waited {
                        Ok((Handshake::Run, _)) => program::execute(&program),
                        _ => sys::exit_now(1),
                    }
                }
            };
            let _ = tell(Handshake::Failed(not_run.message), &[]);
            sys::exit_now(not_run.code)
        }
    }
}

fn set_up(config: &Config, directory: &ContainerDir, facts: Facts) -> Result<Vec<PathBuf>, SetupError> {
    if facts.by_bwrap {
        hide_from_inside();
        return Ok(Vec::new());
    }
    if let Some(name) = &config.spec.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(io::Error::from)
            .map_err(SetupError::host(format!("set the host name {name:?}")))?;
    }
    if config.spec.network == crate::spec::Network::None {
        sys::loopback_up().map_err(SetupError::host("bring the loopback interface up"))?;
    }
    let made = root::build(config, directory, facts)?;
    hide_from_inside();
    Ok(made)
}

/// From here on nothing inside may look into this process, whose capabilities it does not have.
fn hide_from_inside() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Opens a terminal of the container: the master and the program's side.
fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let master = std::fs::OpenOptions::new().read(true).write(true).open("/dev/pts/ptmx")?;
    let master = OwnedFd::from(master);
    unlockpt(&master)?;
    let terminal = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((master, terminal))
}

struct Init<'a> {
    config: &'a Config,
    facts: Facts,
    control: OwnedFd,
    program: i32,
    /// Programs of execs by process id.
    execs: HashMap<i32, u32>,
}

impl Init<'_> {
    fn run(mut self, signals: &OwnedFd) -> ! {
        // Children may have ended before anyone watched.
        self.reap();
        loop {
            let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(&self.control, PollFlags::IN)];
            if poll(&mut fds, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
                sys::exit_now(1);
            }
            let [child, said] = fds.map(|fd| !fd.revents().is_empty());
            if child {
                sys::drain_signals(signals);
                self.reap();
            }
            if said {
                match receive(&self.control) {
                    Ok((message, received)) => self.obey(message, received),
                    // The shim is gone.
                    Err(_) => sys::exit_now(1),
                }
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = Pid::as_raw(Some(pid));
            if pid == self.program {
                let _ = send(&self.control, &FromInit::Ended(status.as_raw()), &[]);
                // The rest of the container ends with this process.
                sys::exit_now(0);
            }
            if let Some(id) = self.execs.remove(&pid) {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
                let _ = send(&self.control, &FromInit::Code { id, code: code.unwrap_or(255) }, &[]);
            }
        }
    }

    fn obey(&mut self, message: ToInit, received: Received) {
        match message {
            ToInit::Begin => {}
            ToInit::Signal(signal) => drop(sys::kill(self.program, signal)),
            ToInit::Exec { id, program } => {
                if let Err(error) = self.exec(id, &program, received.fds) {
                    let _ = send(&self.control, &FromInit::Refused { id, message: super::words(&error) }, &[]);
                }
            }
            ToInit::Kill { id } => {
                if let Some((&pid, _)) = self.execs.iter().find(|&(_, &exec)| exec == id) {
                    // Its group, and itself in case it has not made its group yet.
                    let _ = sys::kill(-pid, libc::SIGKILL);
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
            }
        }
    }

    fn exec(&mut self, id: u32, program: &control::Program, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(|| io::Error::other("a stream is missing"));
        let mut master = None;
        let streams = if program.tty {
            let (outer, terminal) = open_terminal()?;
            master = Some(outer);
            Streams::Terminal(terminal)
        } else {
            let (output, errors) = (next()?, next()?);
            let input = if program.stdin { Some(next()?) } else { None };
            Streams::Pipes(input, output, errors)
        };
        // Ends with the program's `execve`, or says why there was none.
        let (verdict, verdict_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match sys::fork()? {
            Fork::Child => {
                drop((master, verdict));
                let program = Program::exec(self.config, self.facts, program);
                let NotRun { message, code } = match program::become_program(&program, streams, self.config, self.facts)
                {
                    Ok(()) => program::execute(&program),
                    Err(not_run) => not_run,
                };
                // A pipe takes this much at once.
                let length = message.len().min(LONGEST_VERDICT);
                let _ = rustix::io::write(&verdict_writer, message.as_bytes().get(..length).unwrap_or_default());
                sys::exit_now(code)
            }
            Fork::Parent(pid) => {
                drop((verdict_writer, streams));
                if let Some(message) = refusal(&verdict) {
                    // It is about to end; whoever takes processes that end finds nobody to tell.
                    return send(&self.control, &FromInit::Refused { id, message }, &[]);
                }
                self.execs.insert(pid, id);
                let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                send(&self.control, &FromInit::Running { id }, &fds)
            }
        }
    }
}

/// Why a program was not run; `None` once it runs. One that takes very long (its file hangs) counts as running.
fn refusal(verdict: &OwnedFd) -> Option<String> {
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(verdict, PollFlags::IN)], Some(&patience)) {
        if std::time::Instant::now() >= deadline {
            break;
        }
    }
    rustix::io::ioctl_fionbio(verdict, true).ok()?;
    let mut message = vec![0; LONGEST_VERDICT];
    let length = rustix::io::read(verdict, &mut message).ok().filter(|length| *length > 0)?;
    message.truncate(length);
    Some(String::from_utf8_lossy(&message).into_owned())
}

/// Output, error output, and input if there is any: in this order init inherits them.
fn streams_of(mut fds: impl Iterator<Item = OwnedFd>) -> io::Result<Option<ProgramStreams>> {
    match (fds.next(), fds.next(), fds.next()) {
        (None, ..) => Ok(None),
        (Some(output), Some(errors), input) => Ok(Some(ProgramStreams { input, output, errors })),
        _ => Err(io::Error::other("a stream is missing")),
    }
}

/// Sends one message over a socket that keeps messages apart.
pub(crate) fn send(socket: &OwnedFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::other("argument list too long"));
    }
    control::send(socket, &bytes, fds).map(drop)
}

/// Receives one message; an error where the other side is gone.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(socket: &OwnedFd) -> io::Result<(T, Received)> {
    loop {
        // Exactly as large as the message: most are tiny, and memory that is touched stays.
        let message = control::next_length(socket).and_then(|length| {
            let mut bytes = vec![0; length.min(MAX_MESSAGE)];
            control::receive(socket, &mut bytes).map(|received| (received, bytes))
        });
        match message {
            Ok((received, _)) if received.length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((received, bytes)) => return Ok((serde_json::from_slice(&bytes[..received.length])?, received)),
            // Reset, once: it closed without reading everything. What it had said before is still to come.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => return Err(error),
        }
    }
}
