//! The directory of one container, the only thing that an engine and a shim share: `<root>/containers/<id>/`.
//!
//! | file | written by | says |
//! |---|---|---|
//! | `spec.json` | engine, before anything else | [`Config`]: what to run |
//! | `lock` | – | locked by the shim as long as it lives |
//! | `launched` | shim, durable before the program runs | [`Launch`]: it was started, by whom; never start it again |
//! | `state.json` | shim, once the program runs | [`RunState`]: which process and since when |
//! | `s` | shim | its control socket |
//! | `exit.json` | shim, or whoever finds it dead | [`Exit`]: how it ended |
//! | `home`, `tmp` | the program | its private writable directories |
//!
//! From the first four and the lock follows [`Seen`], whoever looks and whenever somebody died.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerId, ContainerSpec, Exit};
use crate::sys;

/// Directory beside `containers` on which roots are mounted.
pub(crate) const MOUNT_POINT: &str = "mnt";

/// Name of the control socket.
pub(crate) const SOCKET: &str = "s";

/// All that a shim needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    /// What to run.
    pub(crate) spec: ContainerSpec,
    /// What it sees of the host.
    pub(crate) sandbox: SandboxConfig,
    /// Where its control groups are, if any were made.
    #[serde(default)]
    pub(crate) cgroups: Vec<PathBuf>,
}

/// What the engine decided about the sandbox, beyond the specification.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxConfig {
    /// Set for containers of KubeTask's own image: the program they run as `kubetask`.
    pub(crate) own_binary: Option<PathBuf>,
    /// Host paths that no container may see, through no mount.
    pub(crate) hide: Vec<PathBuf>,
    /// Host paths shown though they lie in something hidden.
    pub(crate) expose: Vec<PathBuf>,
    /// Environment to start from.
    pub(crate) env: Vec<(String, String)>,
    /// Home directory of the user who runs the engine; hidden.
    pub(crate) host_home: Option<PathBuf>,
    /// Set where this program must make the sandbox.
    pub(crate) bwrap: Option<PathBuf>,
}

/// What is left to clear up if a launched container's shim dies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Launch {
    /// Which boot of the machine it belongs to.
    pub(crate) boot_id: String,
    /// The process that keeps it.
    pub(crate) shim: ProcessId,
    /// First process of its process id namespace: all others end with it.
    pub(crate) init: ProcessId,
}

/// A container that runs, or did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunState {
    /// The program, as seen from the host.
    pub(crate) program: i32,
    /// When it started.
    pub(crate) started_at_nanos: i128,
    /// Mount points made for it in directories of the host.
    pub(crate) made: Vec<PathBuf>,
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks since boot, from `/proc/<pid>/stat`.
    pub(crate) start: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let mut buffer = [0; 1024];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
        let stat = String::from_utf8_lossy(&buffer[..length]);
        // The name, in parentheses, may contain anything.
        let start = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start })
    }
}

/// What the directory says of the container.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nothing was ever launched under this id.
    Absent,
    /// A shim lives: it runs, or is about to.
    Alive,
    /// It ended.
    Ended(Exit),
    /// It was launched, and its shim is gone without a word.
    Died,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir {
    path: PathBuf,
}

impl ContainerDir {
    pub(crate) fn new(containers: &Path, id: &ContainerId) -> Self {
        Self { path: containers.join(&id.0) }
    }

    /// The directory a shim was pointed at.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its root is put together, in a mount namespace of its own: the same place for all, `<root>/mnt`.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.path.ancestors().nth(2).unwrap_or(&self.path).join(MOUNT_POINT)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates the directory (of mode 0700) where it is missing and writes what to run. Only for one that was never launched.
    pub(crate) fn prepare(&self, config: &Config) -> io::Result<()> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.path);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.unmark_launched();
        // Made durable by `mark_launched`: before that nothing has happened that anyone must remember.
        self.write("spec.json", &serde_json::to_vec(config)?)
    }

    pub(crate) fn config(&self) -> io::Result<Option<Config>> {
        self.read("spec.json")
    }

    /// What it was launched with; `None` also where power failed before that was written out.
    pub(crate) fn launch(&self) -> io::Result<Option<Launch>> {
        self.read("launched").or_else(none_if_torn)
    }

    pub(crate) fn run_state(&self) -> io::Result<Option<RunState>> {
        self.read("state.json")
    }

    pub(crate) fn write_run_state(&self, state: &RunState) -> io::Result<()> {
        // Says nothing that outlives the processes, so it need not outlive the machine.
        self.write("state.json", &serde_json::to_vec(state)?)
    }

    /// When it was launched, going by the mark.
    pub(crate) fn launched_at_nanos(&self) -> i128 {
        let time = std::fs::metadata(self.file("launched")).and_then(|mark| mark.modified());
        let since = time.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.and_then(|since| i128::try_from(since.as_nanos()).ok()).unwrap_or(0)
    }

    pub(crate) fn is_launched(&self) -> bool {
        self.file("launched").exists()
    }

    /// From here on the container counts as started, come what may. Fails if it already was.
    pub(crate) fn mark_launched(&self, launch: &Launch) -> io::Result<()> {
        // Created first, so that a journalling file system writes it with what follows. Should power fail in between, it may be
        // there without a whole specification, which `look` knows to mean: not yet.
        let mark = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file("launched"));
        mark?.write_all(&serde_json::to_vec(launch)?)?;
        File::open(self.file("spec.json"))?.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        if let Some(containers) = self.path.parent() {
            File::open(containers)?.sync_all()?;
        }
        Ok(())
    }

    /// It was not launched after all.
    pub(crate) fn unmark_launched(&self) {
        let _ = std::fs::remove_file(self.file("launched"));
    }

    /// Writes how it ended, unless that is known already; returns what counts. Whoever looks sees it at once;
    /// [`sync_exit`](Self::sync_exit) makes it outlast a power failure.
    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<Exit> {
        if let Some(known) = self.exit()? {
            return Ok(known);
        }
        self.write("exit.json", &serde_json::to_vec(exit)?)?;
        Ok(exit.clone())
    }

    pub(crate) fn sync_exit(&self) -> io::Result<()> {
        File::open(self.file("exit.json"))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// How it ended. One that power failed on before it was written out is as good as none.
    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        self.read("exit.json").or_else(none_if_torn)
    }

    /// Takes the lock that says "a shim lives". `None`: another one has it.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.file("lock"))?;
        Ok(sys::try_lock(&file)?.then_some(file))
    }

    fn is_locked(&self) -> io::Result<bool> {
        match File::open(self.file("lock")) {
            Ok(file) => sys::is_locked(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is to be seen now.
    pub(crate) fn look(&self) -> io::Result<Seen> {
        // First: what was launched before this moment, and is not locked after it, has lost its shim. The other way round
        // a shim that starts in between would count as dead.
        let launched = self.is_launched() && self.config().or_else(none_if_torn)?.is_some();
        if let Some(exit) = self.exit()? {
            return Ok(Seen::Ended(exit));
        }
        if self.is_locked()? {
            return Ok(Seen::Alive);
        }
        // It may have ended between the two looks; after this one nothing changes any more.
        if let Some(exit) = self.exit()? {
            return Ok(Seen::Ended(exit));
        }
        Ok(if launched { Seen::Died } else { Seen::Absent })
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match std::fs::read(self.file(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", self.file(name).display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // Several may write the same file: each through a file of its own.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let serial = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.file(&format!(".{name}.{}.{serial}", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        std::fs::rename(&temporary, self.file(name))
    }
}

fn none_if_torn<T>(error: io::Error) -> io::Result<Option<T>> {
    if error.kind() == ErrorKind::InvalidData { Ok(None) } else { Err(error) }
}

/// Identifies this boot of the machine.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Removes a directory tree, whatever modes its directories were given.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        for entry in std::fs::read_dir(&directory)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    Ok(())
}
