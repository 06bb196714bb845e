//! What a pod and its container say of users, privileges and limits, in the engine's terms.

use k8s_openapi::api::core::v1::{Container, Pod};
use kubetask_engine::spec::{Resources, Security};

use crate::quantity;

pub(super) fn non_root(pod: &Pod, container: &Container) -> Result<(), String> {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let required = own.and_then(|own| own.run_as_non_root).or(pod_context.and_then(|context| context.run_as_non_root));
    let user = own.and_then(|own| own.run_as_user).or(pod_context.and_then(|context| context.run_as_user));
    if required == Some(true) && user == Some(0) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &pod.metadata;
        return Err(format!(
            "container's runAsUser breaks non-root policy (pod: \"{}_{}({})\", container: {})",
            text(&meta.name),
            text(&meta.namespace),
            text(&meta.uid),
            container.name
        ));
    }
    Ok(())
}

pub(super) fn resources(container: &Container) -> Resources {
    let limit = |name: &str| container.resources.as_ref()?.limits.as_ref()?.get(name);
    Resources {
        cpu_millis: limit("cpu").and_then(quantity::milli).and_then(|value| u64::try_from(value).ok()),
        memory_bytes: limit("memory").and_then(quantity::units).and_then(|value| u64::try_from(value).ok()),
        pids: None,
    }
}

pub(super) fn security(pod: &Pod, container: &Container) -> Security {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let groups = pod_context.supplemental_groups.into_iter().flatten().chain(pod_context.fs_group);
    let capabilities = own.capabilities.unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let mut add = capabilities.add.unwrap_or_default();
    if privileged {
        add = vec!["ALL".to_owned()];
    }
    Security {
        run_as_user: id(own.run_as_user.or(pod_context.run_as_user)),
        run_as_group: id(own.run_as_group.or(pod_context.run_as_group)),
        supplemental_groups: groups.filter_map(|group| id(Some(group))).collect(),
        read_only_root: own.read_only_root_filesystem == Some(true),
        add_capabilities: add,
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        allow_privilege_escalation: privileged || own.allow_privilege_escalation != Some(false),
    }
}
