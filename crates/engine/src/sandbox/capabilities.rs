//! Which capabilities a container's programs may have.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::spec::Security;

/// Names by number, as `capabilities(7)` has them without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a program of user 0 may do unless told otherwise: to work with files and users inside the container.
const DEFAULT: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE"];

/// The set that `security` asks for.
///
/// # Errors
/// A name that no capability has.
pub(crate) fn wanted(security: &Security) -> Result<CapabilitySet, String> {
    let mut set = bits(DEFAULT)?;
    // As Kubernetes means it: what is added stays, even beside "drop ALL".
    set &= !bits(security.drop_capabilities.iter().map(String::as_str))?;
    set |= bits(security.add_capabilities.iter().map(String::as_str))?;
    Ok(CapabilitySet::from_bits_retain(set))
}

fn bits<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<u64, String> {
    names.into_iter().try_fold(0, |set, name| {
        let plain = name.strip_prefix("CAP_").unwrap_or(name);
        match NAMES.iter().position(|known| *known == plain) {
            Some(number) => Ok(set | 1 << number),
            None if plain == "ALL" => Ok((1 << NAMES.len()) - 1),
            None => Err(format!("unknown capability {name:?}")),
        }
    })
}

/// Takes everything but `keep` out of reach of this process and its children, for good.
pub(crate) fn limit(keep: CapabilitySet) -> std::io::Result<()> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.intersects(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The first number that this kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives this process exactly `set`, as far as it has it.
pub(crate) fn become_capable(set: CapabilitySet) -> std::io::Result<()> {
    let has = rustix::thread::capabilities(None)?.permitted;
    let set = has & set;
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let check = |add: &[&str], drop: &[&str], expect: Result<u64, &str>| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let security = Security { add_capabilities: own(add), drop_capabilities: own(drop), ..Security::default() };
            assert_eq!(
                wanted(&security).map(|set| set.bits()).map_err(|e| e.to_string()),
                expect.map_err(str::to_owned)
            );
        };
        check(&[], &["ALL"], Ok(0));
        check(&["NET_ADMIN"], &["ALL"], Ok(1 << 12));
        check(&["CAP_SYS_PTRACE"], &["ALL"], Ok(1 << 19));
        check(&[], &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"], Ok(1 << 5 | 1 << 6 | 1 << 7 | 1 << 10));
        check(&["ALL"], &[], Ok((1 << 41) - 1));
        check(&["FLY"], &[], Err("unknown capability \"FLY\""));
    }
}
