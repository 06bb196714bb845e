//! Two things at one place: found before Kubernetes says it less clearly.

use std::collections::BTreeMap;

use super::resolve::Resolved;

/// Whether `inner` lies below `outer`.
pub(super) fn is_below(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// What cannot be mounted together, in words for the user.
pub(super) fn find(resolved: &Resolved) -> Option<String> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    let files = resolved.files.iter().map(|f| (f.path.as_str(), "file"));
    let dirs = resolved.dirs.iter().map(|d| (d.path.as_str(), "directory"));
    let repositories = resolved.repositories.iter().map(|r| (r.git.path.as_str(), "repository"));
    for (path, what) in files.chain(dirs).chain(repositories) {
        if let Some(other) = places.insert(path, what) {
            return Some(format!("{path} is a {other} in one context and a {what} in another; use different paths"));
        }
        if path == super::WORKSPACE && what != "repository" {
            return Some(format!("{path} is the workspace itself; choose a path below it"));
        }
    }
    for (path, what) in &places {
        let mut parent = *path;
        while let Some((up, _)) = parent.rsplit_once('/') {
            parent = up;
            match places.get(up) {
                Some(&"file") => {
                    return Some(format!("{path} cannot lie in {up}, which is a file; use different paths"));
                }
                Some(&"directory") => {
                    return Some(format!(
                        "the {what} {path} cannot lie in the read-only directory {up}; use different paths"
                    ));
                }
                _ => {}
            }
        }
    }
    None
}
