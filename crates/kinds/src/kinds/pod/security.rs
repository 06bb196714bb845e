//! Validation of the security context of pods, and of what containers' contexts have in common with it.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::container::local_path;
use crate::kinds::check::{one_of, required, within};
use crate::kinds::edit::{has, items, text};

const MAX_INT32: i64 = 2_147_483_647;

/// What is wrong with the security context of a pod spec.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let context = &spec["securityContext"];
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        within(context, name, 0, MAX_INT32, path, errors);
    }
    for (i, group) in items(context, "supplementalGroups").iter().enumerate() {
        if let Some(n) = group.as_i64()
            && !(0..=MAX_INT32).contains(&n)
        {
            let field = path.child("supplementalGroups").index(i);
            errors.push(Error::invalid(&field, n, format!("must be between 0 and {MAX_INT32}, inclusive")));
        }
    }
    sysctls(spec, &path.child("sysctls"), errors);
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    one_of(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], path, errors);
}

fn sysctls(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 253;
    const PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let is_name = |name: &str| {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        name.len() <= LONGEST
            && name.split(['.', '/']).all(|part| {
                part.starts_with(alnum) && part.ends_with(alnum) && part.chars().all(|c| alnum(c) || "-_".contains(c))
            })
    };
    let mut seen = BTreeSet::new();
    for (i, sysctl) in items(&spec["securityContext"], "sysctls").iter().enumerate() {
        let (name, path) = (text(sysctl, "name"), path.index(i));
        let field = path.child("name");
        if !required(sysctl, "name", &path, errors) {
        } else if !is_name(name) {
            let why = format!("must have at most {LONGEST} characters and match regex {PATTERN}");
            errors.push(Error::invalid(&field, name, why));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&field, name));
        }
        let dotted = name.replace('/', ".");
        let ipc = dotted.starts_with("fs.mqueue.")
            || dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted == "kernel.sem";
        if spec["hostNetwork"] == true && dotted.starts_with("net.") {
            errors.push(Error::invalid(&field, name, "may not be specified when 'hostNetwork' is true"));
        } else if spec["hostIPC"] == true && ipc {
            errors.push(Error::invalid(&field, name, "may not be specified when 'hostIPC' is true"));
        }
        seen.insert(name);
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// What is wrong with a seccomp profile.
pub(super) fn seccomp(profile: &Value, path: &Path, errors: &mut Vec<Error>) {
    if profile.is_null() {
        return;
    }
    if text(profile, "type").is_empty() {
        errors.push(Error::required(&path.child("type"), "type is required when seccompProfile is set"));
    }
    one_of(profile, "type", &PROFILES, path, errors);
    let (local, field) = (profile["localhostProfile"].as_str(), path.child("localhostProfile"));
    match (text(profile, "type") == "Localhost", local) {
        (true, None) => errors.push(Error::required(&field, "must be set when seccomp type is Localhost")),
        (true, Some(local)) => local_path(local, &field, errors),
        (false, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            let shown = crate::internal::text("SeccompProfile", profile);
            errors.push(Error::invalid(&field, profile.clone(), why).show_value(shown));
        }
        (false, None) => {}
    }
}

/// What is wrong with an AppArmor profile.
pub(super) fn app_armor(profile: &Value, path: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 4095;
    const UNSET: &str = "must be set when AppArmor type is Localhost";
    if profile.is_null() {
        return;
    }
    let field = path.child("localhostProfile");
    let local = profile["localhostProfile"].as_str();
    match (text(profile, "type"), local) {
        ("", _) => errors.push(Error::required(&path.child("type"), "type is required when appArmorProfile is set")),
        ("Localhost", None | Some("")) => errors.push(Error::required(&field, UNSET)),
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.push(Error::invalid(&field, local, "must not be padded with whitespace"));
            }
            if local.len() > LONGEST {
                errors.push(Error::too_long(&field, i64::try_from(LONGEST).unwrap_or(i64::MAX)));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.push(Error::invalid(&field, local, "can only be set when AppArmor type is Localhost"));
        }
        _ if has(profile, "type") => one_of(profile, "type", &PROFILES, path, errors),
        _ => {}
    }
}
