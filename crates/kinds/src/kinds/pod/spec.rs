//! Validation of a pod spec, for pods and for templates.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use crate::kinds::check::{format, label_selector, one_of, required, required_format, within};
use crate::kinds::edit::{has, items, text, texts};
use crate::names::{dns1123_label, dns1123_subdomain, label_value, qualified_name};

use super::{container, volume};

const MAX_INT32: i64 = 2_147_483_647;

/// Everything that is wrong with a pod spec.
pub(crate) fn validate(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let volumes = volume::validate_all(spec, &path.child("volumes"), errors);
    container::validate_all(spec, path, &volumes, errors);
    super::ephemeral::validate(spec, path, &volumes, errors);

    if text(spec, "restartPolicy").is_empty() {
        errors.push(Error::required(&path.child("restartPolicy"), ""));
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    if text(spec, "dnsPolicy").is_empty() {
        errors.push(Error::required(&path.child("dnsPolicy"), ""));
    }
    one_of(spec, "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], path, errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    crate::meta::labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    if has(spec, "securityContext") {
        security_context(&spec["securityContext"], &path.child("securityContext"), errors);
    }
    if has(spec, "affinity") {
        affinity(&spec["affinity"], &path.child("affinity"), errors);
    }
    format(spec, "serviceAccountName", dns1123_subdomain, path, errors);
    format(spec, "nodeName", dns1123_subdomain, path, errors);
    format(spec, "hostname", dns1123_label, path, errors);
    format(spec, "subdomain", dns1123_label, path, errors);
    format(spec, "priorityClassName", dns1123_subdomain, path, errors);
    format(spec, "runtimeClassName", dns1123_subdomain, path, errors);
    format(spec, "schedulerName", qualified_name, path, errors);
    within(spec, "activeDeadlineSeconds", 1, MAX_INT32, path, errors);
    one_of(spec, "preemptionPolicy", &["Never", "PreemptLowerPriority"], path, errors);
    for (i, toleration) in items(spec, "tolerations").iter().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(i), errors);
    }
    host_aliases(spec, path, errors);
    topology(spec, path, errors);
    scheduling_gates(spec, path, errors);
}

/// What holds for pods but not for templates.
pub(super) fn validate_pod_only(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
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
        let search = search.strip_suffix('.').unwrap_or(search);
        let at = path.child("searches").index(i);
        // A single dot searches from the root; names may begin with an underscore.
        let plain = search.replace('_', "a");
        if !search.is_empty() {
            errors.extend(dns1123_subdomain(&plain).into_iter().map(|m| Error::invalid(&at, search, m)));
        }
    }
    for (i, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(Error::required(&path.child("options").index(i), "must not be empty"));
        }
    }
}

fn security_context(context: &Value, path: &Path, errors: &mut Vec<Error>) {
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
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
    let mut seen = BTreeSet::new();
    for (i, sysctl) in items(context, "sysctls").iter().enumerate() {
        let path = path.child("sysctls").index(i);
        if required(sysctl, "name", &path, errors) && !seen.insert(text(sysctl, "name")) {
            errors.push(Error::duplicate(&path.child("name"), text(sysctl, "name")));
        }
    }
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
}

/// A seccomp or AppArmor profile, which have the same form.
pub(super) fn seccomp(profile: &Value, path: &Path, errors: &mut Vec<Error>) {
    if profile.is_null() {
        return;
    }
    if required(profile, "type", path, errors) {
        one_of(profile, "type", &["Localhost", "RuntimeDefault", "Unconfined"], path, errors);
    }
    let local = text(profile, "type") == "Localhost";
    if local && !has(profile, "localhostProfile") {
        errors.push(Error::required(&path.child("localhostProfile"), "must be set when seccomp type is Localhost"));
    } else if !local && has(profile, "localhostProfile") {
        errors.push(Error::invalid(
            &path.child("localhostProfile"),
            profile["localhostProfile"].clone(),
            "can only be set when seccomp type is Localhost",
        ));
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
            errors.extend(label_value(value).into_iter().map(|m| Error::invalid(&path.child("operator"), value, m)));
        }
        "Exists" => {
            if !value.is_empty() {
                let text = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&path.child("operator"), toleration.clone(), text));
            }
        }
        other => errors.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
    }
    if has(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
        let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&path.child("effect"), toleration["effect"].as_str().unwrap_or_default(), text));
    }
    one_of(toleration, "effect", &["NoExecute", "NoSchedule", "PreferNoSchedule"], path, errors);
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
        for name in texts(alias, "hostnames") {
            errors
                .extend(dns1123_subdomain(name).into_iter().map(|m| Error::invalid(&path.child("hostnames"), name, m)));
        }
    }
}

fn topology(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
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

fn affinity(affinity: &Value, path: &Path, errors: &mut Vec<Error>) {
    let node = &affinity["nodeAffinity"];
    let node_path = path.child("nodeAffinity");
    let required_terms = &node["requiredDuringSchedulingIgnoredDuringExecution"];
    if !required_terms.is_null() {
        let path = node_path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = items(required_terms, "nodeSelectorTerms");
        if terms.is_empty() {
            errors.push(Error::required(&path, "must have at least one node selector term"));
        }
        for (i, term) in terms.iter().enumerate() {
            node_selector_term(term, &path.index(i), errors);
        }
    }
    for (i, preferred) in items(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let path = node_path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
        weight(preferred, &path, errors);
        node_selector_term(&preferred["preference"], &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = &affinity[kind];
        let path = path.child(kind);
        for (i, term) in items(pods, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            pod_term(term, &path.child("requiredDuringSchedulingIgnoredDuringExecution").index(i), errors);
        }
        for (i, preferred) in items(pods, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
            weight(preferred, &path, errors);
            pod_term(&preferred["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &Path, errors: &mut Vec<Error>) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Vec<Error>) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    if text(term, "topologyKey").is_empty() {
        errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    } else {
        format(term, "topologyKey", qualified_name, path, errors);
    }
}

fn node_selector_term(term: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (i, expression) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        required_format(expression, "key", qualified_name, &path, errors);
        let values = items(expression, "values").len();
        match text(expression, "operator") {
            "In" | "NotIn" => {
                if values == 0 {
                    let text = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(Error::required(&path.child("values"), text));
                }
            }
            "Exists" | "DoesNotExist" => {
                if values > 0 {
                    let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(Error::forbidden(&path.child("values"), text));
                }
            }
            "Gt" | "Lt" => {
                if values != 1 {
                    let text = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.push(Error::required(&path.child("values"), text));
                }
            }
            other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
    }
}
