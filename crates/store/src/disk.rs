//! [`Disk`]: the database file. One table of records keyed by the revision that created them, so that new objects are
//! appended and updates stay where they are; one table of facts about the store.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition, TableError,
};

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
const CACHE_BYTES: usize = 1 << 20;

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
    /// Changes that failed, oldest first: some of them may be on the disk all the same.
    doubtful: Vec<Planned>,
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
                return Ok((Disk { db: Some(db), opener, doubtful: Vec::new(), dir }, loaded));
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
        Ok((Disk { db: Some(db), opener, doubtful: Vec::new(), dir }, loaded))
    }

    /// Makes changes durable, all or none. `revision` is the store's after them.
    ///
    /// After an I/O error nobody knows what is on the disk: even what can be read back may only be in the kernel's
    /// cache. So a failed commit did not happen, and the next one begins by taking it back.
    pub(crate) fn commit(&mut self, planned: Vec<Planned>, revision: Revision) -> Result<Vec<Planned>, String> {
        let error = match self.try_commit(&planned, revision) {
            Ok(()) => return Ok(planned),
            Err(error) => error,
        };
        self.db = None;
        self.doubtful.extend(planned);
        // If this works already, the store is as if nothing had happened; if not, there is always the next commit.
        if self.try_commit(&[], revision).is_err() {
            self.db = None;
        }
        Err(error.to_string())
    }

    fn try_commit(&mut self, planned: &[Planned], revision: Revision) -> Result<(), redb::Error> {
        let db = match self.db.take() {
            Some(db) => db,
            None => (self.opener)(self.dir.open_data()?)?,
        };
        let db = self.db.insert(db);
        commit(db, &self.doubtful, planned, revision)?;
        self.doubtful.clear();
        Ok(())
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

fn commit(db: &Database, revert: &[Planned], planned: &[Planned], revision: Revision) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for change in revert.iter().rev() {
            match &change.prev {
                Some(prev) => insert(&mut objects, &change.bucket, prev)?,
                None => drop(objects.remove(change.entry.created)?),
            }
        }
        // Of several changes to one key only the last one matters to the disk.
        let mut settled = HashSet::with_capacity(planned.len());
        for change in planned.iter().rev() {
            if !settled.insert(change.entry.created) {
                continue;
            }
            match change.kind {
                EventKind::Put => insert(&mut objects, &change.bucket, &change.entry)?,
                EventKind::Delete => drop(objects.remove(change.entry.created)?),
            }
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

fn insert(objects: &mut Table<'_, u64, &'static [u8]>, bucket: &str, entry: &Entry) -> Result<(), redb::Error> {
    let mut slot = objects.insert_reserve(entry.created, record::size(bucket, entry))?;
    record::encode(bucket, entry, slot.as_mut());
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

#[cfg(test)]
mod tests {
    use crate::options::Locking;
    use std::sync::atomic::{AtomicI64, Ordering};

    use bytes::Bytes;

    use super::*;

    /// Fails every operation from the n-th on, until it is mended.
    #[derive(Debug)]
    struct Failing {
        inner: FileBackend,
        left: Arc<AtomicI64>,
    }

    impl Failing {
        fn count(&self) -> io::Result<()> {
            if self.left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            self.inner.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.inner.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.count().and_then(|()| self.inner.set_len(len))
        }
        fn sync_data(&self) -> io::Result<()> {
            self.count().and_then(|()| self.inner.sync_data())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.count().and_then(|()| self.inner.write(offset, data))
        }
    }

    fn planned(created: Revision, revision: Revision, text: &str) -> Planned {
        let bytes = Bytes::from(text.repeat(3000));
        let entry = Entry::new(format!("k{created}").into(), bytes, created, revision);
        Planned { bucket: "b".into(), kind: EventKind::Put, entry, prev: None }
    }

    fn contents(loaded: &Loaded) -> Vec<(Revision, Revision)> {
        loaded.entries.iter().map(|(_, e)| (e.created, e.revision)).collect()
    }

    /// However far a commit gets before the disk is full: it is whole or absent, the answer says which, and once there
    /// is room again the store goes on.
    #[test]
    fn a_full_disk_leaves_all_or_nothing() {
        let mut failed = 0;
        for survive in 0..60 {
            let temp = tempfile::tempdir().unwrap();
            let left = Arc::new(AtomicI64::new(i64::MAX));
            let shared = left.clone();
            let opener: Opener =
                Box::new(move |file| open_database(Failing { inner: FileBackend { file }, left: shared.clone() }));
            let (mut disk, _) = Disk::open_with(Dir::lock(temp.path(), Locking::Required).unwrap(), opener).unwrap();
            disk.commit(vec![planned(1, 1, "a"), planned(2, 2, "b")], 2).unwrap();

            left.store(survive, Ordering::SeqCst);
            let mut update = planned(1, 3, "c");
            update.prev = Some(planned(1, 1, "a").entry);
            let answer = disk.commit(vec![update, planned(4, 4, "d")], 4);
            left.store(i64::MAX, Ordering::SeqCst);
            failed += usize::from(answer.is_err());
            disk.commit(vec![planned(5, 5, "e")], 5).unwrap();
            drop(disk);

            let (_, loaded) = Disk::open(Dir::lock(temp.path(), Locking::Required).unwrap()).unwrap();
            let expected: &[_] =
                if answer.is_ok() { &[(1, 3), (2, 2), (4, 4), (5, 5)] } else { &[(1, 1), (2, 2), (5, 5)] };
            assert_eq!((contents(&loaded), loaded.revision), (expected.to_vec(), 5), "after {survive}: {answer:?}");
        }
        assert!((5..55).contains(&failed), "some commits failed, some did not: {failed}");
    }

    #[test]
    fn only_the_last_of_several_changes_is_written() {
        let temp = tempfile::tempdir().unwrap();
        let (mut disk, _) = Disk::open(Dir::lock(temp.path(), Locking::Required).unwrap()).unwrap();
        let mut gone = planned(1, 3, "");
        gone.kind = EventKind::Delete;
        disk.commit(vec![planned(1, 1, "a"), planned(1, 2, "b"), gone, planned(4, 4, "c"), planned(4, 5, "d")], 5)
            .unwrap();
        drop(disk);
        let (_, loaded) = Disk::open(Dir::lock(temp.path(), Locking::Required).unwrap()).unwrap();
        assert_eq!((contents(&loaded), loaded.revision), (vec![(4, 5)], 5));
    }
}
