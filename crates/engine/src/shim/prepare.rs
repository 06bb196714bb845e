//! What a container needs before its first process is forked: streams, private directories, and the way through `bwrap`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::keeper::Outputs;
use crate::dir::{Config, ContainerDir};
use crate::sandbox::init::ProgramStreams;
use crate::sandbox::{Facts, bwrap};
use crate::sys::{self, Clone, Fork};

/// Where bwrap says why it could not make a sandbox.
const BWRAP_LOG: &str = "bwrap.log";

/// The directories that only this container writes to.
const PRIVATE: [(&str, u32); 2] = [("home", 0o700), ("tmp", 0o1777)];

/// What bwrap said before it gave up.
pub(super) fn bwrap_said(directory: &ContainerDir) -> String {
    let said = fs::read_to_string(directory.file(BWRAP_LOG)).unwrap_or_default();
    said.trim().trim_start_matches("bwrap: ").to_owned()
}

/// Forks a process that will become `bwrap`.
pub(super) fn fork_for_bwrap() -> io::Result<Clone> {
    match sys::fork()? {
        Fork::Child => Ok(Clone::Child),
        Fork::Parent(pid) => {
            let process = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            Ok(Clone::Parent(pid, pidfd_open(process, PidfdFlags::empty())?))
        }
    }
}

/// Becomes `bwrap`, which makes the sandbox and becomes init in it.
pub(super) fn run_bwrap(
    bwrap: &Path,
    config: &Config,
    directory: &ContainerDir,
    facts: Facts,
    sockets: [OwnedFd; 2],
    streams: Option<ProgramStreams>,
) -> ! {
    let prepared = || -> io::Result<Vec<CString>> {
        let arguments = bwrap::arguments(config, directory, facts);
        let config = OwnedFd::from(fs::File::open(directory.file("spec.json"))?);
        let problems = fs::File::options().write(true).create(true).truncate(true).open(directory.file(BWRAP_LOG))?;
        sys::dup_to(problems.as_fd(), 2)?;
        drop(problems);
        let streams = streams.into_iter().flat_map(ProgramStreams::into_fds);
        sys::keep_only(sockets.into_iter().chain([config]).chain(streams).collect(), false)?;
        let all = std::iter::once("bwrap".into()).chain(arguments);
        Ok(all.map(|argument| CString::new(argument.into_vec())).collect::<Result<_, _>>()?)
    };
    if let Ok(arguments) = prepared() {
        sys::exec(bwrap, &arguments, &[]);
    }
    sys::exit_now(1)
}

/// The shim's and init's ends of the program's streams.
pub(super) struct Streams {
    pub(super) outputs: Option<Outputs>,
    pub(super) input: Option<OwnedFd>,
    pub(super) inner: Option<ProgramStreams>,
}

impl Streams {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        if config.spec.tty {
            return Ok(Self { outputs: None, input: None, inner: None });
        }
        let (output, inner_output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (errors, inner_errors) = pipe_with(PipeFlags::CLOEXEC)?;
        let (inner_input, input) = match config.spec.stdin {
            true => pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), Some(write)))?,
            false => (None, None),
        };
        Ok(Self {
            outputs: Some(Outputs::Pipes(Some(output), Some(errors))),
            input,
            inner: Some(ProgramStreams { input: inner_input, output: inner_output, errors: inner_errors }),
        })
    }
}

/// Makes the directories that only this container writes to.
pub(super) fn make_private_directories(directory: &ContainerDir, config: &Config, facts: Facts) -> io::Result<()> {
    let (uid, gid) = facts.user(&config.spec);
    for (name, mode) in PRIVATE {
        let path = directory.file(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(&path, fs::Permissions::from_mode(mode))?,
        }
        if facts.engine_uid == 0 && uid != 0 && name == "home" {
            // In a user namespace the engine's user is the one who appears as the container's.
            let owner = if facts.user_namespace { (facts.engine_uid, facts.engine_gid) } else { (uid, gid) };
            chown(&path, Some(owner.0), Some(owner.1))?;
        }
    }
    Ok(())
}
