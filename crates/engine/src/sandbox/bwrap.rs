//! The sandbox made by `bwrap` (bubblewrap), for hosts where only that program may make namespaces.
//!
//! It sees and may do the same, with one exception: a mount point that is missing in a directory of the host cannot be made.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Facts, OWN_BIN, hidden, home_of};
use crate::SHIM_ARGUMENT;
use crate::dir::{Config, ContainerDir};
use crate::image::OWN_PROGRAM;
use crate::spec::Network;

/// Where init lies in the sandbox.
const INIT: &str = "/.kubetask/init";

/// What [`crate::shim`] is asked to be in there.
pub(crate) const INIT_COMMAND: &str = "init";

/// The arguments that make the sandbox of a container and run init in it.
pub(crate) fn arguments(config: &Config, directory: &ContainerDir, facts: Facts) -> Vec<OsString> {
    let mut all = Arguments::default();
    let (uid, gid) = facts.user(&config.spec);
    all.add(&["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--as-pid-1"]);
    all.add(&["--cap-drop", "ALL"]);
    all.add(&["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
    if config.spec.network == Network::None {
        all.add(&["--unshare-net"]);
    }
    if let Some(name) = &config.spec.hostname {
        all.add(&["--hostname", name]);
    }
    all.host();
    all.add(&["--proc", "/proc", "--dev", "/dev", "--ro-bind-try", "/sys", "/sys", "--tmpfs", "/run"]);
    all.cover(hidden::COVERED.iter().map(|path| Path::new(*path)));
    all.cover(config.sandbox.host_home.as_deref().into_iter().chain(config.sandbox.hide.iter().map(PathBuf::as_path)));
    let private = if config.spec.security.read_only_root { "--ro-bind" } else { "--bind" };
    let home = home_of(uid);
    for (name, target) in [("tmp", "/tmp"), ("tmp", "/var/tmp"), ("home", home.as_str())] {
        all.bind(private, &directory.file(name), Path::new(target));
    }
    for path in hidden::shown(&config.sandbox) {
        if let Ok(below) = path.strip_prefix(&home) {
            // bwrap could not make a mount point in a home that is read-only.
            let point = directory.file("home").join(below);
            let _ = if path.is_dir() { fs::create_dir_all(point) } else { Ok(()) };
        }
        all.bind("--ro-bind-try", &path, &path);
    }
    if let Some(binary) = &config.sandbox.own_binary {
        all.bind("--ro-bind-try", binary, &Path::new(OWN_BIN).join(OWN_PROGRAM));
    }
    let program = fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    all.bind("--ro-bind", &program, Path::new(INIT));
    all.mounts(config);
    if config.spec.security.read_only_root {
        all.add(&["--remount-ro", "/run"]);
    }
    let facts = format!("{}:{}", facts.engine_uid, facts.engine_gid);
    all.add(&["--remount-ro", "/dev", "--remount-ro", "/", "--", INIT, SHIM_ARGUMENT, INIT_COMMAND, &facts]);
    all.0
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, arguments: &[&str]) {
        self.0.extend(arguments.iter().map(OsString::from));
    }

    fn bind(&mut self, how: &str, source: &Path, target: &Path) {
        self.0.extend([how.into(), source.into(), target.into()]);
    }

    fn host(&mut self) {
        for entry in fs::read_dir("/").into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if hidden::LEFT_OUT.iter().any(|left_out| name == *left_out) {
                continue;
            }
            match (fs::read_link(&path), entry.file_type()) {
                (Ok(to), _) => self.bind("--symlink", &to, &path),
                (Err(_), Ok(kind)) if kind.is_dir() || kind.is_file() => self.bind("--ro-bind-try", &path, &path),
                _ => {}
            }
        }
    }

    fn cover<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        for path in paths.filter(|path| is_shown(path)) {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => {
                    self.0.extend(["--tmpfs".into(), path.into(), "--remount-ro".into(), path.into()]);
                }
                Ok(meta) if meta.is_file() => self.bind("--ro-bind", Path::new("/dev/null"), path),
                _ => {}
            }
        }
    }

    fn mounts(&mut self, config: &Config) {
        for mount in &config.spec.mounts {
            let target = without_links(&mount.target);
            // Devices work in mounts that are asked for, as they do elsewhere.
            self.bind(if mount.read_only { "--ro-bind" } else { "--dev-bind" }, &mount.source, &target);
            for hide in &config.sandbox.hide {
                match hide.strip_prefix(&mount.source) {
                    Ok(below) if !below.as_os_str().is_empty() && hide.is_dir() => {
                        let path = target.join(below);
                        self.0.extend(["--tmpfs".into(), path.as_os_str().into(), "--remount-ro".into(), path.into()]);
                    }
                    _ => {}
                }
            }
        }
        if let Some(directory) = config.spec.working_dir.as_ref().filter(|path| !is_shown(path)) {
            self.0.extend(["--dir".into(), directory.into()]);
        }
    }
}

/// Whether a path lies in a part of the host that is shown.
fn is_shown(path: &Path) -> bool {
    match path.components().nth(1) {
        Some(Component::Normal(top)) => {
            Path::new("/").join(top).exists() && !hidden::LEFT_OUT.iter().any(|left_out| top == *left_out)
        }
        _ => false,
    }
}

/// A path with the links of the host resolved that are there in the sandbox too (`/var/run`): bwrap does not follow them.
fn without_links(path: &Path) -> PathBuf {
    if !is_shown(path) {
        return path.to_owned();
    }
    let existing = path.ancestors().find_map(|parent| Some((parent, fs::canonicalize(parent).ok()?)));
    match existing {
        Some((parent, real)) => path.strip_prefix(parent).map_or_else(|_| path.to_owned(), |rest| real.join(rest)),
        None => path.to_owned(),
    }
}
