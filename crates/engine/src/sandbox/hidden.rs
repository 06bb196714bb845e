//! What of the host no container sees: this is the one list of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dir::SandboxConfig;

/// Host paths that are shown, read-only, although they lie in something that is not.
pub(super) fn shown(config: &SandboxConfig) -> Vec<PathBuf> {
    let in_run = SHOWN_IN_RUN.iter().map(|name| Path::new("/run").join(name));
    let resolver = fs::canonicalize("/etc/resolv.conf").ok().filter(|path| path.starts_with("/run"));
    let homes = config.host_home.iter();
    let in_home = homes.flat_map(|home| SHOWN_IN_HOME.iter().map(|name| home.join(name)));
    let all = in_run.chain(resolver).chain(in_home).chain(config.expose.iter().cloned());
    all.filter(|path| path.exists()).collect()
}

/// Entries of `/` that are not taken over from the host: they are made anew, private, or left out.
pub(super) const LEFT_OUT: &[&str] = &[
    "proc",
    "sys",
    "dev",
    "tmp",
    "run", // made anew
    "home",
    "root", // people's files: replaced by a private home
    "boot",
    "mnt",
    "media",
    "lost+found", // other disks, kernels
];

/// Paths below the others that are covered: secrets of the host, and data of other container systems.
pub(super) const COVERED: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh/ssh_host_dsa_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/krb5.keytab",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/NetworkManager/system-connections",
    "/etc/wpa_supplicant",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/docker",
    "/etc/security/opasswd",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/lib/etcd",
    "/var/lib/kubetask",
    "/var/lib/systemd/credential.secret",
    "/var/lib/sss",
    "/var/lib/NetworkManager",
    "/var/spool/cron",
    "/var/spool/mail",
    "/var/mail",
    "/var/backups",
    "/etc/credstore",
    "/etc/credstore.encrypted",
];

/// Entries of `/run` that are shown: without them names would not resolve, or no program would be found.
const SHOWN_IN_RUN: &[&str] = &["systemd/resolve", "resolvconf", "current-system", "booted-system"];

/// Directories of programs in a home directory that are shown, read-only. None of them holds credentials.
const SHOWN_IN_HOME: &[&str] = &[
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/pipx",
    ".local/share/uv",
    ".local/share/mise",
    ".local/share/fnm",
    ".local/share/pnpm",
    ".local/share/claude",
    ".cargo/bin",
    ".rustup",
    ".nvm",
    ".npm-global",
    ".bun",
    ".deno/bin",
    ".volta",
    ".pyenv",
    ".rbenv",
    ".asdf",
    ".sdkman",
    ".nix-profile",
    "go/bin",
];

/// Parts of `/proc` and `/sys` with which user 0 could change or read the host; made read-only.
pub(super) const PROC_READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Parts of `/proc` that tell of the whole host; covered.
pub(super) const PROC_COVERED: &[&str] =
    &["acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"];
