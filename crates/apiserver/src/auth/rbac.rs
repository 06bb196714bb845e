//! Role-based access control: rules of the stored Roles and ClusterRoles that bindings give to a user.
//!
//! Objects are read from the store at each decision; what was decoded stays beside their bytes, so a decision costs a
//! walk over the bindings. A few rules hold without any object, so that a fresh server can be discovered.

use std::sync::Arc;

use kubetask_store::{Entry, ListOptions, Store};
use serde_json::Value;

use super::{AUTHENTICATED, MASTERS, User};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Path of a request that is not about a resource.
    pub(crate) path: Option<&'a str>,
}

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) paths: Vec<String>,
}

/// Whether `user` may do it; the reason says which rule allowed it.
pub(crate) fn authorize(store: &Store, user: &User, what: &Attributes<'_>) -> Option<String> {
    if user.in_group(MASTERS) {
        return Some(String::new());
    }
    if let Some((role, group, _)) = fixed_rules(user).iter().find(|(_, _, rule)| rule.allows(what)) {
        return Some(format!(
            "RBAC: allowed by ClusterRoleBinding \"{role}\" of ClusterRole \"{role}\" to Group \"{group}\""
        ));
    }
    let mut found = None;
    visit(store, user, what.namespace, &mut |source, rules| {
        let allowed = rules.iter().any(|rule| rule.allows(what));
        if allowed {
            found = Some(format!("RBAC: allowed by {source}"));
        }
        allowed
    });
    found
}

/// All rules that apply to a user in a namespace.
pub(crate) fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Rule> {
    let all = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut out = Vec::new();
    if user.in_group(MASTERS) {
        out.push(Rule { verbs: all(&["*"]), groups: all(&["*"]), resources: all(&["*"]), ..Rule::default() });
        out.push(Rule { verbs: all(&["*"]), paths: all(&["*"]), ..Rule::default() });
    }
    out.extend(fixed_rules(user).into_iter().map(|(_, _, rule)| rule));
    visit(store, user, namespace, &mut |_, rules| {
        out.extend(rules.iter().cloned());
        false
    });
    out
}

/// What Kubernetes' bootstrap roles `system:discovery`, `system:basic-user` and `system:public-info-viewer` give, with the
/// role and the group that has it.
fn fixed_rules(user: &User) -> Vec<(&'static str, &'static str, Rule)> {
    let all = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let public = ["/healthz", "/livez", "/readyz", "/version", "/version/", "/readyz/*", "/livez/*", "/healthz/*"];
    let known = user.in_group(AUTHENTICATED);
    let everybody = if known { AUTHENTICATED } else { "system:unauthenticated" };
    let viewer = Rule { verbs: all(&["get", "head"]), paths: all(&public), ..Rule::default() };
    let mut rules = vec![("system:public-info-viewer", everybody, viewer)];
    if known {
        let discovery = [
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/openapi",
            "/openapi/*",
            "/.well-known/openid-configuration",
            "/openid/v1/jwks",
        ];
        let discovery = Rule { verbs: all(&["get", "head"]), paths: all(&discovery), ..Rule::default() };
        rules.push(("system:discovery", AUTHENTICATED, discovery));
        let mut basic = |rule: Rule| rules.push(("system:basic-user", AUTHENTICATED, rule));
        basic(Rule {
            verbs: all(&["create"]),
            groups: all(&["authorization.k8s.io"]),
            resources: all(&["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            ..Rule::default()
        });
        basic(Rule {
            verbs: all(&["create"]),
            groups: all(&["authentication.k8s.io"]),
            resources: all(&["selfsubjectreviews"]),
            ..Rule::default()
        });
    }
    rules
}

impl Rule {
    fn allows(&self, what: &Attributes<'_>) -> bool {
        if !any(&self.verbs, what.verb) {
            return false;
        }
        if let Some(path) = what.path {
            return self
                .paths
                .iter()
                .any(|p| p == path || p == "*" || p.strip_suffix('*').is_some_and(|s| path.starts_with(s)));
        }
        any(&self.groups, what.group)
            && self.resources.iter().any(|r| covers(r, what.resource, what.subresource))
            && (self.names.is_empty() || self.names.iter().any(|n| n == what.name))
    }

    fn parse(value: &Value) -> Self {
        let strings = |name: &str| strings(&value[name]);
        Self {
            verbs: strings("verbs"),
            groups: strings("apiGroups"),
            resources: strings("resources"),
            names: strings("resourceNames"),
            paths: strings("nonResourceURLs"),
        }
    }
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn covers(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some(("*", sub)) => sub == subresource,
        Some((name, sub)) => name == resource && sub == subresource,
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map_or_else(Vec::new, |items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Calls `use_rules` with the rules of each binding of the user until it says to stop.
fn visit(store: &Store, user: &User, namespace: &str, use_rules: &mut dyn FnMut(&str, &[Rule]) -> bool) {
    let cluster = list(store, "clusterrolebindings", "");
    let local = if namespace.is_empty() { Vec::new() } else { list(store, "rolebindings", &format!("{namespace}/")) };
    for (kind, entry) in
        cluster.iter().map(|e| ("ClusterRoleBinding", e)).chain(local.iter().map(|e| ("RoleBinding", e)))
    {
        let binding = parsed(entry);
        let bound = binding["subjects"].as_array().is_some_and(|s| s.iter().any(|s| is_subject(s, user, namespace)));
        if !bound {
            continue;
        }
        let role = &binding["roleRef"];
        let name = role["name"].as_str().unwrap_or_default();
        let rules = match role["kind"].as_str() {
            Some("ClusterRole") => cluster_role(store, name),
            Some("Role") => store.get(&bucket("roles"), &format!("{namespace}/{name}")).map(|e| rules(&parsed(&e))),
            _ => None,
        };
        let source = format!("{kind} {:?} of {} {name:?}", &*entry.key, role["kind"].as_str().unwrap_or_default());
        if rules.is_some_and(|rules| use_rules(&source, &rules)) {
            return;
        }
    }
}

fn cluster_role(store: &Store, name: &str) -> Option<Vec<Rule>> {
    let entry = store.get(&bucket("clusterroles"), name)?;
    let role = parsed(&entry);
    let mut out = rules(&role);
    // An aggregated role is the union of those its label selectors choose.
    if let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() {
        for entry in list(store, "clusterroles", "") {
            let facts = crate::object::facts(&entry);
            let chosen = selectors.iter().any(|selector| {
                let wanted = selector["matchLabels"].as_object();
                wanted.is_some_and(|w| w.iter().all(|(k, v)| facts.labels.get(k) == v.as_str()))
            });
            if chosen && &*entry.key != name {
                out.extend(rules(&parsed(&entry)));
            }
        }
    }
    Some(out)
}

/// The rules of a role; `None` where there is none of that name.
pub(super) fn role_rules(store: &Store, plural: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
    if plural == "clusterroles" {
        return cluster_role(store, name);
    }
    store.get(&bucket(plural), &format!("{namespace}/{name}")).map(|entry| rules(&parsed(&entry)))
}

pub(super) fn rules(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().map_or_else(Vec::new, |rules| rules.iter().map(Rule::parse).collect())
}

fn is_subject(subject: &Value, user: &User, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user.name,
        Some("Group") => user.in_group(name),
        Some("ServiceAccount") => {
            let of = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{of}:{name}")
        }
        _ => false,
    }
}

fn bucket(plural: &str) -> Arc<str> {
    crate::registry::builtin("rbac.authorization.k8s.io", "v1", plural)
        .map_or_else(|| plural.into(), |r| r.bucket.clone())
}

fn list(store: &Store, plural: &str, prefix: &str) -> Vec<Arc<Entry>> {
    let options = ListOptions { prefix, ..ListOptions::default() };
    store.list(&bucket(plural), &options).map(|snapshot| snapshot.entries).unwrap_or_default()
}

fn parsed(entry: &Entry) -> Arc<Value> {
    crate::object::facts(entry).value.get_or_init(|| Arc::new(crate::object::decode(entry))).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: &[&str], names: &[&str], resource: &str, subresource: &str, name: &str, want: bool) {
        let all = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let rule = Rule {
            verbs: all(&["get"]),
            groups: all(&[""]),
            resources: all(resources),
            names: all(names),
            paths: vec![],
        };
        let what = Attributes { verb: "get", resource, subresource, name, ..Attributes::default() };
        assert_eq!(rule.allows(&what), want, "{resources:?} {names:?} on {resource}/{subresource} {name}");
    }

    #[test]
    fn rules() {
        check(&["pods"], &[], "pods", "", "a", true);
        check(&["pods"], &[], "pods", "log", "a", false);
        check(&["pods/log"], &[], "pods", "log", "a", true);
        check(&["*/log"], &[], "pods", "log", "a", true);
        check(&["pods/*"], &[], "pods", "log", "a", false);
        check(&["*"], &[], "pods", "log", "a", true);
        check(&["pods"], &["b"], "pods", "", "a", false);
        check(&["pods"], &["b", "a"], "pods", "", "a", true);
    }

    #[test]
    fn anonymous_sees_health_and_version_only() {
        let Ok(store) = Store::in_memory(kubetask_store::Options::default()) else { return };
        let get = |user: &User, path: &str| {
            let what = Attributes { verb: "get", path: Some(path), ..Attributes::default() };
            authorize(&store, user, &what).is_some()
        };
        let (nobody, somebody) = (User::anonymous(), User::new("u", Vec::<String>::new()));
        assert!(get(&nobody, "/healthz") && get(&nobody, "/version") && get(&nobody, "/readyz/ping"));
        assert!(!get(&nobody, "/api") && !get(&nobody, "/metrics"));
        assert!(get(&somebody, "/api") && get(&somebody, "/apis/batch/v1") && !get(&somebody, "/metrics"));
    }
}
