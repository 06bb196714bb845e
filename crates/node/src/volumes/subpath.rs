//! Part of a volume as a mount of its own (`subPath`), without a way out: programs that wrote to the volume may have
//! left symbolic links in it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// The host path of `sub` inside `base`. Directories that are missing are created unless `read_only`.
///
/// # Errors
/// Where it is missing and cannot be created, or where it leads out of the volume.
pub(crate) fn resolve(base: &Path, sub: &Path, read_only: bool) -> io::Result<PathBuf> {
    let parts: Option<Vec<&Path>> = sub
        .components()
        .map(|part| match part {
            Component::Normal(name) => Some(Path::new(name)),
            Component::CurDir => Some(Path::new(".")),
            _ => None,
        })
        .collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        return Err(refused("it must be a relative path without '..'"));
    };
    let root = openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let found = match open_beneath(&root, sub) {
        Err(Errno::NOENT) if !read_only => create(&root, base, &parts)?,
        other => other.map_err(explain)?,
    };
    // The kernel's own name of what was opened: no link is followed again on the way to the mount.
    let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let base = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    if path.starts_with(&base) { Ok(path) } else { Err(refused("it leads out of the volume")) }
}

fn open_beneath(at: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(at.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)
}

/// Creates the missing directories one by one, each beneath the one before.
fn create(root: &OwnedFd, base: &Path, parts: &[&Path]) -> io::Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(base)?.permissions().mode() & 0o777;
    let mut at = root.try_clone()?;
    for part in parts {
        at = match open_beneath(&at, part) {
            Err(Errno::NOENT) => {
                match mkdirat(&at, *part, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = open_beneath(&at, part).map_err(explain)?;
                fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), fs::Permissions::from_mode(mode))?;
                made
            }
            other => other.map_err(explain)?,
        };
    }
    Ok(at)
}

fn explain(error: Errno) -> io::Error {
    if error == Errno::XDEV || error == Errno::LOOP { refused("it leads out of the volume") } else { error.into() }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("volume");
        let outside = directory.path().join("outside");
        fs::create_dir_all(base.join("real/deep")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "x").unwrap();
        fs::write(base.join("file"), "x").unwrap();
        symlink(&outside, base.join("absolute")).unwrap();
        symlink("../outside", base.join("relative")).unwrap();
        symlink("../../outside", base.join("real/up")).unwrap();
        symlink("real", base.join("inside")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        symlink("/proc/self/root/etc", base.join("magic")).unwrap();
        let base = fs::canonicalize(base).unwrap();
        let check = |sub: &str, expect: Option<&str>| {
            let got = resolve(&base, Path::new(sub), false).ok();
            assert_eq!(got, expect.map(|path| base.join(path)), "{sub}");
        };
        check("file", Some("file"));
        check("real/deep", Some("real/deep"));
        check("inside/deep", Some("real/deep"));
        check("./real", Some("real"));
        check("new/dirs", Some("new/dirs"));
        check("inside/made", Some("real/made"));
        for hostile in [
            "",
            "/",
            "/etc",
            "..",
            "../outside",
            "real/../../outside",
            "absolute",
            "absolute/secret",
            "absolute/made",
            "relative/secret",
            "relative/made",
            "real/up",
            "real/up/made",
            "loop",
            "loop/x",
            "magic",
            "magic/passwd",
            "file/x",
        ] {
            check(hostile, None);
        }
        assert!(!outside.join("made").exists());
        assert!(resolve(&base, Path::new("missing"), true).is_err());
        assert!(!base.join("missing").exists());
    }
}
