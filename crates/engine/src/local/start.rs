//! Starting a shim, and clearing up after one that died. Blocking: runs on threads made for that.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::control::{self, Report};
use crate::dir::{Config, ContainerDir, Launch, ProcessId, SOCKET, Seen, boot_id};
use crate::log::now_nanos;
use crate::spec::{ContainerSpec, ContainerState, Exit};
use crate::traits::{EngineError, Result};
use crate::{SHIM_ARGUMENT, shim};

/// How long to watch a container that somebody else is starting.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts a container unless it was started before.
pub(super) fn start(directory: &ContainerDir, config: &Config, shim: &Path) -> Result<ContainerState> {
    let begun = Instant::now();
    loop {
        match directory.look().map_err(io("look at the container"))? {
            Seen::Absent => {}
            Seen::Alive => match directory.run_state().map_err(io("read the container's state"))? {
                Some(_) => return state(directory, &config.spec, None),
                // Its shim was started by an engine that is gone, or by another one.
                None if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                None => return Err(EngineError::Start("it has been starting for too long".to_owned())),
            },
            Seen::Ended(exit) => return state(directory, &config.spec, Some(exit)),
            Seen::Died => {
                let exit = bury(directory)?;
                return state(directory, &config.spec, Some(exit));
            }
        }
        directory.prepare(config).map_err(io("write the container's specification"))?;
        match run_shim(shim, shim::RUN, directory.path())? {
            Some(Report::Started { program, started_at_nanos }) => {
                let spec = &config.spec;
                let (id, labels) = (spec.id.clone(), spec.labels.clone());
                return Ok(ContainerState { id, labels, pid: Some(program), started_at_nanos, exit: None });
            }
            Some(Report::Failed(exit)) => return Err(EngineError::Start(exit.error.unwrap_or_default())),
            Some(Report::Unavailable(reason)) => {
                let _ = crate::dir::remove_tree(directory.path());
                return Err(EngineError::Unavailable { engine: super::NAME, reason: super::advice::explain(&reason) });
            }
            Some(Report::Broken(reason)) => {
                return Err(EngineError::Io {
                    step: "start the container's shim".to_owned(),
                    source: io::Error::other(reason),
                });
            }
            Some(Report::Busy | Report::Works(_)) => {}
            None if directory.is_launched() => {}
            None => {
                return Err(EngineError::Io {
                    step: format!("start the container's shim ({})", shim.display()),
                    source: io::Error::other("it ended without a word: does this program call shim_main first?"),
                });
            }
        }
    }
}

/// Runs a shim and takes its report; `None` where it ended without one.
pub(super) fn run_shim(shim: &Path, what: &str, directory: &Path) -> Result<Option<Report>> {
    let (ours, theirs) = UnixStream::pair().map_err(io("make a socket"))?;
    let mut child = Command::new(shim)
        .arg0("kubetask-shim")
        .args([SHIM_ARGUMENT, what])
        .arg(directory)
        // Nothing of the engine's environment gets into the container, not even by way of its first process.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| EngineError::Io { step: format!("run the shim {}", shim.display()), source })?;
    let report = read_report(ours);
    // The shim itself goes on as a process of its own; this is only the one that made it.
    child.wait().map_err(io("wait for the shim's start"))?;
    report.map_err(io("read the shim's report"))
}

fn read_report(mut socket: UnixStream) -> io::Result<Option<Report>> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(report) = control::decode(&mut received)? {
            return Ok(Some(report));
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The state of a container that is on record.
pub(super) fn state(directory: &ContainerDir, spec: &ContainerSpec, exit: Option<Exit>) -> Result<ContainerState> {
    let run = directory.run_state().map_err(io("read the container's state"))?;
    Ok(ContainerState {
        id: spec.id.clone(),
        labels: spec.labels.clone(),
        pid: run.as_ref().map(|run| run.program).filter(|_| exit.is_none()),
        started_at_nanos: run.map_or_else(|| directory.launched_at_nanos(), |run| run.started_at_nanos),
        exit,
    })
}

/// A container whose shim is gone without a word: makes sure that nothing of it runs, and puts that on record.
pub(super) fn bury(directory: &ContainerDir) -> Result<Exit> {
    let launch = directory.launch().map_err(io("read how the container was launched"))?;
    let mut error = "its supervising process was killed";
    if let Some(launch) = &launch {
        if launch.boot_id == boot_id() {
            end(launch.init).map_err(io("end what is left of the container"))?;
        } else {
            error = "the machine was restarted while it ran";
        }
    }
    remove_groups(directory);
    if let Ok(Some(run)) = directory.run_state() {
        shim::ending::remove_made(&run.made);
    }
    let _ = fs::remove_file(directory.file(SOCKET));
    let exit = Exit {
        code: 137,
        signal: Some(libc::SIGKILL),
        oom_killed: false,
        finished_at_nanos: now_nanos(),
        error: Some(error.to_owned()),
    };
    let exit = directory.write_exit(&exit).map_err(io("record the container's end"))?;
    directory.sync_exit().map_err(io("record the container's end"))?;
    Ok(exit)
}

/// Takes away the control groups of a container that does not run, where there are any left.
pub(super) fn remove_groups(directory: &ContainerDir) {
    if let Ok(Some(config)) = directory.config() {
        shim::cgroup::remove_groups(&config.cgroups);
    }
}

/// Takes a shim that ended, where it is ours to take: it is if this process is the first one of a container itself, or
/// has declared itself responsible for orphans.
pub(super) fn reap(directory: &ContainerDir) {
    let Ok(Some(Launch { shim, .. })) = directory.launch() else { return };
    let Some(pid) = Pid::from_raw(shim.pid).filter(|_| ProcessId::of(shim.pid) == Some(shim)) else {
        return;
    };
    // Not a child: nothing happens. Still tidying up: its remains stay until this process ends.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
}

/// Ends a container by its first process, if that is still the one meant, and waits until everything in it is gone.
fn end(init: ProcessId) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(init.pid) else { return Ok(()) };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // Looked at after it is held: its number cannot change hands any more.
    if ProcessId::of(init.pid) != Some(init) {
        return Ok(());
    }
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let timeout = Timespec::try_from(Duration::from_secs(30)).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} does not end"))),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn io(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Io { step: step.to_owned(), source }
}
