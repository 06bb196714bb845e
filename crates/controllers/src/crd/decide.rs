//! What a definition's status should say, given the other definitions of its group.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition as Condition, CustomResourceDefinitionNames as Names,
    CustomResourceDefinitionStatus as Status,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

type Crd = CustomResourceDefinition;

/// The annotation by which groups of Kubernetes' own domain are approved.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Whether the server should serve the kind.
pub(crate) fn is_established(crd: &Crd) -> bool {
    let conditions = crd.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
}

/// The new status, if it differs.
pub(crate) fn status(crd: &Crd, others: &[Arc<Crd>], now: Timestamp) -> Option<Status> {
    let old = crd.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let accepted = old.accepted_names.clone().unwrap_or_default();
    let (names, conflict) = accept(&crd.spec.names, accepted, &taken(&crd.spec.group, others));
    new.accepted_names = Some(names);

    let conditions = new.conditions.get_or_insert_default();
    match conflict {
        None => set(conditions, now, "NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, name)) => {
            set(conditions, now, "NamesAccepted", false, reason, &format!("\"{name}\" is already in use"));
        }
    }
    if let Some((conformant, reason, message)) = approval(crd) {
        set(conditions, now, "KubernetesAPIApprovalPolicyConformant", conformant, reason, &message);
    }
    // Once established it stays so: there may be objects.
    if !is_established(crd) {
        if conflict.is_none() {
            let message = "the initial names have been accepted";
            set(conditions, now, "Established", true, "InitialNamesAccepted", message);
        } else {
            set(conditions, now, "Established", false, "NotAccepted", "not all names are accepted");
        }
    }
    let stored = new.stored_versions.get_or_insert_default();
    for version in crd.spec.versions.iter().filter(|v| v.storage) {
        if !stored.contains(&version.name) {
            stored.push(version.name.clone());
        }
    }
    (new != old).then_some(new)
}

/// Sets a condition; its time changes with its status only.
pub(super) fn set(
    conditions: &mut Vec<Condition>,
    now: Timestamp,
    type_: &str,
    status: bool,
    reason: &str,
    message: &str,
) {
    let status = if status { "True" } else { "False" };
    let found = conditions.iter().position(|c| c.type_ == type_);
    let since = match found.map(|i| &conditions[i]) {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => Some(Time(now)),
    };
    let condition = Condition {
        last_transition_time: since,
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
        status: status.to_owned(),
        type_: type_.to_owned(),
        ..Condition::default()
    };
    match found {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}

/// The names that other definitions of the group hold.
#[derive(Default)]
struct Taken {
    resources: Vec<String>,
    kinds: Vec<String>,
}

fn taken(group: &str, others: &[Arc<Crd>]) -> Taken {
    let mut taken = Taken::default();
    for other in others.iter().filter(|o| o.spec.group == group) {
        let Some(names) = other.status.as_ref().and_then(|s| s.accepted_names.as_ref()) else { continue };
        taken.resources.push(names.plural.clone());
        taken.resources.extend(names.singular.clone());
        taken.resources.extend(names.short_names.iter().flatten().cloned());
        taken.kinds.push(names.kind.clone());
        taken.kinds.extend(names.list_kind.clone());
    }
    taken
}

/// The names to accept, keeping the old ones where the wanted are taken, and the last conflict found.
fn accept<'a>(wanted: &'a Names, mut accepted: Names, taken: &Taken) -> (Names, Option<(&'static str, &'a str)>) {
    let is_free = |name: &str, held: bool, taken: &[String]| held || !taken.iter().any(|t| t == name);
    let mut conflict = None;

    if is_free(&wanted.plural, wanted.plural == accepted.plural, &taken.resources) {
        accepted.plural.clone_from(&wanted.plural);
    } else {
        conflict = Some(("PluralConflict", wanted.plural.as_str()));
    }
    match wanted.singular.as_deref() {
        Some(name) if !is_free(name, wanted.singular == accepted.singular, &taken.resources) => {
            conflict = Some(("SingularConflict", name));
        }
        _ => accepted.singular.clone_from(&wanted.singular),
    }
    let held = accepted.short_names.clone().unwrap_or_default();
    let mut shorts = wanted.short_names.iter().flatten();
    match shorts.find(|name| !is_free(name, held.contains(name), &taken.resources)) {
        Some(name) => conflict = Some(("ShortNamesConflict", name)),
        None => accepted.short_names.clone_from(&wanted.short_names),
    }
    if is_free(&wanted.kind, wanted.kind == accepted.kind, &taken.kinds) {
        accepted.kind.clone_from(&wanted.kind);
    } else {
        conflict = Some(("KindConflict", wanted.kind.as_str()));
    }
    match wanted.list_kind.as_deref() {
        Some(name) if !is_free(name, wanted.list_kind == accepted.list_kind, &taken.kinds) => {
            conflict = Some(("ListKindConflict", name));
        }
        _ => accepted.list_kind.clone_from(&wanted.list_kind),
    }
    accepted.categories.clone_from(&wanted.categories);
    (accepted, conflict)
}

/// For groups of Kubernetes' own domain: whether their annotation says that they were approved.
fn approval(crd: &Crd) -> Option<(bool, &'static str, String)> {
    let group = crd.spec.group.as_str();
    let protected = [".k8s.io", ".kubernetes.io"].iter().any(|d| group.ends_with(d) || group == &d[1..]);
    if !protected {
        return None;
    }
    let annotation = crd.metadata.annotations.iter().flatten().find(|(key, _)| *key == APPROVED);
    let value = annotation.map(|(_, value)| value.as_str()).unwrap_or_default();
    if value.is_empty() {
        let message = format!(
            "protected groups must have approval annotation \"{APPROVED}\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        Some((false, "MissingAnnotation", message))
    } else if value.starts_with("unapproved") {
        Some((false, "UnapprovedAnnotation", format!("not approved: \"{value}\"")))
    } else if value.starts_with("http://") || value.starts_with("https://") {
        Some((true, "ApprovedAnnotation", format!("approved in {value}")))
    } else {
        let message = format!(
            "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        Some((false, "InvalidAnnotation", message))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(plural: &str, kind: &str, status: serde_json::Value) -> Arc<Crd> {
        let value = json!({
            "metadata": { "name": format!("{plural}.example.test") },
            "spec": {
                "group": "example.test", "scope": "Namespaced",
                "names": { "plural": plural, "singular": plural.trim_end_matches('s'), "kind": kind, "listKind": format!("{kind}List") },
                "versions": [{ "name": "v1", "served": true, "storage": true }],
            },
            "status": status,
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn settled(crd: &Crd, others: &[Arc<Crd>]) -> Arc<Crd> {
        let mut crd = crd.clone();
        if let Some(status) = status(&crd, others, Timestamp::UNIX_EPOCH) {
            crd.status = Some(status);
        }
        assert_eq!(status(&crd, others, Timestamp::MAX), None, "a settled status is left alone");
        Arc::new(crd)
    }

    fn conditions(crd: &Crd) -> Vec<String> {
        let conditions = crd.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions
            .map(|c| {
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                format!("{}={} {}: {}", c.type_, c.status, text(&c.reason), text(&c.message))
            })
            .collect()
    }

    #[test]
    fn free_names_are_accepted() {
        let things = settled(&crd("things", "Thing", json!(null)), &[]);
        assert_eq!(
            conditions(&things),
            [
                "NamesAccepted=True NoConflicts: no conflicts found",
                "Established=True InitialNamesAccepted: the initial names have been accepted"
            ]
        );
        let status = things.status.clone().unwrap();
        assert_eq!(status.accepted_names, Some(things.spec.names.clone()));
        assert_eq!(status.stored_versions, Some(vec!["v1".to_owned()]));
    }

    #[test]
    fn a_kind_that_is_in_use_is_not_accepted_until_it_is_free() {
        let things = settled(&crd("things", "Thing", json!(null)), &[]);
        let stuffs = settled(&crd("stuffs", "Thing", json!(null)), std::slice::from_ref(&things));
        assert_eq!(
            conditions(&stuffs),
            [
                "NamesAccepted=False ListKindConflict: \"ThingList\" is already in use",
                "Established=False NotAccepted: not all names are accepted"
            ]
        );
        let names = stuffs.status.as_ref().and_then(|s| s.accepted_names.clone()).unwrap();
        assert_eq!((names.plural.as_str(), names.kind.as_str(), names.list_kind), ("stuffs", "", None));
        assert!(is_established(&settled(&stuffs, &[])));
    }

    #[test]
    fn an_established_kind_stays_so() {
        let things = settled(&crd("things", "Thing", json!(null)), &[]);
        let others = crd("x", "Thing", json!({ "acceptedNames": { "plural": "things", "kind": "Other" } }));
        let mut renamed = (*things).clone();
        renamed.spec.names.kind = "Other".to_owned();
        let renamed = settled(&renamed, &[others]);
        assert!(is_established(&renamed));
        assert_eq!(conditions(&renamed)[0], "NamesAccepted=False KindConflict: \"Other\" is already in use");
    }

    #[test]
    fn kubernetes_own_groups_need_approval() {
        let check = |annotation: Option<&str>, expected: &str| {
            let mut crd = (*crd("things", "Thing", json!(null))).clone();
            crd.spec.group = "x.k8s.io".to_owned();
            crd.metadata.annotations = annotation.map(|a| [(APPROVED.to_owned(), a.to_owned())].into());
            assert_eq!(conditions(&settled(&crd, &[]))[1], expected);
        };
        check(
            Some("https://example.test/1"),
            "KubernetesAPIApprovalPolicyConformant=True ApprovedAnnotation: approved in https://example.test/1",
        );
        check(
            Some("unapproved, experiment"),
            "KubernetesAPIApprovalPolicyConformant=False UnapprovedAnnotation: not approved: \"unapproved, experiment\"",
        );
    }
}
