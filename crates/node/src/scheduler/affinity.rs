//! Selectors of nodes and pods. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub(crate) type Labels = BTreeMap<String, String>;

/// Whether a node is one of those a selector names.
pub(crate) fn node_matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, name, labels))
}

fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing matches nothing.
    let says_something = !expressions.is_empty() || !fields.is_empty();
    says_something
        && expressions.iter().all(|rule| requirement(rule, labels.get(&rule.key).map(String::as_str)))
        && fields.iter().all(|rule| rule.key == "metadata.name" && requirement(rule, Some(name)))
}

fn requirement(rule: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = rule.values.as_deref().unwrap_or_default();
    let compare = || {
        let bound: i64 = values.first()?.parse().ok()?;
        let value: i64 = value?.parse().ok()?;
        Some(value.cmp(&bound))
    };
    match rule.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|known| known == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|known| known != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

/// Whether a pod in `namespace` with these labels is one of those that a term of a pod in `own_namespace` speaks of.
pub(crate) fn term_selects(term: &PodAffinityTerm, own_namespace: &str, namespace: &str, labels: &Labels) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let in_namespace = match (&term.namespace_selector, listed) {
        // A selector of namespaces that is empty means all; others would need the namespaces' labels.
        (Some(selector), _) if is_empty(selector) => true,
        (_, []) => namespace == own_namespace,
        (_, listed) => listed.iter().any(|listed| listed == namespace),
    };
    in_namespace && term.label_selector.as_ref().is_some_and(|selector| labels_match(selector, labels))
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether labels are what a selector asks for.
pub(crate) fn labels_match(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let rules = selector.match_expressions.iter().flatten().all(|rule| {
        let value = labels.get(&rule.key);
        let values = rule.values.as_deref().unwrap_or_default();
        match rule.operator.as_str() {
            "In" => value.is_some_and(|value| values.contains(value)),
            "NotIn" => value.is_none_or(|value| !values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn node_selectors() {
        let labels: Labels =
            [("zone", "a"), ("size", "5")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let check = |term: Value, expect: bool| {
            let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": [term]})).unwrap();
            assert_eq!(node_matches(&selector, "n1", &labels), expect, "{term}");
        };
        let rule = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(rule("zone", "In", &["b", "a"]), true);
        check(rule("zone", "NotIn", &["a"]), false);
        check(rule("none", "NotIn", &["a"]), true);
        check(rule("zone", "Exists", &[]), true);
        check(rule("zone", "DoesNotExist", &[]), false);
        check(rule("size", "Gt", &["4"]), true);
        check(rule("size", "Lt", &["4"]), false);
        check(rule("zone", "Gt", &["4"]), false);
        check(json!({}), false);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), false);
    }

    #[test]
    fn pod_terms() {
        let pod = |namespace, app: &str| (namespace, Labels::from([("app".to_owned(), app.to_owned())]));
        let check = |term: Value, (namespace, labels): (&str, Labels), expect: bool| {
            let term: PodAffinityTerm = serde_json::from_value(term.clone()).unwrap();
            assert_eq!(term_selects(&term, "n", namespace, &labels), expect, "{term:?}");
        };
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}});
        check(term.clone(), pod("n", "x"), true);
        check(term.clone(), pod("m", "x"), false);
        check(term.clone(), pod("n", "y"), false);
        let mut elsewhere = term.clone();
        elsewhere["namespaces"] = json!(["m"]);
        check(elsewhere, pod("m", "x"), true);
        let mut anywhere = term;
        anywhere["namespaceSelector"] = json!({});
        check(anywhere, pod("m", "x"), true);
        check(json!({"topologyKey": "x"}), pod("n", "x"), false);
    }
}
