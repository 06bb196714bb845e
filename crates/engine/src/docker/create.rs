//! What to run, in the daemon's words. Pure.

use serde_json::{Map, Value, json};

use crate::spec::{ContainerSpec, Network};

/// Label of the engine whose containers these are; several programs may use one daemon.
pub(super) const SCOPE_LABEL: &str = "io.kubetask.engine.scope";
/// Label with where the log goes, as JSON.
pub(super) const LOG_LABEL: &str = "io.kubetask.engine.log";
/// Label with the caller's identity of the run.
pub(super) const ID_LABEL: &str = "io.kubetask.engine.id";

/// Period over which a limit on CPU is counted, in microseconds.
const PERIOD: u64 = 100_000;

/// The body of a create call.
pub(super) fn body(spec: &ContainerSpec, scope: &str, podman: bool) -> Value {
    let mut labels: Map<String, Value> =
        spec.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    labels.insert(SCOPE_LABEL.to_owned(), scope.into());
    labels.insert(ID_LABEL.to_owned(), spec.id.0.clone().into());
    labels.insert(LOG_LABEL.to_owned(), serde_json::to_string(&spec.log).unwrap_or_default().into());
    let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<Value> = spec.mounts.iter().map(|mount| {
        json!({"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only})
    }).collect();
    let security = &spec.security;
    let user = match (security.run_as_user, security.run_as_group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => Some(format!("0:{group}")),
        (None, None) => None,
    };
    let groups: Vec<String> = security.supplemental_groups.iter().map(u32::to_string).collect();
    // A soft limit on the daemon's own copy; what matters is in the log of the caller.
    let kept = spec.log.max_bytes.clamp(1 << 20, 64 << 20);
    // Docker's usual log is JSON, which would spoil what is no text.
    let log = match podman {
        true => json!({"Type": "k8s-file", "Config": {"max-size": kept.to_string()}}),
        false => {
            json!({"Type": "local", "Config": {"max-size": kept.to_string(), "max-file": "3", "compress": "false"}})
        }
    };
    let mut host = json!({
        "Mounts": mounts,
        "NetworkMode": match spec.network { Network::Host => "host", Network::None => "none" },
        "ReadonlyRootfs": security.read_only_root,
        "CapAdd": security.add_capabilities,
        "CapDrop": security.drop_capabilities,
        "GroupAdd": groups,
        "SecurityOpt": if security.allow_privilege_escalation { json!([]) } else { json!(["no-new-privileges"]) },
        "RestartPolicy": {"Name": "no"},
        "LogConfig": log,
        "OomScoreAdj": 500,
    });
    if let Some(millis) = spec.resources.cpu_millis {
        host["CpuPeriod"] = PERIOD.into();
        host["CpuQuota"] = (millis * PERIOD / 1000).max(1000).into();
    }
    if let Some(bytes) = spec.resources.memory_bytes {
        host["Memory"] = bytes.into();
        // No swap beyond it.
        host["MemorySwap"] = bytes.into();
    }
    if let Some(pids) = spec.resources.pids {
        host["PidsLimit"] = pids.into();
    }
    let mut body = json!({
        "Image": spec.image,
        "Env": env,
        "Labels": labels,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin,
        "AttachStdin": spec.stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "HostConfig": host,
    });
    if !spec.command.is_empty() {
        body["Entrypoint"] = spec.command.clone().into();
    }
    if !spec.args.is_empty() {
        body["Cmd"] = spec.args.clone().into();
    }
    if let Some(directory) = &spec.working_dir {
        body["WorkingDir"] = directory.to_string_lossy().into();
    }
    if let Some(user) = user {
        body["User"] = user.into();
    }
    if let Some(name) = &spec.hostname {
        body["Hostname"] = name.clone().into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ContainerId, LogSpec, Mount, Resources, Security};

    #[test]
    fn everything_is_passed_on() {
        let spec = ContainerSpec {
            id: ContainerId("u-main-0".to_owned()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            image: "busybox:1".to_owned(),
            command: vec!["sh".to_owned()],
            args: vec!["-c".to_owned(), "x".to_owned()],
            env: vec![("A".to_owned(), "=".to_owned())],
            working_dir: Some("/w".into()),
            hostname: Some("h".to_owned()),
            mounts: vec![Mount { source: "/s".into(), target: "/t".into(), read_only: true }],
            resources: Resources { cpu_millis: Some(1500), memory_bytes: Some(4 << 30), pids: Some(9) },
            network: Network::None,
            security: Security {
                run_as_user: Some(1),
                run_as_group: Some(2),
                supplemental_groups: vec![3],
                ..Security::default()
            },
            tty: false,
            stdin: true,
            log: LogSpec { path: "/l".into(), max_bytes: 5, max_files: 2 },
        };
        let body = body(&spec, "here", false);
        let at = |pointer: &str| body.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/Entrypoint"), json!(["sh"]));
        assert_eq!(at("/Cmd"), json!(["-c", "x"]));
        assert_eq!(at("/Env"), json!(["A=="]));
        assert_eq!(at("/User"), "1:2");
        assert_eq!(at("/HostConfig/GroupAdd"), json!(["3"]));
        assert_eq!(at("/HostConfig/CpuQuota"), 150_000);
        assert_eq!(at("/HostConfig/Memory"), 4u64 << 30);
        assert_eq!(at("/HostConfig/NetworkMode"), "none");
        assert_eq!(at("/HostConfig/SecurityOpt"), json!(["no-new-privileges"]));
        assert_eq!(
            at("/HostConfig/Mounts/0"),
            json!({"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true})
        );
        assert_eq!((at("/Labels/a"), at("/Labels/io.kubetask.engine.scope")), (json!("b"), json!("here")));
        let own = ContainerSpec { command: Vec::new(), args: Vec::new(), ..spec };
        let own = super::body(&own, "here", true);
        assert!(own.get("Entrypoint").is_none() && own.get("Cmd").is_none(), "the image's own");
    }
}
