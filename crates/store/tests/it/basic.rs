//! Reads, writes, lists, transactions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubetask_store::{Expect, ListError, ListOptions, Options, Store, TooOld, WaitError, Write, WriteError};

use crate::{bake, delete, put};

#[tokio::test]
async fn expectations() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let first = put(&store, "b", "k", Expect::Absent, "one").await?;
    assert_eq!((first.revision, &first.entry.bytes[..], first.prev.is_none()), (1, &b"one@1"[..], true));
    assert!(
        matches!(put(&store, "b", "k", Expect::Absent, "x").await, Err(WriteError::Exists { current }) if current.revision == 1)
    );
    assert!(
        matches!(put(&store, "b", "k", Expect::Revision(7), "x").await, Err(WriteError::Conflict { current }) if current.revision == 1)
    );
    assert!(matches!(put(&store, "b", "no", Expect::Revision(1), "x").await, Err(WriteError::NotFound)));
    assert!(matches!(put(&store, "b", "no", Expect::Present, "x").await, Err(WriteError::NotFound)));
    assert!(matches!(delete(&store, "b", "no", Expect::Any).await, Err(WriteError::NotFound)));
    assert!(matches!(delete(&store, "b", "k", Expect::Absent).await, Err(WriteError::Exists { .. })));
    assert_eq!(store.revision(), 1, "what is refused changes nothing");

    let second = put(&store, "b", "k", Expect::Revision(1), "two").await?;
    assert_eq!((second.revision, second.entry.created, second.prev.map(|p| p.revision)), (2, 1, Some(1)));
    let gone = delete(&store, "b", "k", Expect::Revision(2)).await?;
    assert_eq!((gone.revision, &gone.entry.bytes[..], gone.entry.created), (3, &b"gone@3"[..], 1));
    assert!(store.get("b", "k").is_none());
    let again = put(&store, "b", "k", Expect::Absent, "three").await?;
    assert_eq!((again.revision, again.entry.created), (4, 4));
    Ok(())
}

#[tokio::test]
async fn sizes_are_limited() -> anyhow::Result<()> {
    let store = Store::in_memory(Options { max_value_bytes: 10, ..Options::default() })?;
    let big = store.write(Write::put("b", "k", Expect::Any, |_| Bytes::from(vec![0; 11]))).await;
    assert!(matches!(big, Err(WriteError::TooLarge { size: 11, limit: 10 })), "{big:?}");
    let long = "k".repeat(5000);
    let big = store.write(Write::put("b", &*long, Expect::Any, |_| Bytes::new())).await;
    assert!(matches!(big, Err(WriteError::TooLarge { size: 5000, limit: 4096 })), "{big:?}");
    assert_eq!(store.revision(), 0);
    Ok(())
}

#[tokio::test]
async fn a_panic_in_a_closure_is_that_writers_problem() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let failed = store.write(Write::put("b", "k", Expect::Any, |_| panic!("no bytes today"))).await;
    assert!(matches!(failed, Err(WriteError::Aborted(ref why)) if why == "no bytes today"), "{failed:?}");
    assert_eq!(put(&store, "b", "k", Expect::Any, "x").await?.revision, 1);
    Ok(())
}

#[tokio::test]
async fn transactions_are_all_or_nothing() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    put(&store, "a", "1", Expect::Any, "old").await?;
    let failed = store
        .transact(vec![
            Write::put("a", "1", Expect::Present, bake("new")),
            Write::put("a", "2", Expect::Absent, bake("new")),
            Write::delete("a", "3", Expect::Any, bake("")),
        ])
        .await;
    assert!(matches!(failed, Err(WriteError::NotFound)), "{failed:?}");
    assert_eq!(store.get("a", "1").map(|e| e.bytes.clone()), Some(Bytes::from("old@1")));
    assert!(store.get("a", "2").is_none());

    let done = store
        .transact(vec![
            Write::put("a", "2", Expect::Absent, bake("x")),
            Write::put("b", "1", Expect::Absent, bake("y")),
            Write::delete("a", "2", Expect::Present, bake("z")),
        ])
        .await?;
    let revisions: Vec<_> = done.iter().map(|w| w.revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b) && revisions[0] > 1, "{revisions:?}");
    assert!(store.get("a", "2").is_none() && store.get("b", "1").is_some());
    assert!(store.transact(Vec::new()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn lists_page_through_a_prefix() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    for key in ["a/1", "b/1", "b/2", "b/3", "b/4", "b0", "c/1"] {
        put(&store, "pods", key, Expect::Absent, "").await?;
    }
    let check = |options: ListOptions<'_>, keys: &[&str], remaining: usize| {
        let snapshot = store.list("pods", &options).unwrap();
        let found: Vec<_> = snapshot.entries.iter().map(|e| &*e.key).collect();
        assert_eq!((found, snapshot.remaining, snapshot.revision), (keys.to_vec(), remaining, 7), "{options:?}");
    };
    let all = ListOptions::default();
    check(all.clone(), &["a/1", "b/1", "b/2", "b/3", "b/4", "b0", "c/1"], 0);
    check(ListOptions { prefix: "b/", ..all.clone() }, &["b/1", "b/2", "b/3", "b/4"], 0);
    check(ListOptions { prefix: "b/", limit: 3, ..all.clone() }, &["b/1", "b/2", "b/3"], 1);
    check(ListOptions { prefix: "b/", limit: 3, start_after: Some("b/3"), ..all.clone() }, &["b/4"], 0);
    check(ListOptions { prefix: "b/", start_after: Some("a"), ..all.clone() }, &["b/1", "b/2", "b/3", "b/4"], 0);
    check(ListOptions { prefix: "b/", start_after: Some("c"), ..all.clone() }, &[], 0);
    check(ListOptions { prefix: "nothing", ..all.clone() }, &[], 0);
    check(ListOptions { limit: 2, ..all }, &["a/1", "b/1"], 5);
    assert_eq!((store.count("pods"), store.count("none")), (7, 0));
    assert_eq!(store.buckets(), [Arc::from("pods")]);
    Ok(())
}

#[tokio::test]
async fn lists_of_the_past() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    put(&store, "b", "k", Expect::Any, "one").await?; // 1
    put(&store, "other", "k", Expect::Any, "x").await?; // 2
    put(&store, "b", "k", Expect::Any, "two").await?; // 3
    delete(&store, "b", "k", Expect::Any).await?; // 4
    put(&store, "b", "k", Expect::Any, "three").await?; // 5
    let at = |revision| {
        let options = ListOptions { at_revision: Some(revision), ..ListOptions::default() };
        let snapshot = store.list("b", &options)?;
        assert_eq!(snapshot.revision, revision);
        Ok::<_, ListError>(
            snapshot.entries.iter().map(|e| String::from_utf8_lossy(&e.bytes).into_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(at(0)?, [""; 0]);
    assert_eq!(at(1)?, ["one@1"]);
    assert_eq!(at(2)?, ["one@1"]);
    assert_eq!(at(3)?, ["two@3"]);
    assert_eq!(at(4)?, [""; 0]);
    assert_eq!(at(5)?, ["three@5"]);
    assert_eq!(at(6), Err(ListError::Future { requested: 6, current: 5 }));
    store.compact(3);
    assert_eq!(at(2), Err(ListError::TooOld(TooOld { requested: 2, compacted: 3 })));
    assert_eq!(at(3)?, ["two@3"]);
    Ok(())
}

#[tokio::test]
async fn history_is_bounded_by_count_bytes_and_age() -> anyhow::Result<()> {
    let few = Store::in_memory(Options { history_events: 3, ..Options::default() })?;
    let small = Store::in_memory(Options { history_bytes: 10_000, ..Options::default() })?;
    let brief = Store::in_memory(Options { history_age: Duration::ZERO, ..Options::default() })?;
    for _ in 0..10 {
        for store in [&few, &small, &brief] {
            store.write(Write::put("b", "k", Expect::Any, |_| Bytes::from(vec![0; 3000]))).await?;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(few.compacted(), 7);
    assert!((6..=8).contains(&small.compacted()), "{}", small.compacted());
    assert_eq!(brief.compacted(), 9, "the newest is younger than the write that would drop it");
    Ok(())
}

/// Half as much as is current, but never less than asked for: who comes back late to a small store reads it again.
#[tokio::test]
async fn a_small_store_has_a_short_history() -> anyhow::Result<()> {
    let store = Store::in_memory(Options { history_least: 10_000, ..Options::default() })?;
    let write = |key: String| store.write(Write::put("b", key, Expect::Any, |_| Bytes::from(vec![0; 3000])));
    for _ in 0..10 {
        write("k".to_owned()).await?;
    }
    assert!((6..=8).contains(&store.compacted()), "{}", store.compacted());
    let kept_before = store.revision() - store.compacted();
    for number in 0..20 {
        write(format!("other-{number}")).await?;
    }
    for _ in 0..20 {
        write("k".to_owned()).await?;
    }
    let kept = store.revision() - store.compacted();
    assert!(kept > kept_before + 3, "{kept} after {kept_before}: 60,000 bytes are current, so 30,000 may be kept");
    store.write(Write::delete("b", "k", Expect::Any, |_| Bytes::new())).await?;
    Ok(())
}

/// Once it is quiet, a store keeps little; who watches goes on.
#[tokio::test]
async fn a_store_that_settles_has_a_shorter_history() -> anyhow::Result<()> {
    let store = Store::in_memory(Options { history_settled: 10_000, ..Options::default() })?;
    let settle = store.settler();
    let write = || store.write(Write::put("b", "k", Expect::Any, |_| Bytes::from(vec![0; 3000])));
    let mut reader = store.watch("b", "", 0)?;
    for _ in 0..10 {
        write().await?;
        reader.next().await?;
    }
    assert_eq!(store.compacted(), 0);
    settle();
    assert!((6..=8).contains(&store.compacted()), "{}", store.compacted());
    write().await?;
    assert_eq!(reader.next().await?.revision, 11);
    drop((reader, store));
    settle();
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_revision() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let short = Duration::from_millis(10);
    assert_eq!(store.wait_for(1, short).await, Err(WaitError::Timeout { current: 0 }));
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for(2, Duration::from_secs(10)).await }
    });
    put(&store, "b", "1", Expect::Any, "").await?;
    put(&store, "b", "2", Expect::Any, "").await?;
    assert_eq!(waiting.await?, Ok(2));
    assert_eq!(store.wait_for(1, short).await, Ok(2));
    store.close().await;
    assert_eq!(store.wait_for(9, short).await, Err(WaitError::Closed));
    assert!(matches!(put(&store, "b", "1", Expect::Any, "").await, Err(WriteError::Closed)));
    assert!(store.get("b", "1").is_some(), "reads go on");
    Ok(())
}

#[tokio::test]
async fn what_a_reader_decoded_is_kept_with_the_version() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let entry = put(&store, "b", "k", Expect::Any, "text").await?.entry;
    let first = entry.cached(|bytes| Arc::new(bytes.len()));
    let second = store.get("b", "k").and_then(|e| e.cached(|_| Arc::new(999_usize)));
    assert_eq!((first, second), (Some(Arc::new(6)), Some(Arc::new(6))));
    assert_eq!(entry.cached(|_| Arc::new("another type")), None);
    assert!(!format!("{entry:?}").contains("text"), "values may be secret");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_of_one_key_lose_no_update() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("s"), Options::default())?;
    store.write(Write::put("b", "n", Expect::Absent, |_| Bytes::from("0"))).await?;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    loop {
                        let current = store.get("b", "n").unwrap();
                        let n: u64 = std::str::from_utf8(&current.bytes).unwrap().parse().unwrap();
                        let next = move |_| Bytes::from((n + 1).to_string());
                        match store.write(Write::put("b", "n", Expect::Revision(current.revision), next)).await {
                            Ok(_) => break,
                            Err(WriteError::Conflict { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    assert_eq!(store.get("b", "n").map(|e| e.bytes.clone()), Some(Bytes::from("400")));
    assert_eq!(store.revision(), 401);
    Ok(())
}

#[tokio::test]
async fn without_a_permit_nothing_is_written() -> anyhow::Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir()?;
    let holds = Arc::new(AtomicBool::new(true));
    let asked = holds.clone();
    let permit = kubetask_store::Permit::new(move || asked.load(Ordering::Relaxed));
    let store = Store::open(dir.path(), Options { permit: Some(permit), ..Options::default() })?;
    put(&store, "b", "one", Expect::Absent, "1").await?;
    holds.store(false, Ordering::Relaxed);
    assert!(matches!(put(&store, "b", "two", Expect::Absent, "2").await, Err(WriteError::Closed)));
    assert!(store.get("b", "two").is_none(), "and nothing of it is to be seen");
    holds.store(true, Ordering::Relaxed);
    assert_eq!(put(&store, "b", "three", Expect::Absent, "3").await?.revision, 2);
    store.close().await;
    let store = Store::open(dir.path(), Options::default())?;
    assert_eq!((store.count("b"), store.revision()), (2, 2));
    Ok(())
}
