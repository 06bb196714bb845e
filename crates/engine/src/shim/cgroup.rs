//! Control groups of one container, where this process may make them: version 2 or 1, as far as it goes.
//!
//! Nothing here fails a container: what cannot be limited is not limited, and the engine's probe says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spec::Resources;

const MOUNT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The groups made for a container; empty where nothing is limited or nothing can be.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    pub(super) paths: Vec<PathBuf>,
}

/// Where groups may be made for the limits that are set, of a container that this process or a child of it starts. Whoever
/// has one started writes them down first: its shim may not live to say what it made.
pub(crate) fn places(name: &str, resources: &Resources) -> Vec<PathBuf> {
    let name = format!("kubetask-{name}");
    let wanted = wanted(resources);
    let parents = match is_unified() {
        _ if wanted.is_empty() => Vec::new(),
        true => parents(),
        false => wanted.into_iter().filter_map(legacy_parent).collect(),
    };
    parents.into_iter().map(|parent| parent.join(&name)).collect()
}

impl Cgroups {
    /// Makes groups for the limits that are set, in their places: of version 2 in the first that takes one, of version 1 in
    /// that of each controller.
    pub(super) fn create(places: &[PathBuf], resources: &Resources) -> Self {
        let mut groups = Self::default();
        if is_unified() {
            let wanted = wanted(resources);
            if let Some(path) = places.iter().find(|place| make_unified(place, &wanted)) {
                limit_unified(path, resources);
                groups.paths.push(path.clone());
            }
        } else {
            for path in places {
                if fs::create_dir(path).is_ok() || path.is_dir() {
                    limit_legacy(path, resources);
                    groups.paths.push(path.clone());
                }
            }
        }
        groups
    }

    /// Moves a process, and all it will start, into the groups.
    pub(super) fn add(&self, pid: i32) {
        for path in &self.paths {
            let _ = fs::write(path.join("cgroup.procs"), pid.to_string());
        }
    }

    /// Whether the kernel ended a process in them for want of memory.
    pub(super) fn out_of_memory(&self) -> bool {
        let killed = |text: String| {
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        };
        let files = ["memory.events", "memory.oom_control"];
        self.paths.iter().any(|path| files.iter().any(|file| fs::read_to_string(path.join(file)).is_ok_and(killed)))
    }

    /// Takes the groups away; nothing runs in them any more.
    pub(super) fn remove(&self) {
        remove_groups(&self.paths);
    }
}

/// Takes groups away that are empty, waiting a moment for the kernel to notice.
pub(crate) fn remove_groups(paths: &[PathBuf]) {
    for path in paths {
        for attempt in 0..20 {
            match fs::remove_dir(path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(attempt));
                }
                _ => break,
            }
        }
    }
}

/// Which limits work here: tried with a group that is taken away again.
pub(crate) fn enforced() -> Vec<&'static str> {
    let all = Resources { cpu_millis: Some(100_000), memory_bytes: Some(1 << 50), pids: Some(100_000) };
    let groups = Cgroups::create(&places(&format!("probe-{}", std::process::id()), &all), &all);
    let file = |controller: &str| match (controller, is_unified()) {
        ("memory", true) => "memory.max",
        ("memory", false) => "memory.limit_in_bytes",
        ("cpu", true) => "cpu.max",
        ("cpu", false) => "cpu.cfs_quota_us",
        _ => "pids.max",
    };
    let works = |controller: &&str| groups.paths.iter().any(|path| path.join(file(controller)).exists());
    let enforced = CONTROLLERS.into_iter().filter(|controller| works(controller)).collect();
    groups.remove();
    enforced
}

fn wanted(resources: &Resources) -> Vec<&'static str> {
    let set = [resources.memory_bytes.is_some(), resources.cpu_millis.is_some(), resources.pids.is_some()];
    CONTROLLERS.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect()
}

fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Where a group may be made in version 2: in our own group (only the root may have both processes and groups with
/// limits), or beside it.
fn parents() -> Vec<PathBuf> {
    let own = own_group("");
    let path = own.map(|own| Path::new(MOUNT).join(own.trim_start_matches('/')));
    let beside = path.as_ref().and_then(|path| path.parent()).filter(|parent| parent.starts_with(MOUNT));
    path.iter().map(PathBuf::as_path).chain(beside).map(Path::to_owned).collect()
}

/// Whether a group was made there in which one of the controllers works at least.
fn make_unified(path: &Path, wanted: &[&str]) -> bool {
    let Some(parent) = path.parent() else { return false };
    let Ok(enabled) = fs::read_to_string(parent.join("cgroup.subtree_control")) else { return false };
    for controller in wanted {
        if !enabled.split_ascii_whitespace().any(|name| name == *controller) {
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    if fs::create_dir(path).is_err() {
        return false;
    }
    let works = wanted.iter().any(|controller| path.join(format!("{controller}.max")).exists());
    if !works {
        let _ = fs::remove_dir(path);
    }
    works
}

fn limit_unified(path: &Path, resources: &Resources) {
    let set = |file: &str, value: String| drop(fs::write(path.join(file), value));
    if let Some(bytes) = resources.memory_bytes {
        set("memory.max", bytes.to_string());
        set("memory.swap.max", "0".to_owned());
        // All of the container ends, not some helper that the agent then waits for.
        set("memory.oom.group", "1".to_owned());
    }
    if let Some(millis) = resources.cpu_millis {
        set("cpu.max", format!("{} 100000", quota(millis)));
    }
    if let Some(pids) = resources.pids {
        set("pids.max", pids.to_string());
    }
}

fn legacy_parent(controller: &str) -> Option<PathBuf> {
    let mount = Path::new(MOUNT).join(controller);
    let own = own_group(controller)?;
    let path = mount.join(own.trim_start_matches('/'));
    path.is_dir().then_some(path)
}

/// The controller is the one whose hierarchy the path is in.
fn limit_legacy(path: &Path, resources: &Resources) {
    let hierarchy = path.strip_prefix(MOUNT).ok().and_then(|path| path.iter().next()).and_then(|name| name.to_str());
    let controller = hierarchy.unwrap_or_default();
    let set = |file: &str, value: String| drop(fs::write(path.join(file), value));
    match (controller, resources) {
        ("memory", Resources { memory_bytes: Some(bytes), .. }) => {
            set("memory.limit_in_bytes", bytes.to_string());
            set("memory.memsw.limit_in_bytes", bytes.to_string());
        }
        ("cpu", Resources { cpu_millis: Some(millis), .. }) => {
            set("cpu.cfs_period_us", "100000".to_owned());
            set("cpu.cfs_quota_us", quota(*millis).to_string());
        }
        ("pids", Resources { pids: Some(pids), .. }) => set("pids.max", pids.to_string()),
        _ => {}
    }
}

/// Microseconds of a period of 100 ms; the kernel wants at least one millisecond.
fn quota(cpu_millis: u64) -> u64 {
    cpu_millis.saturating_mul(100).max(1_000)
}

/// Our own group in the hierarchy of a controller; of version 2 with an empty name.
fn own_group(controller: &str) -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        let found =
            if controller.is_empty() { names.is_empty() } else { names.split(',').any(|name| name == controller) };
        found.then(|| parts.next().map(str::to_owned))?
    })
}
