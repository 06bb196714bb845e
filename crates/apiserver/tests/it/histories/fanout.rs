//! Very many watchers of a busy kind.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kubetask_store::Options;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::stream::{Stream, version};
use crate::server::{CONFIG_MAPS, TestServer};

const WRITERS: usize = 4;

/// Writes to objects of its own: a create, changes, a deletion, again and again; five permits a round.
async fn write(server: Arc<TestServer>, writer: usize, rounds: usize, permits: Arc<Semaphore>) -> Result<()> {
    for round in 0..rounds {
        permits.acquire_many(5).await?.forget();
        let name = format!("w{writer}-{round}");
        let half = if round % 2 == 0 { "even" } else { "odd" };
        let body = json!({"metadata": {"name": name, "labels": {"half": half}}, "data": {"n": "0"}});
        server.post(CONFIG_MAPS, &body).await?.expect(201);
        for n in 1..4 {
            let patch = json!({"data": {"n": n.to_string()}});
            server.patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &patch).await?.expect(200);
        }
        server.delete(&format!("{CONFIG_MAPS}/{name}")).await?.expect(200);
    }
    Ok(())
}

fn unlimited() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

/// `type name n`, without bookmarks.
fn told(events: &[Value]) -> Vec<(u64, String)> {
    let line = |event: &Value| {
        let object = &event["object"];
        let [kind, name, n] = [&event["type"], &object["metadata"]["name"], &object["data"]["n"]].map(Value::as_str);
        (version(object), format!("{} {} {}", kind.unwrap_or("-"), name.unwrap_or("-"), n.unwrap_or("-")))
    };
    events.iter().filter(|event| event["type"] != "BOOKMARK").map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_watchers_miss_nothing() -> Result<()> {
    const WATCHERS: usize = 1000;
    const ROUNDS: usize = 10;
    let server = Arc::new(TestServer::start().await?);
    let mut all = Stream::open(&server, CONFIG_MAPS, "").await?;
    let mut watchers = Vec::new();
    for number in 0..WATCHERS {
        let query = ["", "labelSelector=half%3Deven", "allowWatchBookmarks=true", "fieldSelector=metadata.name%3Dend"];
        watchers.push((number % 4, Stream::open(&server, CONFIG_MAPS, query[number % 4]).await?));
    }
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write(server.clone(), writer, ROUNDS, unlimited())));
    let reader = |mut stream: Stream, end: Arc<tokio::sync::OnceCell<u64>>| async move {
        let mut events = Vec::new();
        // Everybody selects the last one.
        loop {
            let event = stream.next().await?.context("the watch goes on")?;
            let last = event["object"]["metadata"]["name"] == "end";
            events.push(event);
            if last {
                end.set(version(&events[events.len() - 1]["object"])).ok();
                return anyhow::Ok(events);
            }
        }
    };
    let end = Arc::new(tokio::sync::OnceCell::new());
    let readers: Vec<_> =
        watchers.into_iter().map(|(group, stream)| (group, tokio::spawn(reader(stream, end.clone())))).collect();
    for writer in futures::future::join_all(writers).await {
        writer??;
    }
    let body = json!({"metadata": {"name": "end", "labels": {"half": "even"}}});
    let last = server.post(CONFIG_MAPS, &body).await?.expect(201).version();
    let expected = told(&all.until(last).await?);
    ensure!(expected.len() == WRITERS * ROUNDS * 5 + 1, "{} events", expected.len());
    ensure!(expected.is_sorted_by(|a, b| a.0 < b.0), "out of order");
    let even: Vec<_> = expected
        .iter()
        .filter(|(_, line)| {
            let round = line.split(['-', ' ']).nth(2).and_then(|round| round.parse::<usize>().ok());
            round.is_none_or(|round| round % 2 == 0)
        })
        .cloned()
        .collect();
    for (group, reader) in readers {
        let events = reader.await??;
        let expected = match group {
            1 => &even[..],
            3 => &expected[expected.len() - 1..],
            _ => &expected[..],
        };
        ensure!(told(&events) == expected, "group {group}: {:#?}", told(&events));
        let versions: Vec<u64> = events.iter().map(|event| version(&event["object"])).collect();
        ensure!(versions.is_sorted(), "bookmarks go back: {versions:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off_and_disturbs_nobody() -> Result<()> {
    const ROUNDS: usize = 60;
    let server = Arc::new(TestServer::start_with(Options { history_events: 100, ..Options::default() }).await?);
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(Stream::open(&server, CONFIG_MAPS, "").await?);
    }
    let mut quick = Stream::open(&server, CONFIG_MAPS, "").await?;
    // Nobody is ahead of the quick one by more than the history keeps.
    let permits = Arc::new(Semaphore::new(60));
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write(server.clone(), writer, ROUNDS, permits.clone())));
    let count = WRITERS * ROUNDS * 5;
    let reader = async {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(quick.next().await?.context("the quick one goes on")?);
            permits.add_permits(1);
        }
        anyhow::Ok(events)
    };
    let events = tokio::time::timeout(Duration::from_secs(120), reader);
    let (written, events) = tokio::join!(futures::future::join_all(writers), events);
    for writer in written {
        writer??;
    }
    let events = told(&events??);
    ensure!(events.is_sorted_by(|a, b| a.0 < b.0) && events.len() == count, "the quick one lost something");
    for mut stream in slow {
        // What it gets is in order from the first on, and then it is told why it does not go on.
        let mut got = Vec::new();
        let error = loop {
            let event = stream.next().await?.context("told before the end")?;
            if event["type"] == "ERROR" {
                break event;
            }
            got.push(event);
        };
        ensure!(error["object"]["code"] == 410 && error["object"]["reason"] == "Expired", "{error}");
        ensure!(told(&got) == events[..got.len()], "a slow watcher got something else");
        ensure!(stream.next().await?.is_none(), "the watch ends with the error");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_never_run_ahead() -> Result<()> {
    let server = Arc::new(TestServer::start().await?);
    let begin = server.revision().await?;
    let writer = tokio::spawn(write(server.clone(), 0, 30, unlimited()));
    // Short watches, one after the other, each from the bookmark or event that came last.
    let mut seen = Vec::new();
    let mut from = begin;
    let mut bookmarks = 0;
    while !(writer.is_finished() && seen.len() == 150) {
        let query = format!("resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1&labelSelector=half");
        let mut stream = Stream::open(&server, CONFIG_MAPS, &query).await?;
        while let Some(event) = stream.next().await? {
            let now = version(&event["object"]);
            ensure!(now >= from, "{now} after {from}");
            from = now;
            if event["type"] == "BOOKMARK" {
                bookmarks += 1;
            } else {
                seen.push(event);
            }
        }
        ensure!(seen.len() <= 150, "something came twice");
    }
    writer.await??;
    ensure!(bookmarks > 0, "a watch that ends tells how far it got");
    let mut all = Stream::open(&server, CONFIG_MAPS, &format!("resourceVersion={begin}")).await?;
    let mut expected = Vec::new();
    while expected.len() < 150 {
        expected.push(all.next().await?.context("retained")?);
    }
    ensure!(told(&seen) == told(&expected), "{:#?}", told(&seen));
    Ok(())
}
