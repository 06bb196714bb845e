//! What the init containers are told: `kubetask context git` clones a repository, `kubetask context fetch` fetches files
//! and assembles those in which they take part, `kubetask context changes` waits for the agent's end and tells what it
//! changed. All of it is plain JSON; secrets are named, never contained.

use serde::{Deserialize, Serialize};

/// The environment variable that holds a [`GitJob`] for `kubetask context git`, or a [`ChangesJob`] for `kubetask context
/// changes`.
pub const GIT_ENV: &str = "KUBETASK_CONTEXT";
/// The key and file of the [`FetchPlan`] for `kubetask context fetch FILE`.
pub const PLAN_KEY: &str = "plan.json";
/// Where the Task's ConfigMap is mounted in init containers.
pub const FILES_DIR: &str = "/kubetask/files";
/// Where the Task's Secret is mounted in init containers.
pub const SECRETS_DIR: &str = "/kubetask/secrets";
/// Where the volume for fetched files is mounted in init containers.
pub const OUT_DIR: &str = "/kubetask/out";
/// Where a repository's credentials are mounted: the keys of its Secret as files.
pub const CREDENTIALS_DIR: &str = "/kubetask/credentials";
/// Where the Secret with a repository's carried work is mounted.
pub const WORK_DIR: &str = "/kubetask/work";
/// The key and file of the carried work: a Git bundle.
pub const BUNDLE_KEY: &str = "bundle";
/// Where it is kept how repositories were before the agent began; the agent does not see it.
pub const BASE_DIR: &str = "/kubetask/base";
/// The ref of a bundle whose differences to the checked out commit stay uncommitted.
pub const WORK_REF: &str = "refs/kubetask/work";

/// A repository to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitJob {
    /// Where to clone from.
    pub url: String,
    /// A branch, tag or commit; the remote's HEAD when unset.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub ref_: Option<String>,
    /// Where the checkout goes.
    pub path: String,
    /// How many commits of history; 0 for all.
    pub depth: i32,
    /// A directory with `token`, with `username` and `password`, or with `ssh-privatekey` and perhaps `known_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// A Git bundle with work to put on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// Where to keep how the checkout is before the agent begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Repositories whose changes are collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangesJob {
    /// In order.
    pub repositories: Vec<ChangesOf>,
}

/// A repository whose changes are collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangesOf {
    /// Where the checkout is.
    pub path: String,
    /// Where it is kept how it was.
    pub base: String,
    /// What is not part of it, relative to the checkout: other mounts, other checkouts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl GitJob {
    /// The directory of the node to clone from, where the URL names one (`file:///path`, or an absolute path): it must be
    /// mounted for the init container, which sees nothing else of the node.
    pub fn local_directory(&self) -> Option<&str> {
        let path = self.url.strip_prefix("file://").unwrap_or(&self.url);
        let path = path.strip_suffix('/').unwrap_or(path);
        // git decodes percent signs in URLs; a path with one cannot be told apart from an encoded one.
        (path.starts_with('/') && !path.contains('%')).then_some(path)
    }
}

/// Files to fetch and assemble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchPlan {
    /// In order.
    pub files: Vec<FetchFile>,
}

/// One file to assemble; [`super::aggregate`](fn@super::aggregate) says how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchFile {
    /// Where the agent will see it, for messages.
    pub path: String,
    /// Where to write it.
    pub output: String,
    /// What it consists of, in order.
    pub parts: Vec<FetchPart>,
}

/// One content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum FetchPart {
    /// A file that is mounted already.
    Local {
        /// Its path.
        file: String,
    },
    /// A file to fetch.
    Remote {
        /// From where, http or https.
        url: String,
        /// Headers of the request.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<FetchHeader>,
    },
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The environment variable with its value; the header is left out when that is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_directories_of_urls() {
        let check = |url: &str, expect: Option<&str>| {
            let job = GitJob {
                url: url.to_owned(),
                ref_: None,
                path: String::new(),
                depth: 1,
                credentials: None,
                work: None,
                base: None,
            };
            assert_eq!(job.local_directory(), expect, "{url}");
        };
        check("file:///home/me/project", Some("/home/me/project"));
        check("file:///home/me/project/", Some("/home/me/project"));
        check("/srv/git/x.git", Some("/srv/git/x.git"));
        check("file:///a%20b", None);
        check("file:///", None);
        check("https://example.test/a/b", None);
        check("git@example.test:a/b", None);
    }
}
