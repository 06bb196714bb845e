//! Network policies: stored, and said not to be enforced.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::check::{label_selector, one_of, selector_text};
use super::edit::{copy, default, ensure, first_generation, has, items, items_mut};
use super::finalizers;
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name};

/// What everyone who writes a network policy is told.
const NOT_ENFORCED: &str = "this node does not enforce network policies: the policy is stored and has no effect";

pub(crate) const POLICY: Hooks = Hooks {
    default: default_policy,
    prepare_create: first_generation,
    prepare_update,
    validate,
    validate_update: |new, _, _, errors| validate(new, errors),
    warnings: |_, _, out| out.push(NOT_ENFORCED.to_owned()),
    columns: || &COLUMNS,
    row,
    ..Hooks::NONE
};

fn prepare_update(new: &mut Value, old: &Value, _: Part) {
    copy(new, old, "status");
    let changed = new["spec"] != old["spec"];
    super::edit::bump_generation(new, old, changed);
}

fn default_policy(policy: &mut Value) {
    let Some(spec) = ensure(policy, "spec") else { return };
    for rules in ["ingress", "egress"] {
        for rule in items_mut(spec, rules) {
            for port in items_mut(rule, "ports") {
                default(port, "protocol", "TCP");
            }
        }
    }
    if items(spec, "policyTypes").is_empty() {
        let types = if has(spec, "egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        super::edit::set(spec, "policyTypes", types);
    }
}

fn validate(policy: &Value, errors: &mut Vec<Error>) {
    finalizers(policy, errors);
    let (spec, path) = (&policy["spec"], Path::new("spec"));
    label_selector(&spec["podSelector"], &path.child("podSelector"), errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(spec, rules).iter().enumerate() {
            let path = path.child(rules).index(i);
            for (j, port) in items(rule, "ports").iter().enumerate() {
                one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path.child("ports").index(j), errors);
            }
            for (j, peer) in items(rule, peers).iter().enumerate() {
                peer_selectors(peer, &path.child(peers).index(j), errors);
            }
        }
    }
    for (i, type_) in items(spec, "policyTypes").iter().filter_map(Value::as_str).enumerate() {
        if !["Egress", "Ingress"].contains(&type_) {
            errors.push(Error::not_supported(&path.child("policyTypes").index(i), type_, &["Egress", "Ingress"]));
        }
    }
}

fn peer_selectors(peer: &Value, path: &Path, errors: &mut Vec<Error>) {
    let selectors = ["podSelector", "namespaceSelector"];
    if selectors.iter().all(|s| !has(peer, s)) && !has(peer, "ipBlock") {
        errors.push(Error::required(path, "must specify a peer"));
    }
    if has(peer, "ipBlock") && selectors.iter().any(|s| has(peer, s)) {
        errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
    }
    for selector in selectors {
        label_selector(&peer[selector], &path.child(selector), errors);
    }
}

static COLUMNS: [Column; 3] = [
    NAME,
    column(
        "Pod-Selector",
        "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
        0,
    ),
    AGE,
];

fn row(policy: &Value, now: Timestamp) -> Row {
    let selector = Value::from(selector_text(&policy["spec"]["podSelector"]));
    Row { cells: vec![name(policy), selector, age(policy, now)], conditions: Vec::new() }
}
