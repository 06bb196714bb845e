//! Opening: what survives, who is kept out, what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use kubetask_store::{Expect, ListOptions, OpenError, Options, Store, TooOld, Write};

use crate::{delete, put};

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, Options::default())
}

#[tokio::test]
async fn everything_survives_a_restart() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("store");
    let store = open(&dir)?;
    put(&store, "b", "kept", Expect::Absent, "one").await?;
    put(&store, "b", "kept", Expect::Present, "two").await?;
    put(&store, "c", "ümlaut", Expect::Absent, "x").await?;
    store.write(Write::put("c", "large", Expect::Absent, |_| Bytes::from(vec![7; 1_500_000]))).await?;
    put(&store, "b", "gone", Expect::Absent, "y").await?;
    delete(&store, "b", "gone", Expect::Any).await?;
    store.close().await;

    let store = open(&dir)?;
    assert_eq!(store.revision(), 6, "the delete's revision is remembered");
    let kept = store.get("b", "kept").unwrap();
    assert_eq!((&kept.bytes[..], kept.created, kept.revision), (&b"two@2"[..], 1, 2));
    assert_eq!(store.get("c", "large").map(|e| e.bytes.len()), Some(1_500_000));
    assert!(store.get("c", "ümlaut").is_some() && store.get("b", "gone").is_none());
    assert_eq!(store.watch("b", "", 5).unwrap_err(), TooOld { requested: 5, compacted: 6 });
    assert_eq!(put(&store, "b", "gone", Expect::Absent, "z").await?.revision, 7);
    assert_eq!(store.list("b", &ListOptions::default())?.entries.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_second_opener_is_kept_out() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let store = open(temp.path())?;
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error:?}");
    assert!(error.to_string().contains("in use by another process (pid "), "{error}");
    put(&store, "b", "k", Expect::Any, "").await?;
    store.close().await;
    open(temp.path())?;
    Ok(())
}

#[tokio::test]
async fn files_are_private() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("a/b");
    let store = open(&dir)?;
    put(&store, "b", "k", Expect::Any, "").await?;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut files = 0;
    for file in fs::read_dir(&dir)? {
        let path = file?.path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 2);
    Ok(())
}

#[tokio::test]
async fn a_foreign_directory_is_left_alone() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    fs::write(temp.path().join("thesis.tex"), "years of work")?;
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755))?;
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("it holds thesis.tex but no store.redb"), "{error}");
    assert_eq!(fs::read_dir(temp.path())?.count(), 1, "nothing was created");
    assert_eq!(fs::metadata(temp.path())?.permissions().mode() & 0o777, 0o755);

    let file = temp.path().join("thesis.tex");
    assert!(matches!(open(&file).unwrap_err(), OpenError::Io { .. }));
    Ok(())
}

#[tokio::test]
async fn damage_is_reported_and_never_reset() -> anyhow::Result<()> {
    fn check(name: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let temp = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open(temp.path()).unwrap();
            for n in 0..200 {
                put(&store, "b", &n.to_string(), Expect::Any, &"text".repeat(200)).await.unwrap();
            }
            store.close().await;
        });
        let data = temp.path().join("store.redb");
        let mut bytes = fs::read(&data).unwrap();
        damage(&mut bytes);
        fs::write(&data, &bytes).unwrap();
        let error = open(temp.path()).map(|s| s.revision()).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("is damaged"), "{name}: {error}");
        assert!(fs::metadata(&data).unwrap().len() >= bytes.len() as u64, "{name}: the file is still there");
    }
    tokio::task::spawn_blocking(|| {
        check("empty", |bytes| bytes.clear());
        check("cut short", |bytes| bytes.truncate(bytes.len() / 2));
        check("a few bytes", |bytes| bytes.truncate(100));
        check("text", |bytes| bytes.fill(b'x'));
        check("zeros", |bytes| bytes.fill(0));
        check("a flipped bit in every value", |bytes| {
            for window in 0..bytes.len() - 4 {
                if &bytes[window..window + 4] == b"text" {
                    bytes[window + 2] ^= 1;
                }
            }
        });
    })
    .await?;
    Ok(())
}

#[test]
fn another_programs_database_is_foreign_and_a_newer_format_is_named() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let data = temp.path().join("store.redb");
    redb::Database::create(&data)?;
    assert!(matches!(open(temp.path()).unwrap_err(), OpenError::Foreign { .. }));

    let db = redb::Database::create(&data)?;
    let transaction = db.begin_write()?;
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("kubetask-store"))?.insert("format", 99)?;
    transaction.commit()?;
    drop(db);
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerVersion { found: 99, supported: 1, .. }), "{error:?}");
    Ok(())
}

#[test]
fn an_interrupted_creation_is_repeated() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    fs::write(temp.path().join("store.redb.new"), "half of it")?;
    fs::write(temp.path().join("lock"), "")?;
    assert_eq!(open(temp.path())?.revision(), 0);
    Ok(())
}
