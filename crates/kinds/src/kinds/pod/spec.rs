//! Validation of a pod spec, for pods and for templates.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::{format, label_selector, one_of, within};
use crate::kinds::edit::{has, items, text, texts};
use crate::names::{dns1123_label, dns1123_subdomain, dns1123_subdomain_with_underscore, label_value, qualified_name};

use super::{affinity, container, security, volume};

const MAX_INT32: i64 = 2_147_483_647;

/// Everything that is wrong with the pod spec of a template.
pub(crate) fn validate(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    common(spec, path, false, errors);
}

/// Everything that is wrong with the pod spec of a pod.
pub(super) fn validate_of_pod(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    common(spec, path, true, errors);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            container::only_for_pod(container, &path.child(list).index(i), errors);
        }
    }
}

fn common(spec: &Value, path: &Path, is_pod: bool, errors: &mut Vec<Error>) {
    let volumes = volume::validate_all(spec, &path.child("volumes"), is_pod, errors);
    container::validate_all(spec, path, is_pod, &volumes, errors);
    super::ephemeral::validate(spec, path, &volumes, errors);

    if text(spec, "restartPolicy").is_empty() {
        errors.push(Error::required(&path.child("restartPolicy"), ""));
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    if text(spec, "dnsPolicy").is_empty() {
        errors.push(Error::required(&path.child("dnsPolicy"), ""));
    }
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    crate::meta::labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    if has(spec, "securityContext") {
        security::validate(spec, &path.child("securityContext"), errors);
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    if has(spec, "affinity") {
        affinity::validate(&spec["affinity"], &path.child("affinity"), errors);
    }
    dns_config(spec, &path.child("dnsConfig"), errors);
    for (i, gate) in items(spec, "readinessGates").iter().enumerate() {
        let (field, type_) =
            (path.child("readinessGates").index(i).child("conditionType"), text(gate, "conditionType"));
        errors.extend(qualified_name(type_).into_iter().map(|m| Error::invalid(&field, type_, m)));
    }
    scheduling_gates(spec, path, errors);
    topology(spec, path, errors);
    host_users(spec, path, errors);
    format(spec, "serviceAccountName", dns1123_subdomain, path, errors);
    format(spec, "nodeName", dns1123_subdomain, path, errors);
    within(spec, "activeDeadlineSeconds", 1, MAX_INT32, path, errors);
    host_name(spec, path, errors);
    for (i, toleration) in items(spec, "tolerations").iter().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(i), errors);
    }
    host_aliases(spec, path, errors);
    format(spec, "priorityClassName", dns1123_subdomain, path, errors);
    if let Some(class) = spec["runtimeClassName"].as_str() {
        let field = path.child("runtimeClassName");
        errors.extend(dns1123_subdomain(class).into_iter().map(|m| Error::invalid(&field, class, m)));
    }
    one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    if has(spec, "os") {
        let (name, field) = (text(&spec["os"], "name"), path.child("os").child("name"));
        if name.is_empty() {
            errors.push(Error::required(&field, "cannot be empty"));
        } else if !matches!(name, "linux" | "windows") {
            errors.push(Error::not_supported_in_order(&field, name, ["linux", "windows"]));
        }
    }
    super::env::file_volumes(spec, path, errors);
}

/// Who has users of its own shares nothing else with the host.
fn host_users(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    if spec["hostUsers"] != false {
        return;
    }
    const WHY: &str = "when `hostUsers` is false";
    for (name, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec[name] == true {
            errors.push(Error::forbidden(&path.child(shown), WHY));
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            if !items(container, "volumeDevices").is_empty() {
                errors.push(Error::forbidden(&path.child(list).index(i).child("volumeDevices"), WHY));
            }
        }
    }
}

fn host_name(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 64;
    format(spec, "hostname", dns1123_label, path, errors);
    format(spec, "subdomain", dns1123_label, path, errors);
    let Some(name) = spec["hostnameOverride"].as_str() else { return };
    let field = path.child("hostnameOverride");
    for other in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec[other] == true {
            errors.push(Error::forbidden(&field, format!("may not be specified when {other} is true")));
        }
    }
    if name.len() > LONGEST {
        errors.push(Error::too_long(&field, i64::try_from(LONGEST).unwrap_or(i64::MAX)));
    }
    errors.extend(dns1123_subdomain(name).into_iter().map(|m| Error::invalid(&field, name, m)));
}

/// What holds for new pods only.
pub(super) fn validate_on_create(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        errors.push(Error::forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
}

fn dns_config(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    const MOST_SERVERS: usize = 3;
    const MOST_SEARCHES: usize = 32;
    const LONGEST_LIST: usize = 2048;
    let config = &spec["dnsConfig"];
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            return errors.push(Error::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        if items(config, "nameservers").is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.push(Error::required(&path.child("nameservers"), why));
        }
    }
    let servers: Vec<&str> = texts(config, "nameservers").collect();
    let mut wrong = |name: &str, why: String| {
        errors.push(Error::invalid(&path.child(name), config[name].clone(), why));
    };
    if servers.len() > MOST_SERVERS {
        wrong("nameservers", format!("must not have more than {MOST_SERVERS} nameservers"));
    }
    let searches: Vec<&str> = texts(config, "searches").collect();
    if searches.len() > MOST_SEARCHES {
        wrong("searches", format!("must not have more than {MOST_SEARCHES} search paths"));
    }
    if searches.join(" ").len() > LONGEST_LIST {
        wrong(
            "searches",
            format!("must not have more than {LONGEST_LIST} characters (including spaces) in the search list"),
        );
    }
    for (i, server) in servers.into_iter().enumerate().filter(|(_, s)| s.parse::<std::net::IpAddr>().is_err()) {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(&path.child("nameservers").index(i), server, why));
    }
    for (i, search) in searches.into_iter().enumerate() {
        // A single dot searches from the root.
        if search == "." {
            continue;
        }
        let search = search.strip_suffix('.').unwrap_or(search);
        let at = path.child("searches").index(i);
        errors.extend(dns1123_subdomain_with_underscore(search).into_iter().map(|m| Error::invalid(&at, search, m)));
    }
    for (i, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(Error::required(&path.child("options").index(i), "must not be empty"));
        }
    }
}

fn toleration(toleration: &Value, path: &Path, errors: &mut Vec<Error>) {
    let (key, operator, value) = (text(toleration, "key"), text(toleration, "operator"), text(toleration, "value"));
    if !key.is_empty() {
        errors.extend(qualified_name(key).into_iter().map(|m| Error::invalid(&path.child("key"), key, m)));
    } else if operator != "Exists" {
        errors.push(Error::invalid(
            &path.child("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ));
    }
    match operator {
        "" | "Equal" => {
            let wrong = label_value(value);
            if !wrong.is_empty() {
                errors.push(Error::invalid(&path.child("operator"), value, wrong.join(";")));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let text = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&path.child("operator"), value, text));
            }
        }
        other => errors.push(Error::not_supported_in_order(&path.child("operator"), other, ["Equal", "Exists"])),
    }
    if has(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
        let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&path.child("effect"), toleration["effect"].as_str().unwrap_or_default(), text));
    }
    one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], path, errors);
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(i);
        let ip = text(alias, "ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(Error::invalid(
                &path.child("ip"),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
        for (j, name) in texts(alias, "hostnames").enumerate() {
            let field = path.child("hostnames").index(j);
            errors.extend(dns1123_subdomain(name).into_iter().map(|m| Error::invalid(&field, name, m)));
        }
    }
}

fn topology(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let constraints = items(spec, "topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.push(Error::invalid(&path.child("maxSkew"), skew, "must be greater than zero"));
        }
        if text(constraint, "topologyKey").is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        let when = text(constraint, "whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when) {
            let known = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(Error::not_supported(&path.child("whenUnsatisfiable"), when, &known));
        }
        let key = text(constraint, "topologyKey");
        if constraints[i + 1..].iter().any(|c| text(c, "topologyKey") == key && text(c, "whenUnsatisfiable") == when) {
            let field = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&field, format!("{{{key}, {when}}}")));
        }
        if let Some(domains) = constraint["minDomains"].as_i64() {
            let field = path.child("minDomains");
            if domains <= 0 {
                errors.push(Error::invalid(&field, domains, "must be greater than zero"));
            }
            if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.push(Error::invalid(&field, domains, why));
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, name, &["Honor", "Ignore"], &path, errors);
        }
        label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}

fn scheduling_gates(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut seen = BTreeSet::new();
    for (i, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates").index(i);
        let name = text(gate, "name");
        errors.extend(qualified_name(name).into_iter().map(|m| Error::invalid(&path, name, m)));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path, name));
        }
    }
}
