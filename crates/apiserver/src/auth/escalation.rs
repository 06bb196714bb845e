//! Nobody gives away rights that they do not have: who writes a role must hold all that it allows, or be allowed to
//! `escalate` it; who binds a role must hold all that it allows, or be allowed to `bind` it.

use std::collections::BTreeSet;

use kubetask_store::Store;
use serde_json::Value;

use super::rbac::{self, Attributes, Rule};
use super::{MASTERS, User};
use crate::registry::Resource;
use crate::status::{Failure, GroupResource, Result};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a write of `user`; `old` is what an update changes.
pub(crate) fn check(
    store: &Store,
    user: &User,
    resource: &Resource,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<()> {
    if resource.group != GROUP || user.in_group(MASTERS) || old.is_some_and(|old| same_rights(new, old)) {
        return Ok(());
    }
    let name = crate::object::meta(new, "name");
    let may = |verb: &str, resource: &str, name: &str| {
        let what = Attributes { verb, group: GROUP, resource, namespace, name, ..Attributes::default() };
        rbac::authorize(store, user, &what).is_some()
    };
    let wanted = match resource.plural.as_str() {
        plural @ ("roles" | "clusterroles") => {
            if may("escalate", plural, name) {
                return Ok(());
            }
            if new["aggregationRule"].is_object() {
                let everything = [Rule::all_resources(), Rule::all_paths()];
                if let Err(why) = confirm(store, user, namespace, &everything) {
                    let why = format!("must have cluster-admin privileges to use an aggregationRule: {why}");
                    return Err(Failure::forbidden(resource.gr(), name, &why));
                }
            }
            rbac::rules(new)
        }
        "rolebindings" | "clusterrolebindings" => {
            let reference = &new["roleRef"];
            let role = reference["name"].as_str().unwrap_or_default();
            let plural = match reference["kind"].as_str() {
                Some("Role") => "roles",
                Some("ClusterRole") => "clusterroles",
                // Refused by validation.
                _ => return Ok(()),
            };
            if may("bind", plural, role) {
                return Ok(());
            }
            rbac::role_rules(store, plural, namespace, role)
                .ok_or_else(|| Failure::not_found(GroupResource { group: GROUP, resource: plural }, role))?
        }
        _ => return Ok(()),
    };
    confirm(store, user, namespace, &wanted).map_err(|why| Failure::forbidden(resource.gr(), name, &why))
}

/// Whether an update leaves alone what an object allows.
fn same_rights(new: &Value, old: &Value) -> bool {
    ["rules", "aggregationRule", "roleRef", "subjects"].iter().all(|member| new[*member] == old[*member])
        && ["labels", "annotations"].iter().all(|member| new["metadata"][*member] == old["metadata"][*member])
}

fn confirm(store: &Store, user: &User, namespace: &str, wanted: &[Rule]) -> std::result::Result<(), String> {
    let held = rbac::rules_for(store, user, namespace);
    let missing: Vec<Rule> =
        wanted.iter().flat_map(Rule::atoms).filter(|atom| !held.iter().any(|rule| rule.covers(atom))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = compact(missing).iter().map(Rule::show).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    Err(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    ))
}

/// Puts rules together that differ in their verbs only.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let like = |known: &&mut Rule| {
            rule.paths.is_empty()
                && (&known.groups, &known.resources, &known.names, &known.paths)
                    == (&rule.groups, &rule.resources, &rule.names, &rule.paths)
        };
        match out.iter_mut().find(like) {
            Some(known) => {
                let new = rule.verbs.into_iter().filter(|verb| !known.verbs.contains(verb)).collect::<Vec<_>>();
                known.verbs.extend(new);
            }
            None => out.push(rule),
        }
    }
    out
}

fn quoted(list: &[String]) -> String {
    let list: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", list.join(" "))
}

impl Rule {
    fn all_resources() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), groups: all(), resources: all(), ..Self::default() }
    }

    fn all_paths() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), paths: all(), ..Self::default() }
    }

    /// The rule as many small ones: one verb on one resource, or one name of it, or one path.
    fn atoms(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom =
                        Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                    if self.names.is_empty() {
                        out.push(atom);
                        continue;
                    }
                    out.extend(self.names.iter().map(|name| Self { names: one(name), ..atom.clone() }));
                }
            }
        }
        for path in &self.paths {
            out.extend(self.verbs.iter().map(|verb| Self { verbs: one(verb), paths: one(path), ..Self::default() }));
        }
        out
    }

    /// Whether this rule allows all that a small one does.
    fn covers(&self, atom: &Self) -> bool {
        let all = |have: &[String], want: &[String]| {
            have.iter().any(|item| item == "*") || want.iter().all(|item| have.contains(item))
        };
        let resource = |want: &String| {
            self.resources.contains(want)
                || want.split_once('/').is_some_and(|(_, sub)| self.resources.contains(&format!("*/{sub}")))
        };
        let path = |want: &String| {
            let fits =
                |have: &String| have == want || have.strip_suffix('*').is_some_and(|start| want.starts_with(start));
            self.paths.iter().any(fits)
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && (self.resources.iter().any(|item| item == "*") || atom.resources.iter().all(resource))
            && atom.paths.iter().all(path)
            && (self.names.is_empty() || (!atom.names.is_empty() && all(&self.names, &atom.names)))
    }

    fn show(&self) -> String {
        let members = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let members: Vec<String> = members
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", members.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: &Value) -> Rule {
        rbac::rules(&json!({"rules": [value]})).remove(0)
    }

    #[test]
    fn rules_cover_rules() {
        let covers = |have: Value, want: Value| {
            let have = rule(&have);
            rule(&want).atoms().iter().all(|atom| have.covers(atom))
        };
        let get = json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]});
        assert!(covers(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), get.clone()));
        assert!(!covers(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}), get.clone()));
        assert!(covers(json!({"apiGroups": [""], "resources": ["pods", "*/log"], "verbs": ["get", "list"]}), get));
        let named = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]});
        let any = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        assert!(covers(any.clone(), named.clone()) && covers(named.clone(), named.clone()) && !covers(named, any));
        let paths = |path: &str| json!({"nonResourceURLs": [path], "verbs": ["get"]});
        assert!(covers(paths("/a/*"), paths("/a/b")) && !covers(paths("/a"), paths("/a/b")));
        assert!(!covers(paths("*"), json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})));
    }

    #[test]
    fn what_is_missing_is_put_together() {
        let wide = rule(&json!({"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}));
        let shown: Vec<String> = compact(wide.atoms()).iter().map(Rule::show).collect();
        assert_eq!(
            shown,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#
            ]
        );
    }
}
