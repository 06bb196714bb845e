//! Random calls one after the other: every answer, every list at every revision, every watch from every revision.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use kubetask_store::Options;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::model::{HOLD, Model, Object, Outcome, shown};
use super::stream::{Stream, version};
use crate::server::{Answer, TestServer, with_body};

const NAMESPACES: [&str; 2] = ["default", "kube-system"];
const MANAGERS: [&str; 3] = ["one", "two", "three"];

type Values = BTreeMap<String, String>;

#[derive(Debug, Clone)]
enum Op {
    Create(String, usize, Values),
    Put(String, usize, Values, u8),
    Merge(String, usize, String, Option<String>),
    Strategic(String, usize, String, Option<String>),
    Json(String, usize, String, String),
    Apply(String, usize, Values, bool),
    Hold(String, bool),
    Delete(String, u8),
    DeleteAll(String),
}

fn key() -> impl Strategy<Value = String> {
    (prop::sample::select(&NAMESPACES), "[ab]").prop_map(|(namespace, name)| format!("{namespace}/{name}"))
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![3 => "d:[xyz]", 1 => Just("l:app".to_owned())]
}

fn values() -> impl Strategy<Value = Values> {
    prop::collection::btree_map(field(), "[12]", 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    let manager = || 0..MANAGERS.len();
    prop_oneof![
        4 => (key(), manager(), values()).prop_map(|(k, m, v)| Op::Create(k, m, v)),
        4 => (key(), manager(), values(), 0..3u8).prop_map(|(k, m, v, p)| Op::Put(k, m, v, p)),
        2 => (key(), manager(), field(), prop::option::of("[12]")).prop_map(|(k, m, f, v)| Op::Merge(k, m, f, v)),
        2 => (key(), manager(), field(), prop::option::of("[12]")).prop_map(|(k, m, f, v)| Op::Strategic(k, m, f, v)),
        2 => (key(), manager(), "[xyz]", "[12]").prop_map(|(k, m, f, v)| Op::Json(k, m, f, v)),
        6 => (key(), manager(), values(), any::<bool>()).prop_map(|(k, m, v, f)| Op::Apply(k, m, v, f)),
        2 => (key(), any::<bool>()).prop_map(|(k, hold)| Op::Hold(k, hold)),
        2 => (key(), 0..3u8).prop_map(|(k, p)| Op::Delete(k, p)),
        1 => "[12]".prop_map(Op::DeleteAll),
    ]
}

fn path(key: &str) -> String {
    let (namespace, name) = key.split_once('/').unwrap();
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

fn body(key: &str, values: &Values) -> Value {
    let part = |prefix: &str| -> Values {
        values.iter().filter_map(|(f, v)| Some((f.strip_prefix(prefix)?.to_owned(), v.clone()))).collect()
    };
    let (_, name) = key.split_once('/').unwrap();
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (values, at) in [(part("d:"), "/data"), (part("l:"), "/metadata/labels")] {
        if !values.is_empty() {
            let (parent, member) = at.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[member] = json!(values);
        }
    }
    object
}

/// A merge patch of one field.
fn one(field: &str, value: Option<&String>) -> Value {
    match field.split_at(2) {
        ("d:", name) => json!({"data": {name: value}}),
        (_, name) => json!({"metadata": {"labels": {name: value}}}),
    }
}

fn with_one(model: &Model, key: &str, field: &str, value: Option<&String>) -> Values {
    let mut values = model.objects.get(key).map(|object| object.values.clone()).unwrap_or_default();
    match value {
        Some(value) => values.insert(field.to_owned(), value.clone()),
        None => values.remove(field),
    };
    values
}

/// A precondition: none, the right one, a wrong one.
fn precondition(model: &Model, key: &str, choice: u8) -> Option<u64> {
    let current = model.objects.get(key).map_or(1, |object| object.revision);
    match choice {
        0 => None,
        1 => Some(current),
        _ => Some(current.saturating_sub(1).max(1)),
    }
}

/// Does it to the model and to the server.
async fn act(server: &TestServer, model: &mut Model, op: &Op) -> Result<(Outcome, Answer)> {
    let send = async |method: &str, path: String, kind: &str, body: &Value| {
        server.send(with_body(method, &path, &format!("application/{kind}"), body)?).await
    };
    let by = |manager: usize| format!("fieldManager={}", MANAGERS[manager]);
    Ok(match op {
        Op::Create(key, manager, values) => {
            let path = format!("{}?{}", path(key).rsplit_once('/').unwrap().0, by(*manager));
            let answer = send("POST", path, "json", &body(key, values)).await?;
            (model.create(key, MANAGERS[*manager], values), answer)
        }
        Op::Put(key, manager, values, choice) => {
            let precondition = precondition(model, key, *choice);
            let mut body = body(key, values);
            if let Some(revision) = precondition {
                body["metadata"]["resourceVersion"] = revision.to_string().into();
            }
            let mut values = values.clone();
            if model.objects.get(key).is_some_and(|object| object.values.contains_key(HOLD)) {
                body["metadata"]["finalizers"] = json!(["example.test/hold"]);
                values.insert(HOLD.to_owned(), String::new());
            }
            let answer = send("PUT", format!("{}?{}", path(key), by(*manager)), "json", &body).await?;
            (model.update(key, MANAGERS[*manager], &values, precondition), answer)
        }
        Op::Merge(key, manager, field, value) | Op::Strategic(key, manager, field, value) => {
            let kind = if matches!(op, Op::Merge(..)) { "merge-patch+json" } else { "strategic-merge-patch+json" };
            let patch = one(field, value.as_ref());
            let answer = send("PATCH", format!("{}?{}", path(key), by(*manager)), kind, &patch).await?;
            let values = with_one(model, key, field, value.as_ref());
            (model.update(key, MANAGERS[*manager], &values, None), answer)
        }
        Op::Json(key, manager, name, value) => {
            // An add needs its parent.
            let empty = model.objects.get(key).is_none_or(|o| !o.values.keys().any(|f| f.starts_with("d:")));
            let patch = if empty {
                json!([{"op": "add", "path": "/data", "value": {name: value}}])
            } else {
                json!([{"op": "add", "path": format!("/data/{name}"), "value": value}])
            };
            let answer = send("PATCH", format!("{}?{}", path(key), by(*manager)), "json-patch+json", &patch).await?;
            let values = with_one(model, key, &format!("d:{name}"), Some(value));
            (model.update(key, MANAGERS[*manager], &values, None), answer)
        }
        Op::Apply(key, manager, values, force) => {
            let path = format!("{}?{}&force={force}", path(key), by(*manager));
            let answer = send("PATCH", path, "apply-patch+yaml", &body(key, values)).await?;
            (model.apply(key, MANAGERS[*manager], values, *force), answer)
        }
        Op::Hold(key, hold) => {
            let finalizers = if *hold { json!(["example.test/hold"]) } else { Value::Null };
            let patch = json!({"metadata": {"finalizers": finalizers}});
            let answer = send("PATCH", format!("{}?fieldManager=hold", path(key)), "merge-patch+json", &patch).await?;
            (model.hold(key, *hold), answer)
        }
        Op::Delete(key, choice) => {
            let precondition = precondition(model, key, *choice);
            let options = match precondition {
                Some(revision) => json!({"preconditions": {"resourceVersion": revision.to_string()}}),
                None => json!({}),
            };
            let answer = send("DELETE", path(key), "json", &options).await?;
            let wrong = model.objects.get(key).is_some_and(|o| precondition.is_some_and(|r| r != o.revision));
            (if wrong { Outcome::Refused(409) } else { model.delete(key) }, answer)
        }
        Op::DeleteAll(_) => unreachable!("has many changes"),
    })
}

async fn step(server: &TestServer, model: &mut Model, op: &Op) -> Result<()> {
    if let Op::DeleteAll(value) = op {
        let selected: Vec<String> = model
            .objects
            .iter()
            .filter(|(key, o)| key.starts_with("default/") && o.values.get("l:app") == Some(value))
            .map(|(key, _)| key.clone())
            .collect();
        let path = format!("/api/v1/namespaces/default/configmaps?labelSelector=app%3D{value}");
        server.delete(&path).await?.expect(200);
        // What is not gone tells its revision itself; what is gone, the watch does.
        for key in selected {
            let outcome = model.delete(&key);
            if outcome != Outcome::Unchanged {
                let revision =
                    if model.objects.contains_key(&key) { server.get(&self::path(&key)).await?.version() } else { 0 };
                model.number(revision);
            }
        }
        return Ok(());
    }
    let (outcome, answer) = act(server, model, op).await?;
    let status = answer.status.as_u16();
    match outcome {
        Outcome::Refused(code) => ensure!(status == code, "{op:?}: {status}, not {code}: {}", answer.text),
        Outcome::Created => ensure!(status == 201, "{op:?}: {status}: {}", answer.text),
        Outcome::Done | Outcome::Unchanged => ensure!(status == 200, "{op:?}: {status}: {}", answer.text),
    }
    if matches!(outcome, Outcome::Created | Outcome::Done) {
        let gone = model.history.last().is_some_and(|change| change.kind == "DELETED");
        // A deletion is numbered by what a watch says; see `fill_in`.
        model.number(if gone { 0 } else { answer.version() });
    }
    if let Op::Create(key, ..) | Op::Put(key, ..) | Op::Merge(key, ..) | Op::Apply(key, ..) = op
        && !matches!(outcome, Outcome::Refused(_))
    {
        ensure!(
            shown(&answer.body) == model.objects[key].shown(),
            "{op:?}: {} for {}",
            answer.text,
            model.objects[key].shown()
        );
    }
    Ok(())
}

/// Takes the revisions of deletions out of a watch of everything, in order.
fn fill_in(model: &mut Model, events: &[Value]) -> Result<()> {
    ensure!(events.len() == model.history.len(), "{} events, not {}", events.len(), model.history.len());
    for (change, event) in model.history.iter_mut().zip(events) {
        if change.object.revision == 0 {
            change.object.revision = version(&event["object"]);
        }
    }
    let revisions: Vec<u64> = model.history.iter().map(|change| change.object.revision).collect();
    ensure!(revisions.is_sorted_by(|a, b| a < b), "not in order: {revisions:?}");
    Ok(())
}

fn told(events: &[Value]) -> Vec<(String, String, Value)> {
    let told = |event: &Value| {
        let meta = &event["object"]["metadata"];
        let key = format!("{}/{}", meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
        (event["type"].as_str().unwrap().to_owned(), key, shown(&event["object"]))
    };
    events.iter().map(told).collect()
}

async fn run(ops: Vec<Op>) -> Result<()> {
    let server = TestServer::start_with(Options { history_events: 30, ..Options::default() }).await?;
    let mut everything = Stream::open(&server, "/api/v1/configmaps", "").await?;
    let begin = server.revision().await?;
    let mut model = Model::default();
    let mut events = Vec::new();
    for op in &ops {
        step(&server, &mut model, op).await?;
        // Reads along: the history is short.
        while let Some(event) = everything.next().now_or_never() {
            events.push(event?.context("the watch has ended")?);
        }
        let list = server.get("/api/v1/configmaps").await?.expect(200);
        let listed: Vec<Value> = list.at("/items").as_array().unwrap().iter().map(shown).collect();
        let expected: Vec<Value> = model.objects.values().map(Object::shown).collect();
        ensure!(listed == expected, "{op:?}: {listed:#?} is not {expected:#?}");
    }
    let last = server
        .post("/api/v1/namespaces/default/configmaps?fieldManager=one", &body("default/end", &Values::new()))
        .await?;
    model.create("default/end", "one", &Values::new());
    model.number(last.version());
    events.extend(everything.until(last.version()).await?);
    fill_in(&mut model, &events)?;
    ensure!(told(&events) == model.events(begin, |_, _| true), "a watch of everything: {events:#?}");

    // From any revision: what is retained comes in full, what is not is told to be gone; the same for lists.
    let oldest = model.history.len().saturating_sub(30);
    for (at, change) in model.history.iter().enumerate() {
        let revision = change.object.revision;
        let selector = "labelSelector=app%3D1&allowWatchBookmarks=true&timeoutSeconds=1";
        for (path, query, namespace, labelled) in [
            ("/api/v1/configmaps", "timeoutSeconds=1", "", false),
            ("/api/v1/namespaces/default/configmaps", selector, "default/", true),
        ] {
            let takes = |key: &str, object: &Object| {
                key.starts_with(namespace) && (!labelled || object.values.get("l:app").is_some_and(|v| v == "1"))
            };
            let expected = model.events(revision, takes);
            let mut stream = Stream::open(&server, path, &format!("{query}&resourceVersion={revision}")).await?;
            let mut events = Vec::new();
            // A watch that has nothing more to tell would wait.
            while events.len() < expected.len() {
                match stream.next().await? {
                    Some(event) if event["type"] == "BOOKMARK" => {}
                    Some(event) => events.push(event),
                    None => break,
                }
            }
            let gone = events.first().is_some_and(|e| e["type"] == "ERROR" && e["object"]["code"] == 410);
            ensure!(!gone || at < oldest, "revision {revision} is retained");
            ensure!(gone || told(&events) == expected, "from {revision}: {events:#?} is not {expected:#?}");
            let list = server.get(&format!("{path}?resourceVersion={revision}&resourceVersionMatch=Exact")).await?;
            ensure!(list.status != 410 || at <= oldest, "revision {revision} is retained");
            if list.status == 200 {
                let listed: Vec<Value> = list.at("/items").as_array().unwrap().iter().map(shown).collect();
                let state = model.at(revision);
                let state = state.iter().filter(|(key, _)| key.starts_with(namespace));
                ensure!(listed == state.map(|(_, o)| o.shown()).collect::<Vec<_>>(), "the list at {revision}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_server_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(ops)).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}

/// `KUBETASK_CASES` is for long runs.
fn cases() -> u32 {
    std::env::var("KUBETASK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}
