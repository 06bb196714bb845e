//! Builds the container's root file system, in the new mount namespace and before anything of the container runs.
//!
//! First everything needed of the host is copied as detached mounts, by the host's paths ([`Taken`]). Then a root of our
//! own, in memory, is put together and becomes *the* root; the host's is gone. Only then are the container's
//! mounts placed, by the container's paths: whatever symbolic link lies in a volume, it cannot lead out to the host.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::mounts::{self, NODEV, NOSUID, RDONLY, Tree};
use super::{Facts, OWN_BIN, OWN_DIRECTORY, SetupError, hidden, home_of};
use crate::dir::{Config, ContainerDir};

/// Most entries of a directory that is rebuilt to make room for a mount point.
const MAX_MIRRORED: usize = 8192;

/// Devices that every program may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Builds it and moves into it. Returns the paths (of the host) of mount points that had to be made in writable mounts.
pub(super) fn build(config: &Config, directory: &ContainerDir, facts: Facts) -> Result<Vec<PathBuf>, SetupError> {
    mounts::make_private().map_err(SetupError::host("detach the mount namespace"))?;
    let taken = Taken::from_host(config, directory)?;
    let base = directory.mount_point();
    base_of(&base, &taken.top_level_links).map_err(SetupError::host("make a root file system in memory"))?;
    for (name, tree) in taken.top_level {
        let target = base.join(name);
        tree.put(&target).map_err(SetupError::host(target.display()))?;
    }
    // Before the host's /proc is out of sight: without it an ordinary user may not mount another.
    mounts::special("proc", base.join("proc"), MountFlags::NODEV | MountFlags::NOEXEC, "")
        .map_err(SetupError::host("mount /proc"))?;
    if let Some(sys) = taken.sys {
        sys.put(base.join("sys")).map_err(SetupError::host("show /sys"))?;
    }
    for (name, tree) in taken.devices {
        let target = base.join("dev").join(name);
        make_file(&target).and_then(|()| tree.put(&target)).map_err(SetupError::host(target.display()))?;
    }
    mounts::pivot(&base).map_err(SetupError::host("change the root directory"))?;

    let mut root = Root { sealed: vec![PathBuf::from("/dev"), PathBuf::from("/")], ..Root::default() };
    root.devices().map_err(SetupError::step("set up /dev"))?;
    root.cover_host_secrets(config, facts).map_err(SetupError::step("hide the host's secrets"))?;
    root.private(config, taken.private, &home_of(facts.user(&config.spec).0))?;
    for (path, tree) in taken.shown {
        // What is missing inside is only a convenience.
        let _ = root.place(&path, tree.directory, tree.tree);
    }
    root.mounts(config, taken.mounts)?;
    if let Some(directory) = &config.spec.working_dir {
        // As container runtimes do; where it cannot be made, starting the program says so.
        let _ = root.ensure(directory, true);
    }
    root.seal().map_err(SetupError::step("make the root file system read-only"))?;
    Ok(root.made_in_mounts)
}

/// What is taken over from the host, detached.
struct Taken {
    top_level: Vec<(OsString, Tree)>,
    top_level_links: Vec<(OsString, TopLevel)>,
    sys: Option<Tree>,
    devices: Vec<(&'static str, Tree)>,
    private: Vec<(&'static str, Tree)>,
    shown: Vec<(PathBuf, Shown)>,
    mounts: Vec<(bool, Tree)>,
}

struct Shown {
    directory: bool,
    tree: Tree,
}

enum TopLevel {
    Directory,
    File,
    Link(PathBuf),
}

impl Taken {
    fn from_host(config: &Config, directory: &ContainerDir) -> Result<Self, SetupError> {
        let read_only_root = config.spec.security.read_only_root;
        let mut taken = Self {
            top_level: Vec::new(),
            top_level_links: Vec::new(),
            sys: Tree::of("/sys", RDONLY | NOSUID | NODEV).ok(),
            devices: Vec::new(),
            private: Vec::new(),
            shown: Vec::new(),
            mounts: Vec::new(),
        };
        taken.top_level()?;
        for name in DEVICES {
            // A host without one of them (a container itself) is no reason to fail.
            taken.devices.extend(Tree::of(Path::new("/dev").join(name), NOSUID).ok().map(|tree| (name, tree)));
        }
        let read_only = if read_only_root { RDONLY } else { 0 };
        for (name, target) in [("tmp", "/tmp"), ("tmp", "/var/tmp"), ("home", "")] {
            let tree = Tree::of(directory.file(name), NOSUID | NODEV | read_only)
                .map_err(SetupError::host(format!("private directory {name}")))?;
            taken.private.push((target, tree));
        }
        taken.shown(config);
        for mount in &config.spec.mounts {
            let wrong = || SetupError::step(format!("mount {} at {}", mount.source.display(), mount.target.display()));
            let is_directory = fs::metadata(&mount.source).map_err(wrong())?.is_dir();
            let attributes = NOSUID | if mount.read_only { RDONLY } else { 0 };
            taken.mounts.push((is_directory, Tree::of(&mount.source, attributes).map_err(wrong())?));
        }
        Ok(taken)
    }

    fn top_level(&mut self) -> Result<(), SetupError> {
        for entry in fs::read_dir("/").map_err(SetupError::host("list /"))?.flatten() {
            let name = entry.file_name();
            let Ok(kind) = entry.file_type() else { continue };
            if hidden::LEFT_OUT.iter().any(|left_out| name == *left_out) || name == OWN_DIRECTORY[1..] {
                continue;
            }
            if kind.is_symlink() {
                if let Ok(to) = fs::read_link(entry.path()) {
                    self.top_level_links.push((name, TopLevel::Link(to)));
                }
            } else if kind.is_dir() || kind.is_file() {
                // What may not be copied (a private mount of somebody) is left out.
                if let Ok(tree) = Tree::of(entry.path(), RDONLY | NOSUID | NODEV) {
                    let what = if kind.is_dir() { TopLevel::Directory } else { TopLevel::File };
                    self.top_level_links.push((name.clone(), what));
                    self.top_level.push((name, tree));
                }
            }
        }
        Ok(())
    }

    fn shown(&mut self, config: &Config) {
        for path in hidden::shown(&config.sandbox) {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if let Ok(tree) = Tree::of(&path, RDONLY | NOSUID | NODEV) {
                self.shown.push((path, Shown { directory: meta.is_dir(), tree }));
            }
        }
        if let Some(binary) = &config.sandbox.own_binary
            && let Ok(tree) = Tree::of(binary, RDONLY | NOSUID | NODEV)
        {
            self.shown.push((Path::new(OWN_BIN).join(crate::image::OWN_PROGRAM), Shown { directory: false, tree }));
        }
    }
}

/// The bare root in memory: a place for everything that is put on it from outside.
fn base_of(base: &Path, entries: &[(OsString, TopLevel)]) -> io::Result<()> {
    mounts::tmpfs(base, "mode=0755")?;
    for (name, what) in entries {
        let path = base.join(name);
        match what {
            TopLevel::Directory => fs::create_dir(path)?,
            TopLevel::File => make_file(&path)?,
            TopLevel::Link(to) => symlink(to, path)?,
        }
    }
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        fs::create_dir(base.join(name))?;
    }
    mounts::tmpfs(base.join("dev"), "mode=0755")?;
    mounts::tmpfs(base.join("run"), "mode=0755")
}

/// The root that is being built; all paths are the container's.
#[derive(Default)]
struct Root {
    /// Mounts of our own that become read-only at the end.
    sealed: Vec<PathBuf>,
    /// The container's mounts so far: where, and what of the host where it may be written to.
    placed: Vec<(PathBuf, Option<PathBuf>)>,
    made_in_mounts: Vec<PathBuf>,
}

impl Root {
    fn devices(&self) -> io::Result<()> {
        fs::create_dir("/dev/pts")?;
        let options = "newinstance,ptmxmode=0666,mode=0620";
        mounts::special("devpts", "/dev/pts", MountFlags::NOEXEC, options)?;
        symlink("pts/ptmx", "/dev/ptmx")?;
        fs::create_dir("/dev/shm")?;
        mounts::tmpfs("/dev/shm", "mode=1777")?;
        symlink("/proc/self/fd", "/dev/fd")?;
        for (number, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
            symlink(format!("/proc/self/fd/{number}"), Path::new("/dev").join(name))?;
        }
        Ok(())
    }

    fn cover_host_secrets(&mut self, config: &Config, facts: Facts) -> io::Result<()> {
        if !facts.user_namespace {
            for name in hidden::PROC_READ_ONLY {
                let path = Path::new("/proc").join(name);
                if path.exists() {
                    Tree::of(&path, RDONLY)?.put(&path)?;
                }
            }
            for path in hidden::PROC_COVERED.iter().map(|name| Path::new("/proc").join(name)) {
                self.cover(&path)?;
            }
            self.cover(Path::new("/sys/firmware"))?;
        }
        let listed = hidden::COVERED.iter().map(Path::new);
        let home = config.sandbox.host_home.as_deref();
        for path in listed.chain(home).chain(config.sandbox.hide.iter().map(PathBuf::as_path)) {
            self.cover(path)?;
        }
        Ok(())
    }

    /// Covers a path with nothing, where it is to be seen.
    fn cover(&mut self, path: &Path) -> io::Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        if meta.is_dir() {
            if path == Path::new("/") {
                return Ok(());
            }
            // One empty directory for all of them: cheaper than a file system each.
            let empty = Path::new(OWN_DIRECTORY).join("empty");
            fs::create_dir_all(&empty)?;
            Tree::of(&empty, RDONLY)?.put(path)?;
        } else if meta.is_file() {
            Tree::of("/dev/null", RDONLY)?.put(path)?;
        }
        Ok(())
    }

    fn private(&mut self, config: &Config, trees: Vec<(&str, Tree)>, home: &str) -> Result<(), SetupError> {
        if config.spec.security.read_only_root {
            self.sealed.push(PathBuf::from("/run"));
        }
        for (target, tree) in trees {
            let target = if target.is_empty() { home } else { target };
            self.place(Path::new(target), true, tree).map_err(SetupError::step(target))?;
        }
        Ok(())
    }

    fn mounts(&mut self, config: &Config, trees: Vec<(bool, Tree)>) -> Result<(), SetupError> {
        for (mount, (is_directory, tree)) in config.spec.mounts.iter().zip(trees) {
            let wrong = SetupError::step(format!("mount {} at {}", mount.source.display(), mount.target.display()));
            let target = self.place(&mount.target, is_directory, tree).map_err(wrong)?;
            for hide in &config.sandbox.hide {
                // The engine's own data must not come back through a mount of what is above it.
                if let Ok(below) = hide.strip_prefix(&mount.source)
                    && !below.as_os_str().is_empty()
                {
                    let path = target.join(below);
                    self.cover(&path).map_err(SetupError::step(format!("hide {}", path.display())))?;
                }
            }
            self.placed.push((target, (!mount.read_only).then(|| mount.source.clone())));
        }
        Ok(())
    }

    /// Puts a tree at a path, making the mount point where it is missing. Returns the path without symbolic links.
    fn place(&mut self, target: &Path, is_directory: bool, tree: Tree) -> io::Result<PathBuf> {
        let target = self.ensure(target, is_directory)?;
        tree.put(&target)?;
        Ok(target)
    }

    /// Makes sure that there is a directory (or a file) at a path. Returns the path without symbolic links.
    fn ensure(&mut self, path: &Path, is_directory: bool) -> io::Result<PathBuf> {
        self.ensure_within(path, is_directory, 40)
    }

    fn ensure_within(&mut self, path: &Path, is_directory: bool, links: u32) -> io::Result<PathBuf> {
        match fs::canonicalize(path) {
            Ok(found) => {
                let mismatch = found.is_dir() != is_directory;
                let text = "not a directory: a directory can be mounted only on a directory, a file only on a file";
                return if mismatch { Err(io::Error::new(ErrorKind::NotADirectory, text)) } else { Ok(found) };
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(ErrorKind::InvalidInput));
        };
        if let Ok(to) = fs::read_link(path) {
            // A link to what does not exist: that is what must be made.
            let left = links.checked_sub(1).ok_or_else(|| io::Error::from_raw_os_error(libc::ELOOP))?;
            return self.ensure_within(&parent.join(to), is_directory, left);
        }
        let parent = self.ensure_within(parent, true, links)?;
        let path = parent.join(name);
        let make = |path: &Path| if is_directory { make_directory(path) } else { make_file(path) };
        match make(&path) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM)) => {
                self.mirror(&parent)?;
                make(&path)?;
            }
            other => {
                other?;
                self.remember_made(&path);
            }
        }
        Ok(path)
    }

    /// Replaces a directory that cannot be written to by one of our own with the same entries.
    fn mirror(&mut self, directory: &Path) -> io::Result<()> {
        let stash = Path::new(OWN_DIRECTORY).join("stash");
        fs::create_dir_all(&stash)?;
        let meta = fs::metadata(directory)?;
        Tree::of(directory, 0)?.put(&stash)?;
        let entries = fs::read_dir(&stash)?.take(MAX_MIRRORED + 1).collect::<io::Result<Vec<_>>>()?;
        if entries.len() > MAX_MIRRORED {
            return Err(io::Error::other("its directory on the host does not have it and is too large to be rebuilt"));
        }
        mounts::tmpfs(directory, &format!("mode={:04o}", meta.mode() & 0o7777))?;
        // An unmapped owner cannot be given; the mode alone must do then.
        let _ = std::os::unix::fs::chown(directory, Some(meta.uid()), Some(meta.gid()));
        for entry in entries {
            let (from, to) = (entry.path(), directory.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
            } else if kind.is_dir() {
                fs::create_dir(&to)?;
                mounts::bind(&from, &to)?;
            } else {
                make_file(&to)?;
                mounts::bind(&from, &to)?;
            }
        }
        mounts::detach(&stash)?;
        self.sealed.push(directory.to_owned());
        Ok(())
    }

    /// Remembers a mount point that was made in a directory of the host, to take it away afterwards.
    fn remember_made(&mut self, path: &Path) {
        let inside = |(target, source): &(PathBuf, Option<PathBuf>)| {
            path.strip_prefix(target).ok().map(|below| source.as_ref().map(|source| source.join(below)))
        };
        if let Some(Some(made)) = self.placed.iter().rev().find_map(inside) {
            self.made_in_mounts.push(made);
        }
    }

    fn seal(&self) -> io::Result<()> {
        self.sealed.iter().try_for_each(|path| match mounts::seal(path) {
            // Covered by a later mount, which has its own attributes.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            result => result,
        })
    }
}

fn make_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
