//! Mounting: detached copies of parts of the host, and where they are put.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};

pub(super) use crate::sys::attribute::{NODEV, NOSUID, RDONLY};
use crate::sys::{open_path, set_mount_attributes};

/// A copy of a mounted file or directory, with all mounted below it, that lies nowhere yet. It goes away unless it is put
/// somewhere.
#[derive(Debug)]
pub(super) struct Tree(OwnedFd);

impl Tree {
    /// Copies what is at `path`, with further attributes on all of it.
    pub(super) fn of(path: impl AsRef<Path>, attributes: u64) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = Self(open_tree(CWD, path.as_ref(), flags)?);
        if attributes != 0 {
            set_mount_attributes(tree.0.as_fd(), attributes, true)?;
        }
        Ok(tree)
    }

    /// Puts it on an existing file or directory.
    pub(super) fn put(self, target: impl AsRef<Path>) -> io::Result<()> {
        Ok(move_mount(&self.0, c"", CWD, target.as_ref(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }
}

/// Detaches this mount namespace from the host's: nothing that is mounted here gets out, nor the other way round.
pub(super) fn make_private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Mounts an empty file system in memory.
pub(super) fn tmpfs(target: impl AsRef<Path>, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    Ok(mount("tmpfs", target.as_ref(), "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?)
}

/// Mounts a kernel file system.
pub(super) fn special(kind: &str, target: impl AsRef<Path>, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    Ok(mount(kind, target.as_ref(), kind, flags | MountFlags::NOSUID, Some(options.as_c_str()))?)
}

/// Shows `source` at `target` too, with all mounted below it and the same attributes.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(source, target)?)
}

/// Refuses writes to the mount at exactly this path.
pub(super) fn seal(path: &Path) -> io::Result<()> {
    set_mount_attributes(open_path(path)?.as_fd(), RDONLY, false)
}

/// Takes a mount away as soon as nobody uses it.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    Ok(unmount(path, UnmountFlags::DETACH)?)
}

/// Makes `root` the root directory and drops the old one.
pub(super) fn pivot(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    // The old root is stacked on the new one, so that no directory is needed for it, and taken off again.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
