//! The record of a pod: which containers were started, so that after any crash they are found again and none is
//! started twice. One small file a pod, replaced atomically and synced before a container starts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::End;

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Version of this format.
    pub(crate) version: u32,
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) name: String,
    /// The pod's uid.
    pub(crate) uid: String,
    /// The engine that runs it.
    pub(crate) engine: String,
    /// When the node first saw it.
    pub(crate) start_time: Timestamp,
    /// Its containers that were started.
    pub(crate) slots: Vec<SlotRecord>,
}

/// What is kept of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SlotRecord {
    /// Its name.
    pub(crate) name: String,
    /// Number of its current run, which may have been started.
    pub(crate) attempt: u32,
    /// Ends in a row that called for a restart.
    #[serde(default)]
    pub(crate) crashes: u32,
    /// Whether it ever came up.
    #[serde(default)]
    pub(crate) ever_started: bool,
    /// How the current run ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<End>,
    /// How the run before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<End>,
}

impl Record {
    /// The version this program writes.
    pub(crate) const VERSION: u32 = 1;

    /// Replaces the file at `path`; when this returns, the record survives a crash of the machine.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    }

    /// Reads a record; `None` where there is none.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::InvalidData`] where the content is not a record of this version.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Self = serde_json::from_slice(&bytes)?;
        if record.version != Self::VERSION {
            let text = format!(
                "record {} has version {}, this program knows {}",
                path.display(),
                record.version,
                Self::VERSION
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let end = End {
            code: 3,
            signal: None,
            reason: "Error".into(),
            message: Some("why".into()),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        };
        let slot = SlotRecord {
            name: "main".into(),
            attempt: 1,
            crashes: 1,
            ever_started: true,
            ended: None,
            last: Some(end),
        };
        Record {
            version: 1,
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            engine: "local".into(),
            start_time: Timestamp::UNIX_EPOCH,
            slots: vec![slot],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        record().write(&path).unwrap();
        record().write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record()));
    }

    #[test]
    fn what_is_not_a_record_is_an_error_and_not_an_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        for bad in ["", "{", "{\"version\":9}", "[]"] {
            fs::write(&path, bad).unwrap();
            assert!(Record::read(&path).is_err(), "{bad}");
        }
        let newer = Record { version: 9, ..record() };
        newer.write(&path).unwrap();
        assert!(Record::read(&path).unwrap_err().to_string().contains("version 9"));
    }
}
