//! Where things lie on this machine, by the XDG Base Directory rules.

use std::path::{Path, PathBuf};

use crate::error::CommandError;

/// The files under a data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The directory given, or `$XDG_DATA_HOME/kubetask`, or `~/.local/share/kubetask`.
    ///
    /// # Errors
    /// When there is no home directory to derive it from, or the path given cannot be made absolute.
    pub fn resolve(given: Option<&Path>) -> Result<Self, CommandError> {
        let root = match given {
            Some(path) => std::path::absolute(path)
                .map_err(|e| CommandError::usage(format!("data directory {}: {e}", path.display())))?,
            None => match absolute_env("XDG_DATA_HOME") {
                Some(base) => base.join("kubetask"),
                None => absolute_env("HOME").map(|home| home.join(".local/share/kubetask")).ok_or_else(|| {
                    CommandError::usage("no data directory: neither XDG_DATA_HOME nor HOME is set")
                        .hint("give one with --data-dir")
                })?,
            },
        };
        Ok(Self { root })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a server has run here before.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.root.join("kubeconfig").exists()
    }

    /// The kubeconfig of the embedded server.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// What the running server tells of itself.
    #[must_use]
    pub fn server_info(&self) -> PathBuf {
        self.root.join("server.json")
    }

    /// The log of a server that was started in the background.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }
}

/// A directory from the environment; the XDG rules say that relative paths are to be ignored.
fn absolute_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}
