//! Path parsing: `/api/v1/namespaces/ns/pods/p/log` → group, version, namespace, resource, name, subresource and verb.
//!
//! Percent-encoding is undone per segment, so an encoded slash never changes the structure of a path.

use http::Method;

use super::query::{self, Query};

/// A parsed request line.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    /// The verb as authorisation and discovery name it.
    pub(crate) verb: &'static str,
    /// The path, decoded, for messages and non-resource rules.
    pub(crate) path: String,
    /// What the path points at.
    pub(crate) target: Option<Target>,
}

/// A path below `/api/v1/` or `/apis/GROUP/VERSION/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty at the cluster scope.
    pub(crate) namespace: String,
    pub(crate) resource: String,
    /// Empty for a collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource (`proxy/…`).
    pub(crate) rest: String,
    /// The deprecated `/watch/` prefix was used.
    pub(crate) watch_prefix: bool,
}

impl Info {
    /// Parses method, path and query of a request.
    pub(crate) fn parse(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = query::decode(raw_path, false).into_owned();
        let target = target(raw_path);
        let verb = match &target {
            Some(target) => resource_verb(method, target, query),
            None => method_verb(method),
        };
        Self { verb, path, target }
    }
}

fn target(raw_path: &str) -> Option<Target> {
    let mut parts: Vec<String> =
        raw_path.split('/').filter(|p| !p.is_empty()).map(|p| query::decode(p, false).into_owned()).collect();
    let (group, version, skip) = match parts.first().map(String::as_str) {
        Some("api") if parts.len() >= 3 => (String::new(), parts[1].clone(), 2),
        Some("apis") if parts.len() >= 4 => (parts[1].clone(), parts[2].clone(), 3),
        _ => return None,
    };
    parts.drain(..skip);
    let mut target = Target { group, version, ..Target::default() };
    if parts[0] == "watch" && parts.len() > 1 {
        target.watch_prefix = true;
        parts.remove(0);
    }
    if parts[0] == "namespaces"
        && let Some(namespace) = parts.get(1)
    {
        target.namespace.clone_from(namespace);
        // `namespaces/NAME/status` is about the namespace, `namespaces/NAME/pods` about what is in it.
        let inside = parts.get(2).is_some_and(|p| p != "status" && p != "finalize");
        if inside {
            parts.drain(..2);
        }
    }
    let mut parts = parts.into_iter();
    target.resource = parts.next().unwrap_or_default();
    target.name = parts.next().unwrap_or_default();
    target.subresource = parts.next().unwrap_or_default();
    target.rest = parts.collect::<Vec<_>>().join("/");
    Some(target)
}

fn resource_verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    let named = !target.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD if target.watch_prefix => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.flag("watch") == Some(true) => "watch",
        Method::GET | Method::HEAD => "list",
        _ => "",
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, query: &str, verb: &str, want: Option<[&str; 6]>) {
        let info = Info::parse(&method, path, &Query::parse(Some(query)));
        assert_eq!(info.verb, verb, "{path}");
        let got = info.target.as_ref().map(|t| {
            [&*t.group, &*t.version, &*t.namespace, &*t.resource, &*t.name, &*t.subresource].map(str::to_owned)
        });
        assert_eq!(got, want.map(|w| w.map(str::to_owned)), "{path}");
    }

    #[test]
    fn paths() {
        check(Method::GET, "/api/v1/namespaces/ns/pods/p/log", "", "get", Some(["", "v1", "ns", "pods", "p", "log"]));
        check(Method::GET, "/api/v1/namespaces/ns/pods", "watch=1", "watch", Some(["", "v1", "ns", "pods", "", ""]));
        check(Method::GET, "/api/v1/namespaces/ns/pods/p", "watch=1", "get", Some(["", "v1", "ns", "pods", "p", ""]));
        check(Method::GET, "/api/v1/namespaces/ns", "", "get", Some(["", "v1", "ns", "namespaces", "ns", ""]));
        check(
            Method::PATCH,
            "/api/v1/namespaces/ns/status",
            "",
            "patch",
            Some(["", "v1", "ns", "namespaces", "ns", "status"]),
        );
        check(Method::GET, "/api/v1/namespaces", "", "list", Some(["", "v1", "", "namespaces", "", ""]));
        check(Method::GET, "/apis/batch/v1/jobs/", "", "list", Some(["batch", "v1", "", "jobs", "", ""]));
        check(
            Method::DELETE,
            "/apis/batch/v1/namespaces/n/jobs",
            "",
            "deletecollection",
            Some(["batch", "v1", "n", "jobs", "", ""]),
        );
        check(
            Method::GET,
            "/api/v1/watch/namespaces/n/configmaps/a",
            "",
            "watch",
            Some(["", "v1", "n", "configmaps", "a", ""]),
        );
        check(Method::GET, "/api/v1/namespaces/a%2Fb/pods", "", "list", Some(["", "v1", "a/b", "pods", "", ""]));
        check(Method::GET, "/api", "", "get", None);
        check(Method::POST, "/apis/batch/v1", "", "post", None);
    }
}
