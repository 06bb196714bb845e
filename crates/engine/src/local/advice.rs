//! Why sandboxes are not possible here, and what to do about it.

/// Adds to the system's reason what a person can do.
pub(super) fn explain(reason: &str) -> String {
    let setting = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let is_root = rustix::process::geteuid().is_root();
    let mut advice = Vec::new();
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) && !is_root {
        advice.push(
            "AppArmor forbids user namespaces: allow them for this program with an AppArmor profile that has \
             \"userns,\", or for all with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        );
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) && !is_root {
        advice.push("this kernel forbids them to ordinary users: `sudo sysctl kernel.unprivileged_userns_clone=1`");
    }
    if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
        advice.push("their number is limited to none: `sudo sysctl user.max_user_namespaces=15000`");
    }
    if advice.is_empty() {
        advice.push(match std::path::Path::new("/.dockerenv").exists() || is_root {
            true => {
                "it seems to run in a container that may not make namespaces: give it the capability SYS_ADMIN and an \
                 unconfined seccomp profile, or run it outside"
            }
            false => "run it as root, or on Linux 5.12 or newer with user namespaces",
        });
    }
    format!("{}. {}. Or choose another engine for this container", reason.trim_end_matches('.'), advice.join(". "))
}
