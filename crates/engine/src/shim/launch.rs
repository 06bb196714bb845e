//! Starting the container: namespaces, users, limits, the mark that it was launched, and the word to go.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;

use super::cgroup::{self, Cgroups};
use super::keeper::{Keeper, Outputs};
use super::prepare::{Streams, bwrap_said, fork_for_bwrap, make_private_directories, run_bwrap};
use crate::control::{Received, Report};
use crate::dir::{Config, ContainerDir, Launch, ProcessId, RunState, boot_id};
use crate::log::{LogWriter, now_nanos};
use crate::sandbox::init::{self, Handshake, ToInit};
use crate::sandbox::{Facts, SetupError};
use crate::spec::{Exit, Network};
use crate::sys::{self, Clone};

/// How long building a sandbox may take; longer means that a mount hangs (a dead file server).
const PATIENCE: Duration = Duration::from_secs(60);

/// Containers are ended before the engine when memory runs out.
const OOM_SCORE: &str = "500";

/// Starts the container of `directory`, whose lock is held.
///
/// # Errors
/// What to report. Where it says so, the container counts as ended, and nothing runs.
pub(super) fn launch(directory: &ContainerDir, listener: OwnedFd) -> Result<Keeper, Report> {
    let broken = |step: &'static str| move |error: io::Error| Report::Broken(format!("{step}: {error}"));
    let config = directory.config().and_then(|config| config.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
    let config = config.map_err(broken("read what to run"))?;
    let log = LogWriter::open(config.spec.log.clone())
        .map_err(|error| Report::Broken(format!("open the log {}: {error}", config.spec.log.path.display())))?;
    // Of a shim that was killed before it could put anything on record.
    cgroup::remove_groups(&config.cgroups);
    let cgroups = Cgroups::create(&config.cgroups, &config.spec.resources);
    let mut attempt = match Attempt::begin(directory, &config, &cgroups) {
        Ok(attempt) => attempt,
        Err(error) => {
            cgroups.remove();
            return Err(match error {
                SetupError::Unavailable(reason) => Report::Unavailable(reason),
                SetupError::Container(reason) => Report::Broken(reason),
            });
        }
    };
    match attempt.go(directory) {
        Ok(state) => Ok(Keeper::new(directory.clone(), config, log, listener, attempt.into_running(state, cgroups))),
        Err(report) => {
            attempt.give_up();
            cgroups.remove();
            Err(report)
        }
    }
}

/// Tries everything but a program of its own: is a sandbox possible here?
pub(super) fn probe(directory: &ContainerDir) -> Report {
    let config = match directory.config() {
        Ok(Some(config)) => config,
        Ok(None) => return Report::Broken("nothing to try".to_owned()),
        Err(error) => return Report::Broken(error.to_string()),
    };
    let outcome = Attempt::begin(directory, &config, &Cgroups::default()).and_then(|mut attempt| {
        let ready = attempt.prepared(directory);
        attempt.give_up();
        ready.map(|_| attempt.facts)
    });
    match outcome {
        Ok(facts) => {
            let how = match (facts.by_bwrap, facts.user_namespace) {
                (true, _) => "by bwrap",
                (false, true) => "user namespaces",
                (false, false) => "namespaces, as root",
            };
            let limits = match cgroup::enforced().as_slice() {
                [] => "no limits enforced: no writable control groups".to_owned(),
                some => format!("limits enforced: {}", some.join(", ")),
            };
            Report::Works(format!("{how}; {limits}"))
        }
        Err(SetupError::Unavailable(reason)) => Report::Unavailable(reason),
        Err(SetupError::Container(reason)) => Report::Broken(reason),
    }
}

/// A running container, for its keeper.
pub(super) struct Running {
    pub(super) init: i32,
    pub(super) init_fd: OwnedFd,
    pub(super) control: OwnedFd,
    pub(super) outputs: Outputs,
    /// The program's input, or its terminal; `None` where it has none.
    pub(super) input: Option<OwnedFd>,
    pub(super) state: RunState,
    pub(super) cgroups: Cgroups,
}

/// A container that is being started.
struct Attempt {
    facts: Facts,
    init: i32,
    init_fd: OwnedFd,
    control: OwnedFd,
    handshake: OwnedFd,
    outputs: Option<Outputs>,
    input: Option<OwnedFd>,
    made: Vec<std::path::PathBuf>,
}

impl Attempt {
    /// Forks init and lets it begin.
    fn begin(directory: &ContainerDir, config: &Config, cgroups: &Cgroups) -> Result<Self, SetupError> {
        let (engine_uid, engine_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let by_bwrap = config.sandbox.bwrap.is_some();
        let mut facts = Facts { user_namespace: engine_uid != 0 || by_bwrap, by_bwrap, engine_uid, engine_gid };
        make_private_directories(directory, config, facts).map_err(SetupError::step("make private directories"))?;
        let sockets = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let pair = || sockets().map_err(io::Error::from).map_err(SetupError::step("make a socket"));
        let (control, init_control) = pair()?;
        let (handshake, init_handshake) = pair()?;
        rustix::net::sockopt::set_socket_passcred(&handshake, true)
            .map_err(io::Error::from)
            .map_err(SetupError::step("ask for process ids"))?;
        let streams = Streams::new(config).map_err(SetupError::step("make pipes"))?;
        let flags = |user: bool| {
            libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS
                | if user { libc::CLONE_NEWUSER } else { 0 }
                | if config.spec.network == Network::None { libc::CLONE_NEWNET } else { 0 }
        };
        let forked = match &config.sandbox.bwrap {
            Some(_) => fork_for_bwrap(),
            None => match sys::clone_into_namespaces(flags(facts.user_namespace)) {
                // Root without the capability: the way of ordinary users may still be open.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) && !facts.user_namespace => {
                    facts.user_namespace = true;
                    make_private_directories(directory, config, facts)
                        .map_err(SetupError::step("make private directories"))?;
                    sys::clone_into_namespaces(flags(true))
                }
                other => other,
            },
        };
        match forked.map_err(namespaces_refused)? {
            Clone::Child => {
                let (control, handshake, streams) = (init_control, init_handshake, streams.inner);
                match &config.sandbox.bwrap {
                    Some(bwrap) => run_bwrap(bwrap, config, directory, facts, [control, handshake], streams),
                    None => init::run(init::Start { config, directory, facts, control, handshake, streams }),
                }
            }
            Clone::Parent(pid, init_fd) => {
                // Nobody but init may hold these, or its end would go unnoticed.
                drop((init_control, init_handshake, streams.inner));
                let (outputs, input) = (streams.outputs, streams.input);
                let attempt = Self { facts, init: pid, init_fd, control, handshake, outputs, input, made: Vec::new() };
                cgroups.add(pid);
                let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE);
                match attempt.map_users(config) {
                    Ok(()) => {
                        // Where it is gone already, waiting for it to be ready says why.
                        let _ = init::send(&attempt.control, &ToInit::Begin, &[]);
                        Ok(attempt)
                    }
                    Err(error) => {
                        attempt.give_up();
                        Err(SetupError::host("map the user into the sandbox")(error))
                    }
                }
            }
        }
    }

    /// In a user namespace of its own: exactly the engine's user exists, under the number the container asks for.
    fn map_users(&self, config: &Config) -> io::Result<()> {
        if !self.facts.user_namespace || self.facts.by_bwrap {
            return Ok(());
        }
        let (uid, gid) = self.facts.user(&config.spec);
        let set = |file: &str, text: String| fs::write(format!("/proc/{}/{file}", self.init), text);
        set("setgroups", "deny".to_owned())?;
        set("gid_map", format!("{gid} {} 1", self.facts.engine_gid))?;
        set("uid_map", format!("{uid} {} 1", self.facts.engine_uid))
    }

    /// Waits until the program stands ready. Returns its process id.
    fn prepared(&mut self, directory: &ContainerDir) -> Result<i32, SetupError> {
        loop {
            let (message, received) = self.hear(directory)?;
            match message {
                Handshake::Terminal => {
                    let terminal = received.fds.into_iter().next();
                    let terminal = terminal.ok_or_else(|| SetupError::Container("no terminal came".to_owned()))?;
                    let again = terminal.try_clone().map_err(SetupError::step("share the terminal"))?;
                    (self.outputs, self.input) = (Some(Outputs::Terminal(terminal)), Some(again));
                }
                Handshake::Ready { made } => {
                    self.made = made;
                    return Ok(received.sender.unwrap_or(0));
                }
                Handshake::Unavailable(reason) => return Err(SetupError::Unavailable(reason)),
                Handshake::Failed(reason) => return Err(SetupError::Container(reason)),
                Handshake::Run => {}
            }
        }
    }

    fn hear(&self, directory: &ContainerDir) -> Result<(Handshake, Received), SetupError> {
        let failed = SetupError::step("start the container's first process");
        match wait_readable(&self.handshake, Instant::now() + PATIENCE) {
            Ok(true) => match init::receive(&self.handshake) {
                // It says itself, on its error output, why it gave up.
                Err(_) if self.facts.by_bwrap => {
                    let said = bwrap_said(directory);
                    let refused =
                        ["namespace", "uid map", "gid map", "setgroups"].iter().any(|word| said.contains(word));
                    Err(match refused {
                        true => SetupError::Unavailable(format!("bwrap: {said}")),
                        false => SetupError::Container(said),
                    })
                }
                other => other.map_err(failed),
            },
            Ok(false) => Err(SetupError::Container(format!(
                "setting up the sandbox took longer than {} s: does a mount hang?",
                PATIENCE.as_secs()
            ))),
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts the container on record and lets the program run.
    fn go(&mut self, directory: &ContainerDir) -> Result<RunState, Report> {
        let not_started = |error: SetupError| match error {
            SetupError::Unavailable(reason) => {
                // Nothing was launched, so it may be tried again.
                directory.unmark_launched();
                Report::Unavailable(reason)
            }
            SetupError::Container(reason) => failed(directory, &reason),
        };
        // The record is made durable while init builds the root. Only then may the program run, but it need not wait for
        // this process to notice that it is ready: the word to go is there already.
        let launch = Launch {
            boot_id: boot_id(),
            shim: ProcessId::of(std::process::id().cast_signed()).unwrap_or(ProcessId { pid: 0, start: 0 }),
            init: ProcessId::of(self.init).unwrap_or(ProcessId { pid: 0, start: 0 }),
        };
        if let Err(error) = directory.mark_launched(&launch) {
            directory.unmark_launched();
            return Err(Report::Broken(format!("record the start: {error}")));
        }
        // Where nobody is there to hear it, listening says why.
        let _ = init::send(&self.handshake, &Handshake::Run, &[]);
        let program = self.prepared(directory).map_err(not_started)?;
        // The socket ends with the program's execve.
        if let Ok((Handshake::Failed(reason), _)) = init::receive(&self.handshake) {
            return Err(failed(directory, &reason));
        }
        let state = RunState { program, started_at_nanos: now_nanos(), made: self.made.clone() };
        // It runs: that it could not be written down is no reason to end it.
        let _ = directory.write_run_state(&state);
        Ok(state)
    }

    fn into_running(self, state: RunState, cgroups: Cgroups) -> Running {
        Running {
            init: self.init,
            init_fd: self.init_fd,
            control: self.control,
            outputs: self.outputs.unwrap_or(Outputs::Pipes(None, None)),
            input: self.input,
            state,
            cgroups,
        }
    }

    /// Ends what was begun. Returns when nothing of it is left.
    fn give_up(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.init_fd, rustix::process::Signal::KILL);
        if let Some(pid) = Pid::from_raw(self.init) {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
        super::ending::remove_made(&self.made);
    }
}

/// The container counts as ended: 128 and the words of container runtimes, as Kubernetes shows them.
fn failed(directory: &ContainerDir, reason: &str) -> Report {
    let exit = Exit {
        code: 128,
        signal: None,
        oom_killed: false,
        finished_at_nanos: now_nanos(),
        error: Some(format!("unable to start container process: {reason}")),
    };
    match directory.write_exit(&exit).and_then(|exit| directory.sync_exit().map(|()| exit)) {
        Ok(exit) => Report::Failed(exit),
        Err(error) => Report::Broken(format!("record the failure: {error}")),
    }
}

fn namespaces_refused(error: io::Error) -> SetupError {
    match error.raw_os_error() {
        // ENOSPC: the limit of namespaces is reached (or is zero). EINVAL: the kernel is built without them.
        Some(libc::EPERM | libc::ENOSPC | libc::EINVAL | libc::ENOSYS | libc::EUSERS) => {
            SetupError::Unavailable(format!("create namespaces: {error}"))
        }
        _ => SetupError::Container(format!("create namespaces: {error}")),
    }
}

/// Waits until a descriptor can be read, until `deadline`. `false`: it was not.
pub(super) fn wait_readable(fd: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}
