//! What is kept of an environment: which engine has it, written down before it starts.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use kubetask_engine::spec::ContainerId;
use kubetask_engine::{ContainerEngine, DockerEngine, KubernetesEngine, KubernetesOptions, LocalEngine, LocalOptions};
use serde::{Deserialize, Serialize};

use crate::error::{CommandError, CommandResult, chain};
use crate::paths::DataDir;
use crate::settings::{Backend, Settings};

/// Where environments are kept.
#[derive(Debug, Clone)]
pub(super) struct Environments {
    root: PathBuf,
    data_dir: PathBuf,
}

/// An environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Its name.
    pub(super) name: String,
    /// Where it runs.
    pub(super) engine: Backend,
    /// Its image.
    pub(super) image: String,
    /// When it was asked for.
    pub(super) created: Timestamp,
    /// The kubeconfig it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
}

impl Record {
    /// The identity of its container.
    pub(super) fn id(&self) -> ContainerId {
        ContainerId(format!("env-{}", self.name))
    }

    /// The settings with which its engine finds it again.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            ..Settings::default()
        }
    }
}

impl Environments {
    pub(super) fn of(data_dir: &DataDir) -> Self {
        Self { root: data_dir.root().join("environments"), data_dir: data_dir.root().to_owned() }
    }

    /// The directory of an environment.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.root.join("all").join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory(name).join("environment.json")
    }

    /// The engine.
    pub(super) fn engine(
        &self,
        backend: Backend,
        options: KubernetesOptions,
    ) -> CommandResult<Arc<dyn ContainerEngine>> {
        let failed = |error: kubetask_engine::EngineError| CommandError::failure(chain(&error));
        Ok(match backend {
            Backend::Local => {
                let options = LocalOptions { hide: vec![self.data_dir.clone()], ..LocalOptions::default() };
                Arc::new(LocalEngine::new(self.root.join("local"), options).map_err(failed)?)
            }
            Backend::Docker => Arc::new(DockerEngine::new(self.root.join("docker"))),
            Backend::Kubernetes => Arc::new(KubernetesEngine::new(self.root.join("kubernetes"), options)),
        })
    }

    /// Writes a new environment down; on disk when this returns.
    pub(super) fn add(&self, record: &Record) -> CommandResult<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let directory = self.directory(&record.name);
        let failed = |error: std::io::Error| CommandError::failure(format!("{}: {error}", directory.display()));
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&directory).map_err(failed)?;
        let text = serde_json::to_string_pretty(record).map_err(|error| CommandError::failure(error.to_string()))?;
        let temporary = tempfile::NamedTempFile::new_in(&directory).map_err(failed)?;
        temporary.as_file().write_all(text.as_bytes()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist_noclobber(self.file(&record.name)).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => CommandError::usage(format!("environment {:?} exists", record.name))
                .hint(format!("`kubetask env stop {}` ends it; --name chooses another name", record.name)),
            _ => failed(error.error),
        })?;
        std::fs::File::open(&directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// An environment.
    pub(super) fn get(&self, name: &str) -> CommandResult<Record> {
        let found = if is_name(name) { read(&self.file(name))? } else { None };
        found.ok_or_else(|| {
            CommandError::usage(format!("there is no environment {name:?}")).hint("`kubetask env list` shows all")
        })
    }

    /// All environments, by name.
    pub(super) fn all(&self) -> CommandResult<Vec<Record>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.root.join("all")).into_iter().flatten().flatten() {
            all.extend(read(&entry.path().join("environment.json"))?);
        }
        all.sort_by(|a: &Record, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Forgets an environment: its record last, so that an interruption leaves one to stop again.
    pub(super) fn forget(&self, name: &str) -> CommandResult<()> {
        let (directory, file) = (self.directory(name), self.file(name));
        let failed = |error: std::io::Error| CommandError::failure(format!("{}: {error}", directory.display()));
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path == file {
                continue;
            }
            let is_dir = std::fs::symlink_metadata(&path).map_err(failed)?.is_dir();
            if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }.map_err(failed)?;
        }
        std::fs::remove_file(&file).map_err(failed)?;
        std::fs::remove_dir(&directory).map_err(failed)
    }
}

fn read(path: &Path) -> CommandResult<Option<Record>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CommandError::failure(format!("{}: {error}", path.display()))),
    };
    let record = serde_json::from_slice(&text);
    record.map(Some).map_err(|error| CommandError::failure(format!("{}: {error}", path.display())))
}

/// Whether a text can be the name of an environment.
pub(super) fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let all = Environments::of(&DataDir::resolve(Some(dir.path())).unwrap());
        assert!(all.all().unwrap().is_empty());
        let record = |name: &str| Record {
            name: name.to_owned(),
            engine: Backend::Kubernetes,
            image: "i".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            kubeconfig: None,
            context: Some("c".to_owned()),
            namespace: None,
        };
        all.add(&record("b")).unwrap();
        all.add(&record("a")).unwrap();
        assert!(all.add(&record("a")).unwrap_err().lines[0].contains("exists"));
        std::fs::create_dir_all(all.directory("a").join("workspace/x")).unwrap();
        assert_eq!(all.all().unwrap().iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all.get("a").unwrap().settings().context.as_deref(), Some("c"));
        all.forget("a").unwrap();
        assert!(all.get("a").is_err() && all.get("../b").is_err());
        assert!(!all.directory("a").exists());
    }
}
