//! [`Disk`]: the database file. One table of records keyed by the revision that created them, so that new objects are
//! appended and updates stay where they are; one table of facts about the store.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};

use crate::batch::Planned;
use crate::dir::{Dir, io as io_error};
use crate::entry::{Entry, EventKind, Revision};
use crate::error::OpenError;
use crate::record;

/// The format this program writes, and the newest it reads. `FORMAT.md` describes it.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("kubetask-store");
const OBJECTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("objects");

/// Everything is read once and then kept by us, so the database only needs the pages it is about to write.
const CACHE_BYTES: usize = 8 << 20;

/// What the file held.
pub(crate) struct Loaded {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<(Arc<str>, Arc<Entry>)>,
}

/// Opens the database on a file; tests put failures in between.
type Opener = Box<dyn Fn(File) -> Result<Database, DatabaseError> + Send>;

/// The database and the directory it is in.
pub(crate) struct Disk {
    /// `None` after an I/O error; the next commit opens it again.
    db: Option<Database>,
    opener: Opener,
    dir: Dir,
}

impl Disk {
    /// Opens or creates the database and reads it.
    pub(crate) fn open(dir: Dir) -> Result<(Disk, Loaded), OpenError> {
        Disk::open_with(dir, Box::new(|file| open_database(FileBackend { file })))
    }

    fn open_with(dir: Dir, opener: Opener) -> Result<(Disk, Loaded), OpenError> {
        let file = match dir.open_data() {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = dir.create_new()?;
                let db = opener(file).map_err(|e| open_error(&dir, e.into()))?;
                initialise(&db).map_err(|e| open_error(&dir, e))?;
                dir.adopt_new()?;
                let loaded = Loaded { revision: 0, entries: Vec::new() };
                return Ok((Disk { db: Some(db), opener, dir }, loaded));
            }
            Err(e) => return Err(io_error("open", &dir.data())(e)),
        };
        // The database would take an empty file for one that it should initialise.
        if file.metadata().map_err(io_error("read", &dir.data()))?.len() == 0 {
            return Err(OpenError::Corrupt { path: dir.path().to_owned(), detail: "the data file is empty".into() });
        }
        // Damage the database does not expect must not take the program down.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let db = opener(file).map_err(|e| open_error(&dir, e.into()))?;
            let loaded = load(&dir, &db)?;
            Ok((db, loaded))
        }));
        let (db, loaded) = read.unwrap_or_else(|_| {
            let detail = "the data file's structure is broken".into();
            Err(OpenError::Corrupt { path: dir.path().to_owned(), detail })
        })?;
        Ok((Disk { db: Some(db), opener, dir }, loaded))
    }

    /// Makes changes durable, all or none. `revision` is the store's after them.
    ///
    /// After an I/O error it is uncertain whether the changes are on disk, so the file is opened again and asked: what
    /// it says is the truth from then on.
    pub(crate) fn commit(&mut self, planned: &[Planned], revision: Revision) -> Result<(), String> {
        if self.db.is_none() {
            self.reopen()?;
        }
        let Some(db) = &self.db else { return Err("the data file is not open".into()) };
        let error = match commit(db, planned, revision) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        self.db = None;
        match self.reopen() {
            Ok(found) if found >= revision => Ok(()),
            _ => Err(error.to_string()),
        }
    }

    fn reopen(&mut self) -> Result<Revision, String> {
        let file = self.dir.open_data().map_err(|e| format!("cannot open the data file: {e}"))?;
        let db = (self.opener)(file).map_err(|e| e.to_string())?;
        let revision = read_meta(&db, "revision").map_err(|e| e.to_string())?;
        self.db = Some(db);
        Ok(revision.unwrap_or(0))
    }
}

fn open_database(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)
}

fn initialise(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 0)?;
        transaction.open_table(OBJECTS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn commit(db: &Database, planned: &[Planned], revision: Revision) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        // Of several changes to one key only the last one matters to the disk.
        let mut settled = HashSet::with_capacity(planned.len());
        for change in planned.iter().rev() {
            if !settled.insert(change.entry.created) {
                continue;
            }
            match change.kind {
                EventKind::Put => {
                    let size = record::size(&change.bucket, &change.entry);
                    let mut slot = objects.insert_reserve(change.entry.created, size)?;
                    record::encode(&change.bucket, &change.entry, slot.as_mut());
                }
                EventKind::Delete => {
                    objects.remove(change.entry.created)?;
                }
            }
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

/// A fact about the store; `None` if this is a database of somebody else's.
fn read_meta(db: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    let transaction = db.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => Ok(meta.get(name)?.map(|guard| guard.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn load(dir: &Dir, db: &Database) -> Result<Loaded, OpenError> {
    let failed = |e: redb::Error| open_error(dir, e);
    let corrupt = |detail: String| OpenError::Corrupt { path: dir.path().to_owned(), detail };
    let Some(format) = read_meta(db, "format").map_err(failed)? else {
        let detail = "its data file belongs to another program".into();
        return Err(OpenError::Foreign { path: dir.path().to_owned(), detail });
    };
    if format > FORMAT {
        return Err(OpenError::NewerVersion { path: dir.path().to_owned(), found: format, supported: FORMAT });
    }
    let revision = read_meta(db, "revision").map_err(failed)?.ok_or_else(|| corrupt("it has no revision".into()))?;
    let transaction = db.begin_read().map_err(|e| failed(e.into()))?;
    let objects = transaction.open_table(OBJECTS).map_err(|e| failed(e.into()))?;
    let mut buckets: HashSet<Arc<str>> = HashSet::new();
    let mut entries = Vec::new();
    for item in objects.iter().map_err(|e| failed(e.into()))? {
        let (created, bytes) = item.map_err(|e| failed(e.into()))?;
        let intern = |name: &str| match buckets.get(name) {
            Some(known) => known.clone(),
            None => {
                let name: Arc<str> = name.into();
                buckets.insert(name.clone());
                name
            }
        };
        let (bucket, entry) = record::decode(created.value(), bytes.value(), intern).map_err(corrupt)?;
        if entry.revision > revision || entry.created > entry.revision {
            return Err(corrupt(format!("record {} has revision {} of {revision}", entry.created, entry.revision)));
        }
        entries.push((bucket, entry));
    }
    Ok(Loaded { revision, entries })
}

fn open_error(dir: &Dir, error: redb::Error) -> OpenError {
    let path = dir.path().to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::Locked { path, pid: None },
        // What the database says of a file that does not begin as its own do, or ends too early, is damage.
        redb::Error::Io(source)
            if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            OpenError::Io { step: "read", path: dir.data(), source }
        }
        other => OpenError::Corrupt { path, detail: other.to_string() },
    }
}

/// A file without a cursor; locking is the directory's business.
#[derive(Debug)]
struct FileBackend {
    file: File,
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
