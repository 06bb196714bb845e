//! [`Dir`]: the store's directory, locked against other processes, and what may be in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::OpenError;
use crate::options::Locking;

const LOCK: &str = "lock";
const DATA: &str = "store.redb";
/// A database that is being created; it gets its name once it is complete.
const NEW: &str = "store.redb.new";

/// A locked directory. The lock goes with the value (or the process).
pub(crate) struct Dir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// How long a lock is waited for. A process that is being made by another thread has a copy of every open file until it
/// becomes another program, and with it the lock of a store that was closed just now.
const MOMENT: Duration = Duration::from_millis(150);
/// The same where whoever took the lock is gone, killed perhaps: then only such a copy can be left. It goes by itself, but
/// on a busy machine it may take seconds until it is its turn.
const LEFT_BEHIND: Duration = Duration::from_secs(10);

fn try_for_a_moment(lock: &File) -> Result<(), TryLockError> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            result => return result,
        }
        let patience = if holder(lock).is_some_and(is_gone) { LEFT_BEHIND } else { MOMENT };
        if started.elapsed() > patience {
            return Err(TryLockError::WouldBlock);
        }
        std::thread::sleep(MOMENT / 30);
    }
}

/// The process that took the lock last, as it has written there.
fn holder(lock: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = lock.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Whether the file system has no locks, as some network file systems.
fn no_locks(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(code, Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS))
}

impl Dir {
    /// Creates the directory if need be, makes sure that it is a store's or empty, and locks it.
    pub(crate) fn lock(path: &Path, locking: Locking) -> Result<Dir, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))?;
        foreign(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io("restrict", path))?;
        let lock_path = path.join(LOCK);
        let mut lock = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&lock_path)
            .map_err(io("open", &lock_path))?;
        match try_for_a_moment(&lock) {
            Ok(()) => {}
            Err(TryLockError::Error(e)) if locking == Locking::WhereSupported && no_locks(&e) => {
                tracing::info!(path = %path.display(), "the file system has no locks; the lease alone keeps others out");
            }
            Err(TryLockError::Error(e)) => return Err(io("lock", &lock_path)(e)),
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: path.to_owned(), pid: holder(&lock) });
            }
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(io("write", &lock_path))?;
        writeln!(lock, "{}", std::process::id()).map_err(io("write", &lock_path))?;
        Ok(Dir { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// An empty file for a new database; what an interrupted creation left behind is removed.
    pub(crate) fn create_new(&self) -> Result<File, OpenError> {
        let path = self.path.join(NEW);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &path)(e)),
            _ => {}
        }
        private(OpenOptions::new().read(true).write(true).create_new(true)).open(&path).map_err(io("create", &path))
    }

    /// Gives the complete new database its name, durably.
    pub(crate) fn adopt_new(&self) -> Result<(), OpenError> {
        let (new, data) = (self.path.join(NEW), self.data());
        fs::rename(&new, &data).map_err(io("rename", &new))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io("sync", &self.path))
    }

    pub(crate) fn open_data(&self) -> std::io::Result<File> {
        private(OpenOptions::new().read(true).write(true)).open(self.data())
    }
}

/// Refuses a directory in which somebody else keeps things.
fn foreign(path: &Path) -> Result<(), OpenError> {
    let mut unknown = None;
    for item in fs::read_dir(path).map_err(io("read", path))? {
        let name = item.map_err(io("read", path))?.file_name();
        match name.to_str() {
            Some(DATA) => return Ok(()),
            Some(LOCK | NEW | "lost+found") => {}
            _ => unknown = Some(name),
        }
    }
    match unknown {
        None => Ok(()),
        Some(name) => Err(OpenError::Foreign {
            path: path.to_owned(),
            detail: format!("it holds {} but no {DATA}", name.to_string_lossy()),
        }),
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_left_of_a_killed_process_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        drop(Dir::lock(temp.path(), Locking::Required).unwrap());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        fs::write(temp.path().join(LOCK), format!("{}\n", ended.id())).unwrap();
        let copy = File::open(temp.path().join(LOCK)).unwrap();
        copy.lock().unwrap();
        let making = std::thread::spawn(move || {
            std::thread::sleep(3 * MOMENT);
            drop(copy);
        });
        let dir = Dir::lock(temp.path(), Locking::Required).unwrap();
        making.join().unwrap();
        // Of one that lives: not waited for long, and named.
        let started = Instant::now();
        let refused = Dir::lock(temp.path(), Locking::Required).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{refused}");
        assert!(started.elapsed() < LEFT_BEHIND / 2);
        drop(dir);
    }
}
