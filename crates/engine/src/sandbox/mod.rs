//! The inside of a local container: its root file system, its first process, and the programs in it.
//!
//! The shim forks [`init::run`] into new namespaces; that builds the root ([`root`]), starts the program
//! ([`program`]) and stays as the namespace's first process. `SANDBOX.md` says what a program sees and may do.

use std::path::Path;

pub(crate) mod bwrap;
pub(crate) mod capabilities;
mod hidden;
pub(crate) mod init;
mod mounts;
pub(crate) mod program;
mod root;

/// Directory of the container's root that holds what the engine adds to it.
pub(crate) const OWN_DIRECTORY: &str = "/.kubetask";

/// Where the program of KubeTask's own image lies.
pub(crate) const OWN_BIN: &str = "/.kubetask/bin";

/// Path on which programs are looked up where the environment has none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a sandbox could not be made.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// The host does not allow it for any container: nothing was launched.
    Unavailable(String),
    /// This container cannot be made.
    Container(String),
}

impl SetupError {
    /// A step that works wherever sandboxes are allowed.
    pub(crate) fn host(step: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => Self::Unavailable(format!("{step}: {error}")),
            _ => Self::Container(format!("{step}: {error}")),
        }
    }

    /// A step that depends on what the container asks for.
    pub(crate) fn step(step: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Container(format!("{step}: {}", words(&error)))
    }
}

/// The system's words for an error, as C and Go programs say them: lower case, no number.
pub(crate) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// What a process of a container needs to know of its sandbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Whether it has a user namespace of its own, in which only one user exists.
    pub(crate) user_namespace: bool,
    /// Whether `bwrap` has made it, and has taken away what programs must not have.
    pub(crate) by_bwrap: bool,
    /// User and group that the engine runs as.
    pub(crate) engine_uid: u32,
    pub(crate) engine_gid: u32,
}

impl Facts {
    /// User and group that the container's programs run as by default.
    pub(crate) fn user(&self, spec: &crate::spec::ContainerSpec) -> (u32, u32) {
        let uid = spec.security.run_as_user.unwrap_or(self.engine_uid);
        // A user given without a group gets the engine's own group only if it is the engine's own user.
        let gid = spec.security.run_as_group.unwrap_or(match spec.security.run_as_user {
            Some(user) if user != self.engine_uid => primary_group(user).unwrap_or(0),
            _ => self.engine_gid,
        });
        (uid, gid)
    }
}

/// Home directory in the container: the user's own by the host's user list, so that programs which ask there (ssh)
/// and programs which ask the environment agree.
pub(crate) fn home_of(uid: u32) -> String {
    passwd(uid, 5).filter(|home| is_usable_home(home)).unwrap_or_else(|| "/home/kubetask".to_owned())
}

fn is_usable_home(home: &str) -> bool {
    let path = Path::new(home);
    let usual = ["/root", "/home"].iter().any(|parent| path.starts_with(parent));
    usual && home != "/home" && path.components().all(|part| !matches!(part, std::path::Component::ParentDir))
}

fn primary_group(uid: u32) -> Option<u32> {
    passwd(uid, 3)?.parse().ok()
}

fn passwd(uid: u32, field: usize) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let uid = uid.to_string();
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').nth(field).map(str::to_owned)
}
