//! What a Task works on: [`Context`], a file, a directory, a repository or a file from the network.
//!
//! Contexts appear in Tasks, in an Agent's `defaultContexts` and in Batches. The member must be the one `type` names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing the agent finds in its workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.type != 'File' || (has(self.file) && !has(self.repository) && !has(self.remoteFile))",
     "message": "a context of type File has `file` and no other member"},
    {"rule": "self.type != 'Repository' || (has(self.repository) && !has(self.file) && !has(self.remoteFile))",
     "message": "a context of type Repository has `repository` and no other member"},
    {"rule": "self.type != 'RemoteFile' || (has(self.remoteFile) && !has(self.file) && !has(self.repository))",
     "message": "a context of type RemoteFile has `remoteFile` and no other member"},
]))]
pub struct Context {
    /// The kind of context: File, Repository or RemoteFile. The member of the same name describes it.
    #[serde(rename = "type")]
    pub type_: ContextType,
    /// A file or a directory whose content comes from here, a ConfigMap or a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileContext>,
    /// A Git repository, cloned before the agent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryContext>,
    /// A file fetched over HTTP before the agent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_file: Option<RemoteFileContext>,
}

/// The kind of a [`Context`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContextType {
    #[default]
    /// Content from the manifest, a ConfigMap or a Secret.
    File,
    /// A Git repository.
    Repository,
    /// A file from a URL.
    RemoteFile,
}

/// A single file (`filePath`) or a directory (`dirPath`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.filePath) != has(self.dirPath)", "message": "set exactly one of filePath and dirPath"},
    {"rule": "!has(self.filePath) || has(self.source.inline) || has(self.source.configMapKeyRef) || has(self.source.secretKeyRef)",
     "message": "filePath needs source.inline, source.configMapKeyRef or source.secretKeyRef"},
    {"rule": "!has(self.dirPath) || has(self.source.configMapRef) || has(self.source.secretRef)",
     "message": "dirPath needs source.configMapRef or source.secretRef"},
]))]
pub struct FileContext {
    /// Where the file is mounted: an absolute path. Contexts with the same path are aggregated into one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::path")]
    pub file_path: Option<String>,
    /// Where the directory is mounted: an absolute path. Every key of the source becomes a file in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::path")]
    pub dir_path: Option<String>,
    /// Where the content comes from; exactly one member.
    pub source: FileSource,
}

/// Where a file's content comes from; exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.inline), has(self.configMapKeyRef), has(self.secretKeyRef), has(self.configMapRef), has(self.secretRef)].filter(x, x).size() == 1",
     "message": "set exactly one of inline, configMapKeyRef, secretKeyRef, configMapRef and secretRef"},
]))]
pub struct FileSource {
    /// The content itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1048576))]
    pub inline: Option<String>,
    /// One key of a ConfigMap in the Task's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// One key of a Secret in the Task's namespace. Its content is never copied into a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A whole ConfigMap as a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectRef>,
    /// A whole Secret as a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// One key of a ConfigMap or Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Go on without the content when the object or the key does not exist. Otherwise the Task waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A whole ConfigMap or Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Go on with an empty directory when the object does not exist. Otherwise the Task waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Git repository, cloned into the workspace before the agent starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.org) == has(self.repo)", "message": "org and repo belong together"},
    {"rule": "has(self.url) != has(self.repo)", "message": "set either url, or org and repo"},
]))]
pub struct RepositoryContext {
    /// The GitHub organisation or user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$"))]
    pub org: Option<String>,
    /// The repository's name at GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$"))]
    pub repo: Option<String>,
    /// Where to clone from: https, http, ssh, git, file, or scp-like (`git@host:path`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^([a-z][a-z0-9+]*://|[A-Za-z0-9_.][A-Za-z0-9_.-]*@[A-Za-z0-9_.-]+:|/)[^\s]+$")
    )]
    pub url: Option<String>,
    /// A branch, tag or commit; the remote's HEAD when unset.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$"))]
    pub ref_: Option<String>,
    /// Where the checkout goes; `/workspace/<repo>` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::path")]
    pub path: Option<String>,
    /// How many commits of history; 0 fetches all of it.
    #[serde(default = "one", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 1))]
    pub depth: Option<i32>,
    /// What the remote asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RepositoryCredentials>,
    /// Work that the remote does not have, put on top of the commit of `ref`: what `kubetask run --repo --carry` takes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<RepositoryWork>,
    /// Keep what the agent changed: when it has ended, the container `changes` writes the differences to its log as a
    /// patch, which `kubetask changes` shows and applies, and the Task's status counts them. Ignored files are no part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect_changes: Option<bool>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the field's type")]
fn one() -> Option<i32> {
    Some(1)
}

/// Work on a repository that its remote does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryWork {
    /// A Secret with `bundle`, a Git bundle. Its branch (or HEAD) is checked out; the differences to
    /// `refs/kubetask/work`, where it has that, stay uncommitted.
    pub secret_ref: SecretName,
}

/// Credentials of a Git remote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCredentials {
    /// A Secret with `token`, with `username` and `password` (kubernetes.io/basic-auth), or with `ssh-privatekey`
    /// and, if wanted, `known_hosts` (kubernetes.io/ssh-auth).
    pub secret_ref: SecretName,
}

/// A file fetched when the Task runs, before the agent starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteFileContext {
    /// Where the file is mounted: an absolute path. It takes part in aggregation.
    #[schemars(schema_with = "crate::schema::path")]
    pub file_path: String,
    /// What to fetch, over http or https.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: String,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<HttpHeader>,
}

/// One header of a request: a value, or a Secret's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.value) != has(self.valueFrom)", "message": "set exactly one of value and valueFrom"},
]))]
pub struct HttpHeader {
    /// The header's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub name: String,
    /// Its value, in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192), regex(pattern = r"^[^\r\n]*$"))]
    pub value: Option<String>,
    /// Its value from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderValueSource>,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValueSource {
    /// One key of a Secret in the Task's namespace.
    pub secret_key_ref: KeyRef,
}

impl Context {
    /// An inline file.
    pub fn inline(file_path: impl Into<String>, content: impl Into<String>) -> Self {
        Self::file(FileContext {
            file_path: Some(file_path.into()),
            dir_path: None,
            source: FileSource { inline: Some(content.into()), ..FileSource::default() },
        })
    }

    /// A File context.
    pub fn file(file: FileContext) -> Self {
        Self { type_: ContextType::File, file: Some(file), ..Self::default() }
    }

    /// A Repository context.
    pub fn repository(repository: RepositoryContext) -> Self {
        Self { type_: ContextType::Repository, repository: Some(repository), ..Self::default() }
    }

    /// A RemoteFile context.
    pub fn remote_file(remote_file: RemoteFileContext) -> Self {
        Self { type_: ContextType::RemoteFile, remote_file: Some(remote_file), ..Self::default() }
    }
}
