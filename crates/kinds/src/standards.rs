//! The Pod Security Standards: what a pod may not ask for, and which of them the labels of a namespace ask for.
//!
//! Main functions: [`policies`] and [`violations`].

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::edit::{has, items, text, texts};

/// How much pods may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For everything.
    Privileged,
    /// For nothing that is known to break out of a pod.
    Baseline,
    /// For nothing that hardened pods do not have.
    Restricted,
}

/// A level, in the form that it had in some version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How much pods may ask for.
    pub level: Level,
    version: String,
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// Pods that break this one are refused.
    pub enforce: Policy,
    /// Whoever makes pods, or what makes pods, that break this one is warned.
    pub warn: Policy,
}

/// The policies that the labels of a namespace name, and what is wrong with them.
#[must_use]
pub fn policies(labels: &Value) -> (Policies, Vec<Error>) {
    let mut errors = Vec::new();
    let mut read = |mode: &str| {
        let at = |label: &str| Path::new("metadata").child("labels").key(label);
        let (level_label, version_label) =
            (format!("pod-security.kubernetes.io/{mode}"), format!("pod-security.kubernetes.io/{mode}-version"));
        let (level, sound) = match labels[&level_label].as_str() {
            None => (None, true),
            Some("privileged") => (Some(Level::Privileged), true),
            Some("baseline") => (Some(Level::Baseline), true),
            Some("restricted") => (Some(Level::Restricted), true),
            Some(other) => {
                let why = "must be one of privileged, baseline, restricted";
                errors.push(Error::invalid(&at(&level_label), other, why));
                (Some(Level::Restricted), false)
            }
        };
        let version = labels[&version_label].as_str();
        if let Some(given) = version.filter(|version| !is_version(version)) {
            errors.push(Error::invalid(&at(&version_label), given, "must be \"latest\" or \"v1.x\""));
        }
        (level, sound, version.filter(|version| is_version(version)).map(str::to_owned))
    };
    let (enforced, sound, enforced_version) = read("enforce");
    let (warned, _, warned_version) = read("warn");
    read("audit");
    let latest = || "latest".to_owned();
    let enforce =
        Policy { level: enforced.unwrap_or(Level::Privileged), version: enforced_version.unwrap_or_else(latest) };
    let warn = match warned {
        Some(level) => Policy { level, version: warned_version.unwrap_or_else(latest) },
        // Warnings are about what is refused, if nothing else is said.
        None if enforced.is_some() && sound => {
            Policy { level: enforce.level, version: warned_version.unwrap_or_else(|| enforce.version.clone()) }
        }
        None => Policy { level: Level::Privileged, version: warned_version.unwrap_or_else(latest) },
    };
    (Policies { enforce, warn }, errors)
}

fn is_version(text: &str) -> bool {
    text == "latest"
        || text.strip_prefix("v1.").is_some_and(|minor| {
            minor.bytes().all(|b| b.is_ascii_digit()) && !minor.is_empty() && (minor == "0" || !minor.starts_with('0'))
        })
}

/// Something a pod may not ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule is broken.
    pub reason: &'static str,
    detail: String,
}

/// The rules of a level that a pod spec breaks, in the order in which Kubernetes names them.
#[must_use]
pub fn violations(level: Level, spec: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let pod = Pod { spec, restricted: level == Level::Restricted };
    let mut note = |reason: &'static str, detail: Option<String>| {
        found.extend(detail.map(|detail| Violation { reason, detail }));
    };
    if level == Level::Privileged {
        return found;
    }
    if !pod.restricted {
        note("non-default capabilities", pod.capabilities());
    }
    note("host namespaces", pod.host_namespaces());
    if !pod.restricted {
        note("hostPath volumes", pod.host_paths());
    }
    note("hostPort", pod.host_ports());
    note("privileged", pod.privileged());
    note("procMount", pod.proc_mount());
    if !pod.restricted {
        note("seccompProfile", pod.seccomp());
    }
    note("forbidden sysctls", pod.sysctls());
    if pod.restricted {
        note("allowPrivilegeEscalation != false", pod.escalation());
        note("unrestricted capabilities", pod.unrestricted_capabilities());
        note("restricted volume types", pod.volume_types());
        note("runAsNonRoot != true", pod.run_as_non_root());
        note("runAsUser=0", pod.run_as_root());
        note("seccompProfile", pod.seccomp());
    }
    found
}

/// All violations in one sentence.
#[must_use]
pub fn sentence(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect::<Vec<_>>().join(", ")
}

struct Pod<'a> {
    spec: &'a Value,
    restricted: bool,
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, number: usize) -> &'a str {
    if number == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

impl<'a> Pod<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| items(spec, list))
    }

    /// The names of containers of which something is so.
    fn which(&self, is: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.all().filter(|container| is(container)).map(|container| text(container, "name")).collect()
    }

    fn host_namespaces(&self) -> Option<String> {
        let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
            .into_iter()
            .filter(|name| self.spec[*name] == true)
            .map(|name| format!("{name}=true"))
            .collect();
        (!shared.is_empty()).then(|| shared.join(", "))
    }

    fn host_paths(&self) -> Option<String> {
        let volumes = items(self.spec, "volumes").iter().filter(|volume| has(volume, "hostPath"));
        let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
        let what = plural("volume", "volumes", names.len());
        (!names.is_empty()).then(|| format!("{what} {}", quoted(names)))
    }

    fn host_ports(&self) -> Option<String> {
        let number = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
        let bad = self.which(|container| items(container, "ports").iter().any(|port| number(port) != 0));
        let ports: BTreeSet<String> = self
            .all()
            .flat_map(|container| items(container, "ports"))
            .map(number)
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        (!bad.is_empty()).then(|| {
            let uses = plural("uses", "use", bad.len());
            let what = plural("hostPort", "hostPorts", ports.len());
            format!("{} {uses} {what} {}", containers(&bad), ports.into_iter().collect::<Vec<_>>().join(", "))
        })
    }

    fn privileged(&self) -> Option<String> {
        let bad = self.which(|container| container["securityContext"]["privileged"] == true);
        (!bad.is_empty()).then(|| format!("{} must not set securityContext.privileged=true", containers(&bad)))
    }

    fn proc_mount(&self) -> Option<String> {
        let mount = |container: &'a Value| text(&container["securityContext"], "procMount");
        let is_bad = |mount: &str| !mount.is_empty() && mount != "Default";
        let bad: Vec<&Value> = self.all().filter(|container| is_bad(mount(container))).collect();
        let names: Vec<&str> = bad.iter().map(|container| text(container, "name")).collect();
        let kinds: BTreeSet<&str> =
            bad.iter().map(|container| text(&container["securityContext"], "procMount")).collect();
        (!names.is_empty())
            .then(|| format!("{} must not set securityContext.procMount to {}", containers(&names), quoted(kinds)))
    }

    fn sysctls(&self) -> Option<String> {
        const SAFE: [&str; 12] = [
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
            "net.ipv4.tcp_rmem",
            "net.ipv4.tcp_wmem",
        ];
        let names = items(&self.spec["securityContext"], "sysctls").iter().map(|sysctl| text(sysctl, "name"));
        let bad: Vec<&str> = names.filter(|name| !SAFE.contains(name)).collect();
        (!bad.is_empty()).then(|| bad.join(", "))
    }

    /// Containers that add capabilities other than these, and what they add.
    fn added(&self, allowed: &[&str]) -> Option<String> {
        let adds = |container: &'a Value| {
            texts(&container["securityContext"]["capabilities"], "add").filter(|name| !allowed.contains(name))
        };
        let names: Vec<&str> =
            self.all().filter(|container| adds(container).next().is_some()).map(|c| text(c, "name")).collect();
        let capabilities: BTreeSet<&str> = self.all().flat_map(adds).collect();
        (!names.is_empty()).then(|| {
            let who = containers(&names);
            format!("{who} must not include {} in securityContext.capabilities.add", quoted(capabilities))
        })
    }

    fn capabilities(&self) -> Option<String> {
        self.added(&[
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ])
    }

    fn unrestricted_capabilities(&self) -> Option<String> {
        let keeps = self
            .which(|container| !texts(&container["securityContext"]["capabilities"], "drop").any(|name| name == "ALL"));
        let keeps = (!keeps.is_empty())
            .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps)));
        let parts: Vec<String> = [keeps, self.added(&["NET_BIND_SERVICE"])].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn escalation(&self) -> Option<String> {
        let bad = self.which(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
        (!bad.is_empty())
            .then(|| format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)))
    }

    fn volume_types(&self) -> Option<String> {
        const ALLOWED: [&str; 9] = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let mut names = Vec::new();
        let mut types = BTreeSet::new();
        for volume in items(self.spec, "volumes") {
            let kinds =
                volume.as_object().into_iter().flatten().filter(|(kind, value)| *kind != "name" && !value.is_null());
            let bad: Vec<&str> = kinds.map(|(kind, _)| kind.as_str()).filter(|kind| !ALLOWED.contains(kind)).collect();
            if !bad.is_empty() {
                names.push(text(volume, "name"));
                types.extend(bad);
            }
        }
        (!names.is_empty()).then(|| {
            let number = names.len();
            let (volumes, uses) = (plural("volume", "volumes", number), plural("uses", "use", number));
            let what = plural("restricted volume type", "restricted volume types", types.len());
            format!("{volumes} {} {uses} {what} {}", quoted(names), quoted(types))
        })
    }

    /// Who says what is forbidden: `pod`, `container "a"`, or both.
    fn setters(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<String> {
        let bad = self.which(|container| is_bad(&container["securityContext"]));
        let pod = is_bad(&self.spec["securityContext"]).then(|| "pod".to_owned());
        pod.into_iter().chain((!bad.is_empty()).then(|| containers(&bad))).collect()
    }

    fn run_as_non_root(&self) -> Option<String> {
        const NAME: &str = "runAsNonRoot";
        let setters = self.setters(|context| context[NAME] == false);
        if !setters.is_empty() {
            return Some(format!("{} must not set securityContext.runAsNonRoot=false", setters.join(" and ")));
        }
        let bad = self.which(|container| container["securityContext"][NAME].is_null());
        (self.spec["securityContext"][NAME] != true && !bad.is_empty())
            .then(|| format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&bad)))
    }

    fn run_as_root(&self) -> Option<String> {
        let setters = self.setters(|context| context["runAsUser"] == 0);
        (!setters.is_empty()).then(|| format!("{} must not set runAsUser=0", setters.join(" and ")))
    }

    fn seccomp(&self) -> Option<String> {
        let type_ = |context: &Value| text(&context["seccompProfile"], "type").to_owned();
        let is_bad = |context: &Value| has(context, "seccompProfile") && type_(context) == "Unconfined";
        let setters = self.setters(is_bad);
        if !setters.is_empty() {
            let who = setters.join(" and ");
            return Some(format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""));
        }
        let bad = self.which(|container| !has(&container["securityContext"], "seccompProfile"));
        (self.restricted && !has(&self.spec["securityContext"], "seccompProfile") && !bad.is_empty()).then(|| {
            let who = containers(&bad);
            format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_may_not_ask_for_is_named() {
        let spec = json!({"hostNetwork": true, "hostPID": true, "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
            "containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 81}],
                "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}}, {"name": "b"}]});
        assert_eq!(
            sentence(&violations(Level::Baseline, &spec)),
            r#"non-default capabilities (container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume "h"), hostPort (container "a" uses hostPort 81), privileged (container "a" must not set securityContext.privileged=true)"#
        );
        assert_eq!(
            sentence(&violations(Level::Restricted, &spec)),
            r#"host namespaces (hostNetwork=true, hostPID=true), hostPort (container "a" uses hostPort 81), privileged (container "a" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]; container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add), restricted volume types (volume "h" uses restricted volume type "hostPath"), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
        );
        assert!(violations(Level::Privileged, &spec).is_empty());
        let good = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]});
        assert!(violations(Level::Restricted, &good).is_empty());
    }

    #[test]
    fn labels_name_policies() {
        let read = |labels: Value| {
            let (policies, errors) = policies(&labels);
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            (format!("{} {}", policies.enforce, policies.warn), errors)
        };
        let label = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
        assert_eq!(read(Value::Null).0, "privileged:latest privileged:latest");
        assert_eq!(
            read(json!({label("enforce"): "baseline", label("enforce-version"): "v1.30"})).0,
            "baseline:v1.30 baseline:v1.30"
        );
        assert_eq!(
            read(json!({label("enforce"): "baseline", label("warn"): "restricted"})).0,
            "baseline:latest restricted:latest"
        );
        assert_eq!(
            read(json!({label("enforce"): "x", label("audit-version"): "2"})).1,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"2\": must be \"latest\" or \"v1.x\"",
            ]
        );
    }
}
