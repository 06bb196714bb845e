//! What the conditions of a namespace that is being deleted say.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition as Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::content::Found;

/// All five conditions, in the order in which Kubernetes writes them.
pub(super) fn of(found: &Found, old: &[Condition], now: Timestamp) -> Vec<Condition> {
    let list = |items: &BTreeMap<String, usize>, separator: &str, what: &str| {
        let texts: Vec<_> = items.iter().map(|(name, n)| format!("{name} {separator} {n} {what}")).collect();
        texts.join(", ")
    };
    let discovery = match &found.discovery_error {
        None => (false, "ResourcesDiscovered", "All resources successfully discovered".to_owned()),
        Some(error) => (true, "DiscoveryFailed", format!("Discovery failed for some groups: {error}")),
    };
    let parsing = (false, "ParsedGroupVersions", "All legacy kube types successfully parsed".to_owned());
    let content = match found.errors.as_slice() {
        [] => (false, "ContentDeleted", "All content successfully deleted, may be waiting on finalization".to_owned()),
        errors => (
            true,
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {} remaining: {}", errors.len(), errors.join(", ")),
        ),
    };
    let remaining = if found.left.is_empty() {
        (false, "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        let items = list(&found.left, "has", "resource instances");
        (true, "SomeResourcesRemain", format!("Some resources are remaining: {items}"))
    };
    let finalizers = if found.finalizers.is_empty() {
        (false, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let items = list(&found.finalizers, "in", "resource instances");
        (true, "SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {items}"))
    };
    [
        ("NamespaceDeletionDiscoveryFailure", discovery),
        ("NamespaceDeletionGroupVersionParsingFailure", parsing),
        ("NamespaceDeletionContentFailure", content),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", finalizers),
    ]
    .into_iter()
    .map(|(type_, (status, reason, message))| {
        let status = if status { "True" } else { "False" };
        let before = old.iter().find(|c| c.type_ == type_ && c.status == status);
        Condition {
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            message: Some(message),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_why() {
        let found = Found {
            left: [("configmaps.".to_owned(), 1), ("widgets.demo.example.test".to_owned(), 2)].into(),
            finalizers: [("example.test/hold".to_owned(), 1)].into(),
            ..Found::default()
        };
        let conditions = of(&found, &[], Timestamp::UNIX_EPOCH);
        let text: Vec<_> = conditions
            .iter()
            .map(|c| {
                format!("{}={} {} {}", c.type_, c.status, c.reason.as_deref().unwrap(), c.message.as_deref().unwrap())
            })
            .collect();
        assert_eq!(
            text,
            [
                "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure=False ContentDeleted All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining=True SomeResourcesRemain Some resources are remaining: configmaps. has 1 resource instances, widgets.demo.example.test has 2 resource instances",
                "NamespaceFinalizersRemaining=True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.test/hold in 1 resource instances",
            ]
        );
        let later = of(&found, &conditions, Timestamp::MAX);
        assert_eq!(later, conditions, "times change with the status only");
    }
}
