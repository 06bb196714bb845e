//! The Pod Security Standards that the labels of a namespace ask for.

use std::collections::BTreeMap;

use kubetask_kinds::Part;
use kubetask_kinds::standards::{self, Level, Policies};
use kubetask_store::ListOptions;
use serde_json::Value;

use super::super::Call;
use crate::object;
use crate::registry::Resource;
use crate::request::Target;
use crate::status::{Failure, Result};
use crate::strategy;

/// Where kinds that make pods have the spec of these.
const MAKERS: [(&str, &str, &str); 3] = [
    ("batch", "jobs", "/spec/template/spec"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template/spec"),
    ("", "podtemplates", "/template/spec"),
];

/// Refuses pods that the namespace does not want, and warns of others and of what would make such.
pub(crate) fn check(
    call: &mut Call,
    resource: &Resource,
    target: &Target,
    object: &Value,
    old: Option<&Value>,
    part: Part,
) -> Result<()> {
    if resource.is_core("namespaces") {
        return namespace(call, resource, object, old, part);
    }
    let is_pod = resource.is_core("pods");
    let maker = MAKERS.iter().find(|(group, plural, _)| *group == resource.group && *plural == resource.plural);
    let spec = match maker {
        _ if is_pod => &object["spec"],
        Some((_, _, pointer)) if part == Part::Main => object.pointer(pointer).unwrap_or(&Value::Null),
        _ => return Ok(()),
    };
    let changed = !is_pod || old.is_none_or(|old| old["spec"] != object["spec"]);
    if !changed || matches!(part, Part::Status | Part::Resize) {
        return Ok(());
    }
    let Some(policies) = policies_of(call, &target.namespace) else { return Ok(()) };
    let enforced = if is_pod { standards::violations(policies.enforce.level, spec) } else { Vec::new() };
    if !enforced.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policies.enforce, standards::sentence(&enforced));
        return Err(Failure::forbidden(resource.gr(), object::meta(object, "name"), &why));
    }
    let warned = standards::violations(policies.warn.level, spec);
    if !warned.is_empty() {
        let text = format!("would violate PodSecurity \"{}\": {}", policies.warn, standards::sentence(&warned));
        call.warnings.push(text);
    }
    Ok(())
}

/// The policies of a namespace; `None` where it has no labels that speak of them.
fn policies_of(call: &Call, namespace: &str) -> Option<Policies> {
    let namespace = super::namespace_of(call, namespace)?;
    let labels = &namespace["metadata"]["labels"];
    let speaks = labels.as_object()?.keys().any(|label| label.starts_with("pod-security.kubernetes.io/"));
    speaks.then(|| standards::policies(labels).0)
}

/// Labels that make no sense are refused; when more is enforced than before, pods that break it are named.
fn namespace(call: &mut Call, resource: &Resource, object: &Value, old: Option<&Value>, part: Part) -> Result<()> {
    if part != Part::Main {
        return Ok(());
    }
    let (now, errors) = standards::policies(&object["metadata"]["labels"]);
    let Some(old) = old else {
        return if errors.is_empty() { Ok(()) } else { Err(strategy::invalid(resource, object, &errors)) };
    };
    let (before, old_errors) = standards::policies(&old["metadata"]["labels"]);
    // What was wrong before may stay.
    if !errors.is_empty() && old_errors.is_empty() {
        return Err(strategy::invalid(resource, object, &errors));
    }
    let stricter = now.enforce != before.enforce
        && now.enforce.level != Level::Privileged
        && now.enforce.level >= before.enforce.level;
    if !errors.is_empty() || !stricter {
        return Ok(());
    }
    let name = object::meta(object, "name").to_owned();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let prefix = format!("{name}/");
    let pods = call.server.store.list("pods", &ListOptions { prefix: &prefix, ..ListOptions::default() });
    for entry in pods.iter().flat_map(|pods| &pods.entries) {
        let pod = object::decode(entry);
        let violations = standards::violations(now.enforce.level, &pod["spec"]);
        if !violations.is_empty() {
            let reasons = violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ");
            found.entry(reasons).or_default().push(object::meta(&pod, "name").to_owned());
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    call.warnings.push(format!(
        "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{}\"",
        now.enforce
    ));
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, pods)| {
            let first = pods.first().cloned().unwrap_or_default();
            match pods.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                many => format!("{first} (and {} other pods): {reasons}", many - 1),
            }
        })
        .collect();
    lines.sort();
    call.warnings.extend(lines);
    Ok(())
}
