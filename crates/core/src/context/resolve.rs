//! From contexts to what is stored, mounted and fetched: [`resolve`].

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kubetask_api::context::{Context, ContextType, FileSource, KeyRef, RemoteFileContext, RepositoryContext};

use super::fetch::{self, FetchFile, FetchHeader, FetchPart, FetchPlan, GitJob};
use super::{OBJECT_MAX, WORKSPACE, aggregate, conflicts};
use crate::task::Waiting;

/// Where a file's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In the Task's ConfigMap.
    ConfigMap,
    /// In the Task's Secret.
    Secret,
    /// In the volume that an init container fills.
    Fetched,
}

/// A file mounted at exactly its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMount {
    /// Where.
    pub path: String,
    /// Where its content is.
    pub store: Store,
    /// The key (or file name) there.
    pub key: String,
}

/// A directory made of whole ConfigMaps and Secrets, and of files that lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirMount {
    /// Where.
    pub path: String,
    /// From what, in order.
    pub sources: Vec<DirSource>,
    /// Files below it: store, key, path relative to the directory.
    pub files: Vec<(Store, String, String)>,
}

/// A whole ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSource {
    /// A Secret rather than a ConfigMap.
    pub secret: bool,
    /// Its name.
    pub name: String,
    /// It may be missing.
    pub optional: bool,
}

/// A repository to clone before the agent starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// What the init container is told.
    pub git: GitJob,
    /// The Secret with its credentials.
    pub credentials: Option<String>,
    /// The Secret with work to put on top.
    pub work: Option<String>,
}

/// A request header whose value is a Secret's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSecret {
    /// The init container's environment variable.
    pub env: String,
    /// The Secret's key.
    pub key: KeyRef,
}

/// What the contexts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Data of the Task's ConfigMap.
    pub config_map: BTreeMap<String, Vec<u8>>,
    /// Data of the Task's Secret.
    pub secret: BTreeMap<String, Vec<u8>>,
    /// Files, in order of first appearance.
    pub files: Vec<FileMount>,
    /// Directories, in order of first appearance.
    pub dirs: Vec<DirMount>,
    /// What `kubetask context fetch` does; empty when there is nothing to fetch.
    pub fetch: FetchPlan,
    /// Secrets for its requests.
    pub headers: Vec<HeaderSecret>,
    /// Repositories, in order.
    pub repositories: Vec<Checkout>,
}

/// One content of a file.
struct Part<'a> {
    content: Content<'a>,
    /// For messages.
    source: String,
}

enum Content<'a> {
    Plain(&'a [u8]),
    Secret(&'a [u8]),
    Remote(&'a RemoteFileContext),
}

/// Objects that contexts refer to.
pub(super) struct Lookup<'a> {
    /// ConfigMaps by name.
    pub config_maps: &'a BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name.
    pub secrets: &'a BTreeMap<String, Arc<Secret>>,
}

/// Turns contexts, in order, into what must be stored, mounted and fetched; or says all that is missing.
pub fn resolve<'a>(
    contexts: impl IntoIterator<Item = &'a Context>,
    config_maps: &'a BTreeMap<String, Arc<ConfigMap>>,
    secrets: &'a BTreeMap<String, Arc<Secret>>,
) -> Result<Resolved, Vec<Waiting>> {
    let lookup = Lookup { config_maps, secrets };
    let mut collected = Collected::default();
    for context in contexts {
        collected.add(context, &lookup);
    }
    if !collected.missing.is_empty() {
        return Err(collected.missing);
    }
    let resolved = collected.store().map_err(|waiting| vec![waiting])?;
    match conflicts::find(&resolved) {
        Some(what) => Err(vec![Waiting::Invalid { what }]),
        None => Ok(resolved),
    }
}

#[derive(Default)]
struct Collected<'a> {
    /// Contents by path, in order of first appearance.
    files: Vec<(&'a str, Vec<Part<'a>>)>,
    dirs: Vec<DirMount>,
    repositories: Vec<Checkout>,
    missing: Vec<Waiting>,
}

impl<'a> Collected<'a> {
    fn add(&mut self, context: &'a Context, lookup: &Lookup<'a>) {
        // The API server checks that the member fits the type; a stored object of an older schema may not.
        match (context.type_, &context.file, &context.repository, &context.remote_file) {
            (ContextType::File, Some(file), _, _) => match (&file.file_path, &file.dir_path) {
                (Some(path), _) => self.file(path, &file.source, lookup),
                (None, Some(path)) => self.dir(path, &file.source, lookup),
                (None, None) => self.invalid("a File context needs filePath or dirPath"),
            },
            (ContextType::Repository, _, Some(repository), _) => self.repository(repository, lookup),
            (ContextType::RemoteFile, _, _, Some(remote)) => self.remote(remote, lookup),
            _ => self.invalid("a context needs the member that its type names"),
        }
    }

    fn invalid(&mut self, what: impl Into<String>) {
        self.wait(Waiting::Invalid { what: what.into() });
    }

    fn wait(&mut self, waiting: Waiting) {
        if !self.missing.contains(&waiting) {
            self.missing.push(waiting);
        }
    }

    fn push(&mut self, path: &'a str, part: Part<'a>) {
        match self.files.iter_mut().find(|(p, _)| *p == path) {
            Some((_, parts)) => parts.push(part),
            None => self.files.push((path, vec![part])),
        }
    }

    fn file(&mut self, path: &'a str, source: &'a FileSource, lookup: &Lookup<'a>) {
        if !is_clean(path) {
            return self.invalid(format!("filePath {path:?} is not an absolute, clean path"));
        }
        if let Some(inline) = &source.inline {
            let part = Part { content: Content::Plain(inline.as_bytes()), source: "inline text".to_owned() };
            return self.push(path, part);
        }
        let found = match (&source.config_map_key_ref, &source.secret_key_ref) {
            (Some(key), _) => lookup.config_map_key(key).map(|c| c.map(Content::Plain)),
            (None, Some(key)) => lookup.secret_key(key).map(|c| c.map(Content::Secret)),
            (None, None) => return self.invalid(format!("the file {path} has no source")),
        };
        match found {
            Ok(Some(content)) => {
                let source = match (&source.config_map_key_ref, &source.secret_key_ref) {
                    (Some(key), _) => format!("ConfigMap \"{}\" key \"{}\"", key.name, key.key),
                    (None, Some(key)) => format!("Secret \"{}\" key \"{}\"", key.name, key.key),
                    (None, None) => String::new(),
                };
                self.push(path, Part { content, source });
            }
            Ok(None) => {}
            Err(waiting) => self.wait(waiting),
        }
    }

    fn dir(&mut self, path: &str, source: &FileSource, lookup: &Lookup<'a>) {
        if !is_clean(path) {
            return self.invalid(format!("dirPath {path:?} is not an absolute, clean path"));
        }
        let (secret, whole) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(whole), _) => (false, whole),
            (None, Some(whole)) => (true, whole),
            (None, None) => return self.invalid(format!("the directory {path} has no source")),
        };
        let optional = whole.optional.unwrap_or(false);
        let there = if secret {
            lookup.secrets.contains_key(&whole.name)
        } else {
            lookup.config_maps.contains_key(&whole.name)
        };
        if !there && !optional {
            let name = whole.name.clone();
            return self.wait(if secret {
                Waiting::SecretMissing { name }
            } else {
                Waiting::ConfigMapMissing { name }
            });
        }
        let source = DirSource { secret, name: whole.name.clone(), optional };
        match self.dirs.iter_mut().find(|d| d.path == path) {
            Some(dir) if dir.sources.contains(&source) => {}
            Some(dir) => dir.sources.push(source),
            None => self.dirs.push(DirMount { path: path.to_owned(), sources: vec![source], files: Vec::new() }),
        }
    }

    fn repository(&mut self, repository: &RepositoryContext, lookup: &Lookup<'a>) {
        let url = match (&repository.url, &repository.org, &repository.repo) {
            (Some(url), _, _) => url.clone(),
            (None, Some(org), Some(repo)) => format!("https://github.com/{org}/{repo}.git"),
            _ => return self.invalid("a Repository context needs url, or org and repo"),
        };
        let path = match &repository.path {
            Some(path) => path.clone(),
            None => {
                let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or("");
                let name = last.trim_end_matches(".git");
                if name.is_empty() || name == "." || name == ".." {
                    return self.invalid(format!("cannot tell a directory name from {url}; set path"));
                }
                format!("{WORKSPACE}/{name}")
            }
        };
        if !is_clean(&path) {
            return self.invalid(format!("path {path:?} is not an absolute, clean path"));
        }
        let credentials = repository.credentials.as_ref().map(|c| c.secret_ref.name.clone());
        if let Some(name) = credentials.as_ref().filter(|name| !lookup.secrets.contains_key(*name)) {
            return self.wait(Waiting::SecretMissing { name: name.clone() });
        }
        let work = repository.work.as_ref().map(|work| work.secret_ref.name.clone());
        if let Some(name) = work.as_ref().filter(|name| !lookup.secrets.contains_key(*name)) {
            return self.wait(Waiting::SecretMissing { name: name.clone() });
        }
        let git = GitJob {
            url,
            ref_: repository.ref_.clone(),
            path,
            depth: repository.depth.unwrap_or(1),
            credentials: credentials.is_some().then(|| fetch::CREDENTIALS_DIR.to_owned()),
            work: work.is_some().then(|| format!("{}/{}", fetch::WORK_DIR, fetch::BUNDLE_KEY)),
            base: (repository.collect_changes == Some(true))
                .then(|| format!("{}/{}", fetch::BASE_DIR, self.repositories.len())),
        };
        if let Some(directory) = git.local_directory().filter(|directory| !is_clean(directory)) {
            return self.invalid(format!("url: {directory:?} is not a clean path"));
        }
        self.repositories.push(Checkout { git, credentials, work });
    }

    fn remote(&mut self, remote: &'a RemoteFileContext, lookup: &Lookup<'a>) {
        if !is_clean(&remote.file_path) {
            return self.invalid(format!("filePath {:?} is not an absolute, clean path", remote.file_path));
        }
        for header in &remote.headers {
            if let Some(from) = &header.value_from
                && let Err(waiting) = lookup.secret_key(&from.secret_key_ref)
            {
                self.wait(waiting);
            }
        }
        self.push(&remote.file_path, Part { content: Content::Remote(remote), source: remote.url.clone() });
    }

    /// Gives every content its place.
    fn store(self) -> Result<Resolved, Waiting> {
        let mut out = Resolved { dirs: self.dirs, repositories: self.repositories, ..Resolved::default() };
        let mut weights = Vec::new();
        for (index, (path, parts)) in self.files.iter().enumerate() {
            let size = parts.iter().map(Part::len).sum::<usize>();
            weights.push((size, *path, parts));
            let key = stored_key(index, path);
            let (store, stored) = if parts.iter().any(|p| matches!(p.content, Content::Remote(_))) {
                out.fetched(index, path, parts);
                (Store::Fetched, None)
            } else {
                let contents: Vec<&[u8]> = parts.iter().filter_map(Part::bytes).collect();
                let secret = parts.iter().any(|p| matches!(p.content, Content::Secret(_)));
                (if secret { Store::Secret } else { Store::ConfigMap }, Some(aggregate(&contents)))
            };
            match (store, stored) {
                (Store::Secret, Some(bytes)) => drop(out.secret.insert(key.clone(), bytes)),
                (_, Some(bytes)) => drop(out.config_map.insert(key.clone(), bytes)),
                (_, None) => {}
            }
            out.mount(path, store, key);
        }
        if !out.fetch.files.is_empty() {
            let plan = serde_json::to_vec(&out.fetch).unwrap_or_default();
            out.config_map.insert(fetch::PLAN_KEY.to_owned(), plan);
        }
        let weight = |data: &BTreeMap<String, Vec<u8>>| data.values().map(Vec::len).sum::<usize>();
        let total = weight(&out.config_map).max(weight(&out.secret));
        if total <= OBJECT_MAX {
            return Ok(out);
        }
        weights.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let (size, path, source) = weights
            .first()
            .map(|(size, path, parts)| {
                let heaviest = parts.iter().max_by_key(|p| p.len()).map(|p| p.source.clone());
                (*size, (*path).to_owned(), heaviest.unwrap_or_default())
            })
            .unwrap_or_default();
        Err(Waiting::TooLarge { total, path, size, source })
    }
}

impl Resolved {
    /// A file that an init container assembles, because part of it must be fetched.
    fn fetched(&mut self, index: usize, path: &str, parts: &[Part<'_>]) {
        let mut plan = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            let key = format!("{index:02}-{number:02}.part");
            plan.push(match part.content {
                Content::Plain(bytes) => {
                    let file = format!("{}/{key}", fetch::FILES_DIR);
                    self.config_map.insert(key, bytes.to_vec());
                    FetchPart::Local { file }
                }
                Content::Secret(bytes) => {
                    let file = format!("{}/{key}", fetch::SECRETS_DIR);
                    self.secret.insert(key, bytes.to_vec());
                    FetchPart::Local { file }
                }
                Content::Remote(remote) => {
                    let headers = remote.headers.iter().map(|header| {
                        let env = header.value_from.as_ref().map(|from| {
                            let env = format!("KUBETASK_HEADER_{}", self.headers.len());
                            self.headers.push(HeaderSecret { env: env.clone(), key: from.secret_key_ref.clone() });
                            env
                        });
                        FetchHeader { name: header.name.clone(), value: header.value.clone(), env }
                    });
                    FetchPart::Remote { url: remote.url.clone(), headers: headers.collect() }
                }
            });
        }
        let output = format!("{}/{}", fetch::OUT_DIR, stored_key(index, path));
        self.fetch.files.push(FetchFile { path: path.to_owned(), output, parts: plan });
    }

    /// Mounts a file at its path, or puts it into the directory in which it lies.
    fn mount(&mut self, path: &str, store: Store, key: String) {
        let dir = self.dirs.iter_mut().filter(|d| conflicts::is_below(path, &d.path)).max_by_key(|d| d.path.len());
        match dir {
            Some(dir) if store != Store::Fetched => {
                let relative = path.get(dir.path.len() + 1..).unwrap_or_default().to_owned();
                dir.files.push((store, key, relative));
            }
            _ => self.files.push(FileMount { path: path.to_owned(), store, key }),
        }
    }
}

impl<'a> Part<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        match self.content {
            Content::Plain(bytes) | Content::Secret(bytes) => Some(bytes),
            Content::Remote(_) => None,
        }
    }

    fn len(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }
}

impl<'a> Lookup<'a> {
    /// The content; `None` when it is missing and may be.
    fn config_map_key(&self, key: &KeyRef) -> Result<Option<&'a [u8]>, Waiting> {
        let optional = key.optional.unwrap_or(false);
        let Some(object) = self.config_maps.get(&key.name) else {
            return if optional { Ok(None) } else { Err(Waiting::ConfigMapMissing { name: key.name.clone() }) };
        };
        let text = object.data.as_ref().and_then(|d| d.get(&key.key)).map(String::as_bytes);
        let binary = || object.binary_data.as_ref().and_then(|d| d.get(&key.key)).map(|b| b.0.as_slice());
        missing_key(text.or_else(binary), "ConfigMap", key)
    }

    fn secret_key(&self, key: &KeyRef) -> Result<Option<&'a [u8]>, Waiting> {
        let optional = key.optional.unwrap_or(false);
        let Some(object) = self.secrets.get(&key.name) else {
            return if optional { Ok(None) } else { Err(Waiting::SecretMissing { name: key.name.clone() }) };
        };
        missing_key(object.data.as_ref().and_then(|d| d.get(&key.key)).map(|b| b.0.as_slice()), "Secret", key)
    }
}

fn missing_key<'a>(found: Option<&'a [u8]>, kind: &'static str, key: &KeyRef) -> Result<Option<&'a [u8]>, Waiting> {
    match found {
        None if !key.optional.unwrap_or(false) => {
            Err(Waiting::KeyMissing { kind, name: key.name.clone(), key: key.key.clone() })
        }
        found => Ok(found),
    }
}

/// The key under which a file is stored: unique by its index, readable by its path.
fn stored_key(index: usize, path: &str) -> String {
    let readable: String = path
        .trim_start_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' })
        .take(200)
        .collect();
    format!("{index:02}-{readable}")
}

/// Absolute, no `.` or `..`, no doubled or trailing slash, nothing that a mount path cannot hold.
pub(crate) fn is_clean(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|s| !matches!(s, "" | "." | "..")) && !rest.contains([':', '\0']))
}
