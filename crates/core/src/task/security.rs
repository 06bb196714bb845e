//! Security contexts: what Pod Security "restricted" asks for, unless the Agent says otherwise.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use super::Settings;

/// The pod's default. Without a user id the image decides who the agent runs as, so `runAsNonRoot` would only make
/// images that run as root fail.
pub(crate) fn pod(settings: &Settings) -> PodSecurityContext {
    let seccomp = SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() };
    PodSecurityContext {
        seccomp_profile: Some(seccomp),
        run_as_non_root: settings.run_as_user.map(|_| true),
        run_as_user: settings.run_as_user,
        run_as_group: settings.run_as_user,
        fs_group: settings.run_as_user,
        fs_group_change_policy: settings.run_as_user.map(|_| "OnRootMismatch".to_owned()),
        ..PodSecurityContext::default()
    }
}

/// A container's default.
pub(crate) fn container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}
