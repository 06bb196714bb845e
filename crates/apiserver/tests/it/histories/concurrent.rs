//! Calls at once: every object's history is one line, and every answer fits in where it was asked and given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use serde_json::{Value, json};

use super::stream::{Stream, version};
use crate::server::{CONFIG_MAPS, TestServer, with_body};

const CLIENTS: usize = 8;
const CALLS: usize = 150;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One call, on a clock that ticks with every start and end of a call.
#[derive(Debug)]
struct Record {
    started: u64,
    ended: u64,
    name: &'static str,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    /// The object as it was written, and the revision that it had to be at.
    Wrote { object: Value, precondition: Option<u64> },
    /// Deleted; the object's uid.
    Deleted { uid: String },
    /// Read; `None` for not there.
    Read(Option<Value>),
    /// Refused for a resourceVersion that was not the current one, or a name that was taken.
    Refused,
}

/// What the history says about one name.
#[derive(Default)]
struct Line {
    /// `(revision, object)`; `None` where it was deleted.
    states: Vec<(u64, Option<Value>)>,
}

impl Line {
    fn at(&self, revision: u64) -> Option<&Value> {
        self.states.iter().take_while(|(r, _)| *r <= revision).last().and_then(|(_, object)| object.as_ref())
    }
}

async fn client(server: Arc<TestServer>, clock: Arc<AtomicU64>, number: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut known: BTreeMap<&str, Value> = BTreeMap::new();
    for call in 0..CALLS {
        let (name, choice) = {
            let mut random = rand::rng();
            (NAMES[random.random_range(0..NAMES.len())], random.random_range(0..10))
        };
        let path = format!("{CONFIG_MAPS}/{name}");
        let data = json!({format!("by-{number}"): call.to_string()});
        let started = clock.fetch_add(1, Ordering::SeqCst);
        let (answer, precondition) = match choice {
            0 | 1 => {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
                (server.post(CONFIG_MAPS, &body).await?, None)
            }
            2 | 3 if known.contains_key(name) => {
                let mut body = known[name].clone();
                body["data"] = data;
                let precondition = version(&body);
                (server.put(&path, &body).await?, Some(precondition))
            }
            4 => (server.patch(&path, "merge", &json!({"data": data})).await?, None),
            5 => (server.patch(&path, "strategic-merge-patch", &json!({"data": data})).await?, None),
            6 => {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
                let path = format!("{path}?fieldManager=client-{number}&force=true");
                (server.send(with_body("PATCH", &path, "application/apply-patch+yaml", &body)?).await?, None)
            }
            7 => (server.delete(&path).await?, None),
            _ => (server.get(&path).await?, None),
        };
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        let read = choice > 7 || (matches!(choice, 2 | 3) && !known.contains_key(name));
        let what = match answer.status.as_u16() {
            200 | 201 if read => What::Read(Some(answer.body.clone())),
            200 if choice == 7 => {
                What::Deleted { uid: answer.at("/details/uid").as_str().context("a uid")?.to_owned() }
            }
            200 | 201 => What::Wrote { object: answer.body.clone(), precondition },
            404 => What::Read(None),
            409 => What::Refused,
            other => anyhow::bail!("{other}: {}", answer.text),
        };
        if matches!(what, What::Wrote { .. } | What::Read(Some(_))) {
            known.insert(name, answer.body);
        }
        records.push(Record { started, ended, name, what });
    }
    Ok(records)
}

/// Splits a watch of everything into a line for each name; fails unless it is in order and a chain.
fn lines(events: &[Value]) -> Result<BTreeMap<String, Line>> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let mut last = 0;
    for event in events {
        let object = &event["object"];
        let revision = version(object);
        ensure!(revision > last, "{revision} after {last}");
        last = revision;
        let line = lines.entry(object["metadata"]["name"].as_str().context("a name")?.to_owned()).or_default();
        let before = line.states.last().and_then(|(_, object)| object.as_ref());
        let uid = |object: &Value| object["metadata"]["uid"].clone();
        match event["type"].as_str().context("a type")? {
            "ADDED" => {
                ensure!(before.is_none(), "added twice: {event}");
                line.states.push((revision, Some(object.clone())));
            }
            "MODIFIED" => {
                ensure!(before.is_some_and(|before| uid(before) == uid(object)), "modified out of nothing: {event}");
                ensure!(
                    before.is_some_and(|before| before["data"] != object["data"]
                        || before["metadata"]["managedFields"] != object["metadata"]["managedFields"]),
                    "no change: {event}"
                );
                line.states.push((revision, Some(object.clone())));
            }
            "DELETED" => {
                ensure!(before.is_some_and(|before| uid(before) == uid(object)), "deleted out of nothing: {event}");
                line.states.push((revision, None));
            }
            other => anyhow::bail!("{other}: {event}"),
        }
    }
    Ok(lines)
}

/// The places in a line at which a call may have happened, as indices of the state after it; `0` is before everything.
fn fits(line: &Line, record: &Record) -> Result<Vec<usize>> {
    let before = |index: usize| index.checked_sub(1).and_then(|i| line.states.get(i)).and_then(|(_, o)| o.as_ref());
    let after = |index: usize| line.states.get(index).map(|(_, object)| object.as_ref());
    Ok(match &record.what {
        What::Wrote { object, precondition } => {
            let revision = version(object);
            let index = line.states.iter().position(|(r, _)| *r == revision).context("a write without an event")?;
            ensure!(after(index) == Some(Some(object)), "the answer is not what was written: {record:?}");
            if let Some(precondition) = precondition {
                let known = before(index).map(version);
                ensure!(
                    known == Some(*precondition) || revision == *precondition,
                    "lost update: {record:?}, {known:?}"
                );
            }
            vec![index + 1]
        }
        What::Deleted { uid } => {
            let its = |index: &usize| before(*index).is_some_and(|o| o["metadata"]["uid"] == uid.as_str());
            let deleted = |index: &usize| after(*index) == Some(None) && its(index);
            let index = (0..line.states.len()).find(deleted).context("a deletion without an event")?;
            vec![index + 1]
        }
        What::Read(Some(object)) => {
            let revision = version(object);
            let index = line.states.iter().position(|(r, _)| *r == revision).context("read what never was")?;
            ensure!(line.at(revision) == Some(object), "read another state than the event told: {record:?}");
            vec![index + 1]
        }
        What::Read(None) => (0..=line.states.len()).filter(|index| before(*index).is_none()).collect(),
        // It was there, in some state.
        What::Refused => (0..=line.states.len()).collect(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_are_linearisable() -> Result<()> {
    let server = Arc::new(TestServer::start().await?);
    let mut watch = Stream::open(&server, CONFIG_MAPS, "").await?;
    let clock = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|number| tokio::spawn(client(server.clone(), clock.clone(), number)));
    let mut records = Vec::new();
    for client in futures::future::join_all(clients).await {
        records.extend(client??);
    }
    let end = server.post(CONFIG_MAPS, &crate::server::config_map("end")).await?.version();
    let events = watch.until(end).await?;
    let lines = lines(&events)?;
    let written = records.iter().filter(|r| matches!(r.what, What::Wrote { .. })).count();
    ensure!(written > 100 && events.len() > 100, "too little happened: {written} of {}", events.len());
    for name in NAMES {
        let line = lines.get(name).context("a line")?;
        let mut mine: Vec<&Record> = records.iter().filter(|record| record.name == name).collect();
        // By end: a call that had ended before another began must not come after it. Greedy: the earliest place that
        // is not before what had ended already.
        mine.sort_by_key(|record| record.started);
        let mut ended: Vec<(u64, usize)> = Vec::new();
        for record in mine {
            let floor = ended.iter().filter(|(end, _)| *end < record.started).map(|(_, at)| *at).max().unwrap_or(0);
            let place = fits(line, record)?.into_iter().find(|place| *place >= floor);
            let place = place.with_context(|| format!("{name}: too late for {record:?}, already at {floor}"))?;
            ended.push((record.ended, place));
        }
    }
    Ok(())
}
