//! From a forked child of init to the program: streams, user, capabilities, environment, `execve`.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{DEFAULT_PATH, Facts, OWN_BIN, capabilities, home_of, words};
use crate::dir::Config;
use crate::{image, sys};

/// The environment variable that programs are looked up with.
const PATH: &str = "PATH";

/// What to run, and as whom.
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: Option<PathBuf>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether it runs as the container's own user, with its further groups.
    pub(super) own_user: bool,
}

/// The program's input, output and error output.
pub(super) enum Streams {
    /// A terminal.
    Terminal(OwnedFd),
    /// Input (`None`: empty), output, error output.
    Pipes(Option<OwnedFd>, OwnedFd, OwnedFd),
}

/// Why a program does not run: the message, and the code a shell would give.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRun {
    pub(super) message: String,
    pub(super) code: i32,
}

impl Program {
    /// The container's own program.
    pub(super) fn main(config: &Config, facts: Facts) -> Self {
        let (uid, gid) = facts.user(&config.spec);
        Self {
            command: main_command(config),
            env: environment(config, uid, &[]),
            working_dir: config.spec.working_dir.clone(),
            uid,
            gid,
            own_user: true,
        }
    }

    /// A program beside it.
    pub(super) fn exec(config: &Config, facts: Facts, program: &crate::control::Program) -> Self {
        let (uid, gid) = facts.user(&config.spec);
        let own_user = program.user.is_none_or(|user| user == uid);
        let mut extra = program.env.clone();
        if program.tty && !config.spec.tty {
            extra.insert(0, ("TERM".to_owned(), "xterm".to_owned()));
        }
        let user = program.user.unwrap_or(uid);
        Self {
            command: program.command.clone(),
            env: environment(config, uid, &extra),
            working_dir: program.working_dir.clone().or_else(|| config.spec.working_dir.clone()),
            uid: user,
            gid: if own_user { gid } else { super::primary_group(user).unwrap_or(gid) },
            own_user,
        }
    }
}

/// The container's command line. Only KubeTask's own image has an entrypoint here.
fn main_command(config: &Config) -> Vec<String> {
    let spec = &config.spec;
    let entrypoint = config.sandbox.own_binary.as_ref().map(|_| image::OWN_PROGRAM.to_owned());
    let command = if spec.command.is_empty() { entrypoint.into_iter().collect() } else { spec.command.clone() };
    command.into_iter().chain(spec.args.iter().cloned()).collect()
}

/// Later entries win, each name occurs once, and the order of first mention is kept.
fn environment(config: &Config, uid: u32, extra: &[(String, String)]) -> Vec<(String, String)> {
    let spec = &config.spec;
    let mut all = vec![(PATH.to_owned(), DEFAULT_PATH.to_owned())];
    all.extend(config.sandbox.env.iter().cloned());
    if config.sandbox.own_binary.is_some() {
        all.iter_mut().filter(|(name, _)| name == PATH).for_each(|(_, path)| *path = format!("{path}:{OWN_BIN}"));
    }
    all.push(("HOME".to_owned(), home_of(uid)));
    all.extend(spec.hostname.iter().map(|name| ("HOSTNAME".to_owned(), name.clone())));
    if spec.tty {
        all.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let mut result: Vec<(String, String)> = Vec::with_capacity(all.len() + spec.env.len());
    let mut places = std::collections::HashMap::new();
    for (name, value) in all.iter().chain(&spec.env).chain(extra) {
        let place = *places.entry(name.as_str()).or_insert(result.len());
        match result.get_mut(place) {
            Some(entry) => entry.1.clone_from(value),
            None => result.push((name.clone(), value.clone())),
        }
    }
    result
}

/// Makes this freshly forked process what the program will be, short of running it.
pub(super) fn become_program(program: &Program, streams: Streams, config: &Config, facts: Facts) -> Result<(), NotRun> {
    let step = |step: &'static str| move |error: std::io::Error| cannot(&format!("{step}: {}", words(&error)));
    rustix::process::setsid().map_err(|error| step("start a session")(error.into()))?;
    sys::new_session_keyring();
    connect(streams, program.uid, facts).map_err(step("connect the program's streams"))?;
    // Core files would go wherever the host's pattern says.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), ..limit },
    );
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    become_user(program, config, facts)?;
    let directory = program.working_dir.clone().unwrap_or_else(|| {
        let workspace = Path::new("/workspace");
        if workspace.is_dir() { workspace } else { Path::new("/") }.to_owned()
    });
    std::env::set_current_dir(&directory)
        .map_err(|error| cannot(&format!("chdir to cwd ({:?}) failed: {}", directory, words(&error))))?;
    sys::reset_signals();
    Ok(())
}

fn become_user(program: &Program, config: &Config, facts: Facts) -> Result<(), NotRun> {
    let failed = |what: &str, error: &std::io::Error| cannot(&format!("{what}: {}", words(error)));
    if facts.user_namespace && !program.own_user {
        // There is one user and one group in there.
        let only = "only the container's own user exists in a sandbox of an ordinary user";
        return Err(cannot(&format!("user {}: {only}", program.uid)));
    }
    let wanted = capabilities::wanted(&config.spec.security).map_err(|error| cannot(&error))?;
    if facts.by_bwrap {
        // It is done already.
        return Ok(());
    }
    capabilities::limit(wanted).map_err(|error| failed("drop capabilities", &error))?;
    if facts.user_namespace {
        sys::become_user(Some(program.uid), Some(program.gid), None)
    } else {
        let mut groups = config.spec.security.supplemental_groups.clone();
        groups.truncate(if program.own_user { groups.len() } else { 0 });
        let by_default = config.spec.security.run_as_user.is_none() && groups.is_empty() && program.own_user;
        // The engine's own groups stay only for the engine's own user.
        sys::become_user(Some(program.uid), Some(program.gid), (!by_default).then_some(groups.as_slice()))
    }
    .map_err(|error| failed(&format!("switch to user {} group {}", program.uid, program.gid), &error))?;
    capabilities::become_capable(if program.uid == 0 { wanted } else { rustix::thread::CapabilitySet::empty() })
        .map_err(|error| failed("drop capabilities", &error))?;
    let _ = rustix::thread::clear_ambient_capability_set();
    rustix::thread::set_no_new_privs(true).map_err(|error| failed("set no_new_privs", &error.into()))
}

fn connect(streams: Streams, uid: u32, facts: Facts) -> std::io::Result<()> {
    match streams {
        Streams::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(&terminal)?;
            (0..3).try_for_each(|number| sys::dup_to(terminal.as_fd(), number))?;
        }
        Streams::Pipes(input, output, errors) => {
            let input = match input {
                Some(input) => input,
                None => std::fs::File::open("/dev/null")?.into(),
            };
            sys::dup_to(input.as_fd(), 0)?;
            sys::dup_to(output.as_fd(), 1)?;
            sys::dup_to(errors.as_fd(), 2)?;
        }
    }
    if !facts.user_namespace && uid != facts.engine_uid {
        // A program that opens /dev/stdout by name must be allowed to. Devices that everyone shares stay as they are.
        for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            let stat = rustix::fs::fstat(stream)?;
            let own = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo || rustix::termios::isatty(stream);
            if own {
                rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None)?;
            }
        }
    }
    Ok(())
}

/// Runs the program. Returns only if it cannot be run, with the words container runtimes use.
pub(super) fn execute(program: &Program) -> NotRun {
    let Some(name) = program.command.first() else {
        return cannot("no command specified");
    };
    let c = |text: &String| CString::new(text.as_bytes()).ok();
    let arguments: Option<Vec<CString>> = program.command.iter().map(c).collect();
    let environment: Option<Vec<CString>> =
        program.env.iter().map(|(name, value)| CString::new(format!("{name}={value}")).ok()).collect();
    let (Some(arguments), Some(environment)) = (arguments, environment) else {
        return cannot("a command or environment variable contains a NUL byte");
    };
    if name.contains('/') {
        return explain(name, &sys::exec(Path::new(name), &arguments, &environment));
    }
    let path = program.env.iter().find(|(variable, _)| variable == PATH).map_or(DEFAULT_PATH, |(_, path)| path);
    let own = (name == image::OWN_PROGRAM).then(|| Path::new(OWN_BIN).to_owned());
    let mut denied = false;
    for directory in std::env::split_paths(path).chain(own) {
        let candidate = directory.join(name);
        match sys::exec(&candidate, &arguments, &environment) {
            error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                if candidate.is_file() {
                    return explain(name, &error);
                }
            }
            error if error.raw_os_error() == Some(libc::EACCES) => denied |= candidate.is_file(),
            error => return explain(name, &error),
        }
    }
    if denied {
        return explain(name, &std::io::Error::from_raw_os_error(libc::EACCES));
    }
    NotRun { message: format!("exec: {name:?}: executable file not found in $PATH"), code: 127 }
}

fn explain(name: &str, error: &std::io::Error) -> NotRun {
    let path = Path::new(name);
    let missing = error.raw_os_error() == Some(libc::ENOENT);
    let message = match error.raw_os_error() {
        Some(libc::ENOENT) if path.is_file() => {
            format!("exec: {name:?}: the interpreter named in its first line, or its loader, does not exist")
        }
        Some(libc::ENOENT | libc::ENOTDIR) => format!("exec: {name:?}: stat {name}: {}", words(error)),
        Some(libc::EACCES) if path.is_dir() => format!("exec: {name:?}: is a directory"),
        _ => format!("exec: {name:?}: {}", words(error)),
    };
    NotRun { message, code: if missing { 127 } else { 126 } }
}

fn cannot(message: &str) -> NotRun {
    NotRun { message: message.to_owned(), code: 126 }
}

/// Whether a string could be part of a command line or environment.
pub(crate) fn is_c_string(text: impl AsRef<std::ffi::OsStr>) -> bool {
    !text.as_ref().as_bytes().contains(&0)
}
