//! Watches: order, completeness, lag, progress.

use std::time::Duration;

use kubetask_store::{EventKind, Expect, Options, Store, TooOld, WatchError, Watcher};

use crate::{delete, put};

/// What can be read without waiting, as `+key` (created), `~key` (changed), `-key`.
fn ready(watcher: &mut Watcher) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = watcher.try_next().unwrap() {
        assert_eq!(event.revision, event.entry.revision);
        let sign = match (event.kind, &event.prev) {
            (EventKind::Put, None) => '+',
            (EventKind::Put, Some(_)) => '~',
            (EventKind::Delete, _) => '-',
        };
        seen.push(format!("{sign}{}@{}", event.entry.key, event.revision));
    }
    seen
}

#[tokio::test]
async fn from_a_revision_in_order() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    put(&store, "b", "x/1", Expect::Any, "").await?;
    put(&store, "b", "y/1", Expect::Any, "").await?;
    put(&store, "other", "x/1", Expect::Any, "").await?;
    put(&store, "b", "x/1", Expect::Any, "").await?;
    delete(&store, "b", "x/1", Expect::Any).await?;
    assert_eq!(ready(&mut store.watch("b", "", 0)?), ["+x/1@1", "+y/1@2", "~x/1@4", "-x/1@5"]);
    assert_eq!(ready(&mut store.watch("b", "x/", 1)?), ["~x/1@4", "-x/1@5"]);
    assert_eq!(ready(&mut store.watch("b", "", 5)?), [""; 0]);
    assert_eq!(ready(&mut store.watch("nothing", "", 0)?), [""; 0]);
    store.compact(4);
    assert_eq!(store.watch("b", "", 3).unwrap_err(), TooOld { requested: 3, compacted: 4 });
    assert_eq!(ready(&mut store.watch("b", "", 4)?), ["-x/1@5"]);
    Ok(())
}

#[tokio::test]
async fn a_future_revision_is_silent_until_it_is_passed() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let mut watcher = store.watch("b", "", 2)?;
    for key in ["1", "2", "3"] {
        put(&store, "b", key, Expect::Any, "").await?;
    }
    assert_eq!(ready(&mut watcher), ["+3@3"]);
    Ok(())
}

#[tokio::test]
async fn a_waiting_watcher_is_woken() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let mut watcher = store.watch("b", "x/", 0)?;
    let waiting = tokio::spawn(async move {
        let first = watcher.next().await?.revision;
        let second = watcher.next().await?.revision;
        Ok::<_, WatchError>((first, second, watcher.next().await.unwrap_err()))
    });
    for key in ["y/1", "x/1", "y/2", "x/2"] {
        put(&store, "b", key, Expect::Any, "").await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close().await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), waiting).await??, Ok((2, 4, WatchError::Closed)));
    Ok(())
}

#[tokio::test]
async fn a_slow_watcher_is_told_and_others_are_not_disturbed() -> anyhow::Result<()> {
    let store = Store::in_memory(Options { history_events: 10, ..Options::default() })?;
    let mut slow = store.watch("b", "", 0)?;
    let mut quick = store.watch("b", "", 0)?;
    let mut quiet = store.watch("b", "quiet/", 0)?;
    let mut seen = 0;
    for n in 0..50 {
        put(&store, "b", &format!("k/{n}"), Expect::Any, "").await?;
        seen += ready(&mut quick).len();
    }
    assert_eq!(seen, 50);
    assert_eq!(slow.next().await.unwrap_err(), WatchError::Lagged);
    put(&store, "b", "quiet/1", Expect::Any, "").await?;
    assert_eq!(ready(&mut quiet), ["+quiet/1@51"], "nothing of its own was lost, so it did not lag");
    Ok(())
}

#[tokio::test]
async fn progress_is_what_a_bookmark_may_claim() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let mut watcher = store.watch("b", "x/", 0)?;
    assert_eq!(watcher.progress(), 0);
    put(&store, "b", "x/1", Expect::Any, "").await?;
    put(&store, "b", "x/2", Expect::Any, "").await?;
    assert_eq!(watcher.progress(), 0, "there are events that it has not delivered");
    watcher.next().await?;
    assert_eq!(watcher.progress(), 1);
    watcher.next().await?;
    put(&store, "b", "y/1", Expect::Any, "").await?;
    put(&store, "other", "z", Expect::Any, "").await?;
    assert_eq!(watcher.progress(), 4, "what happens elsewhere does not concern it");
    Ok(())
}

#[tokio::test]
async fn what_another_delivered_is_passed_over() -> anyhow::Result<()> {
    let store = Store::in_memory(Options { history_events: 10, ..Options::default() })?;
    let mut watcher = store.watch("b", "", 0)?;
    assert_eq!(watcher.position(), 0);
    for n in 1..=5 {
        put(&store, "b", &n.to_string(), Expect::Any, "").await?;
    }
    watcher.changed().await;
    watcher.skip_to(2)?;
    assert_eq!((watcher.position(), watcher.progress()), (2, 2));
    watcher.next().await?;
    // Some of those that it has taken out of the history already.
    watcher.skip_to(4)?;
    assert_eq!(ready(&mut watcher), ["+5@5"]);
    watcher.skip_to(3)?;
    assert_eq!((watcher.position(), watcher.progress()), (5, 5), "it never goes back");
    for n in 6..=20 {
        put(&store, "b", &n.to_string(), Expect::Any, "").await?;
    }
    // Those up to 10 are forgotten: passing over them loses nothing, passing over fewer does.
    let mut other = store.watch("b", "", 10)?;
    watcher.skip_to(10)?;
    assert_eq!(ready(&mut watcher).len(), 10);
    put(&store, "b", "21", Expect::Any, "").await?;
    put(&store, "b", "22", Expect::Any, "").await?;
    assert_eq!(other.skip_to(11), Err(WatchError::Lagged));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_see_everything_once() -> anyhow::Result<()> {
    let store = Store::in_memory(Options::default())?;
    let watchers: Vec<_> = (0..1000)
        .map(|n| {
            let prefix = if n % 2 == 0 { String::new() } else { format!("{}/", n % 10) };
            let mut watcher = store.watch("b", &prefix, 0).unwrap();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while let Ok(event) = watcher.next().await {
                    assert!(event.entry.key.starts_with(&prefix));
                    revisions.push(event.revision);
                }
                assert!(revisions.is_sorted_by(|a, b| a < b));
                (prefix.is_empty(), revisions.len())
            })
        })
        .collect();
    let writers: Vec<_> = (0..10)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                for k in 0..50 {
                    put(&store, "b", &format!("{n}/{k}"), Expect::Absent, "").await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await?;
    }
    store.close().await;
    for watcher in watchers {
        let (all, seen) = watcher.await?;
        assert_eq!(seen, if all { 500 } else { 50 });
    }
    Ok(())
}
