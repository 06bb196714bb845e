//! Random operations against the simplest thing that could be right: a list of all snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use kubetask_store::{EventKind, Expect, ListOptions, Options, Revision, Store, Write, WriteError};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Put { key: String, expect: u8, text: String },
    Delete { key: String, expect: u8 },
    Transact(Vec<(String, Option<String>)>),
    Watch { prefix: &'static str, back: u64 },
    ListAt { back: u64 },
    Page { limit: usize, back: u64 },
    Compact { back: u64 },
    Reopen,
}

type Snapshot = BTreeMap<String, (Bytes, Revision, Revision)>;

/// Every state the store has been in, by revision.
#[derive(Default)]
struct Model {
    states: BTreeMap<Revision, Snapshot>,
    events: Vec<(Revision, EventKind, String)>,
    compacted: Revision,
}

impl Model {
    fn now(&self) -> (Revision, Snapshot) {
        self.states.last_key_value().map(|(r, s)| (*r, s.clone())).unwrap_or_default()
    }

    fn at(&self, revision: Revision) -> Snapshot {
        self.states.range(..=revision).next_back().map(|(_, s)| s.clone()).unwrap_or_default()
    }
}

fn key() -> impl Strategy<Value = String> {
    "[ab]/[0-3]"
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (key(), 0..4u8, "[a-z]{0,8}").prop_map(|(key, expect, text)| Op::Put { key, expect, text }),
        4 => (key(), 0..4u8).prop_map(|(key, expect)| Op::Delete { key, expect }),
        2 => prop::collection::vec((key(), prop::option::of("[a-z]{0,8}")), 0..5).prop_map(Op::Transact),
        2 => (prop::sample::select(vec!["", "a/", "b/2"]), 0..12u64).prop_map(|(prefix, back)| Op::Watch { prefix, back }),
        2 => (0..12u64).prop_map(|back| Op::ListAt { back }),
        1 => (1..4usize, 0..6u64).prop_map(|(limit, back)| Op::Page { limit, back }),
        1 => (0..12u64).prop_map(|back| Op::Compact { back }),
        1 => Just(Op::Reopen),
    ]
}

fn expectation(choice: u8, current: Option<Revision>) -> Expect {
    match choice {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::Present,
        _ => Expect::Revision(current.unwrap_or(3)),
    }
}

fn holds(expect: Expect, current: Option<Revision>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Present => current.is_some(),
        Expect::Revision(r) => current == Some(r),
    }
}

fn apply(model: &mut Model, state: &mut Snapshot, revision: Revision, key: &str, text: Option<&str>) {
    let kind = match text {
        Some(text) => {
            let created = state.get(key).map_or(revision, |(_, created, _)| *created);
            state.insert(key.to_owned(), (Bytes::from(format!("{text}@{revision}")), created, revision));
            EventKind::Put
        }
        None => {
            state.remove(key);
            EventKind::Delete
        }
    };
    model.states.insert(revision, state.clone());
    model.events.push((revision, kind, key.to_owned()));
}

fn write(key: &str, expect: Expect, text: Option<&str>) -> Write {
    match text {
        Some(text) => Write::put("b", key, expect, crate::bake(text)),
        None => Write::delete("b", key, expect, crate::bake("gone")),
    }
}

fn list(store: &Store, options: &ListOptions<'_>) -> Result<Snapshot, kubetask_store::ListError> {
    let entries = store.list("b", options)?.entries;
    Ok(entries.iter().map(|e| (e.key.to_string(), (e.bytes.clone(), e.created, e.revision))).collect())
}

async fn run(ops: Vec<Op>) {
    let temp = tempfile::tempdir().unwrap();
    let open = || Store::open(temp.path(), Options::default()).unwrap();
    let mut store = open();
    let mut model = Model::default();
    for op in ops {
        let (revision, mut state) = model.now();
        match op {
            Op::Put { ref key, expect, .. } | Op::Delete { ref key, expect } => {
                let text = if let Op::Put { text, .. } = &op { Some(text.as_str()) } else { None };
                let current = state.get(key).map(|s| s.2);
                let expect = expectation(expect, current);
                let possible = holds(expect, current) && (text.is_some() || current.is_some());
                match store.write(write(key, expect, text)).await {
                    Ok(written) => {
                        assert!(possible, "{op:?} at {current:?}");
                        assert!(written.revision > revision);
                        apply(&mut model, &mut state, written.revision, key, text);
                    }
                    Err(WriteError::Exists { current: c } | WriteError::Conflict { current: c }) => {
                        assert!(!possible && current == Some(c.revision), "{op:?} at {current:?}");
                    }
                    Err(WriteError::NotFound) => assert!(!possible && current.is_none(), "{op:?} at {current:?}"),
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Transact(writes) => {
                let requests = writes.iter().map(|(key, text)| write(key, Expect::Any, text.as_deref())).collect();
                let mut scratch = state.clone();
                let possible = writes.iter().all(|(key, text)| match text {
                    Some(_) => {
                        scratch.insert(key.clone(), Default::default());
                        true
                    }
                    None => scratch.remove(key).is_some(),
                });
                match store.transact(requests).await {
                    Ok(written) => {
                        assert!(possible, "{writes:?}");
                        for ((key, text), written) in writes.iter().zip(written) {
                            apply(&mut model, &mut state, written.revision, key, text.as_deref());
                        }
                    }
                    Err(WriteError::NotFound) => assert!(!possible, "{writes:?}"),
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Watch { prefix, back } => {
                let after = revision.saturating_sub(back);
                let watcher = store.watch("b", prefix, after);
                assert_eq!(watcher.is_err(), after < model.compacted);
                if let Ok(mut watcher) = watcher {
                    let mut seen = Vec::new();
                    while let Some(e) = watcher.try_next().unwrap() {
                        seen.push((e.revision, e.kind, e.entry.key.to_string()));
                    }
                    let expected: Vec<_> =
                        model.events.iter().filter(|(r, _, k)| *r > after && k.starts_with(prefix)).cloned().collect();
                    assert_eq!(seen, expected);
                    assert_eq!(watcher.progress(), revision);
                }
            }
            Op::ListAt { back } => {
                let at = revision.saturating_sub(back);
                match list(&store, &ListOptions { at_revision: Some(at), ..ListOptions::default() }) {
                    Ok(found) => assert_eq!(found, model.at(at)),
                    Err(_) => assert!(at < model.compacted),
                }
            }
            Op::Page { limit, back } => {
                let at = revision.saturating_sub(back).max(model.compacted);
                let expected = model.at(at);
                let mut found = Snapshot::new();
                let mut rest = None;
                loop {
                    let last = found.keys().next_back().cloned();
                    let options =
                        ListOptions { limit, start_after: last.as_deref(), at_revision: Some(at), prefix: "", rest };
                    let remaining = store.list("b", &options).unwrap().remaining;
                    found.extend(list(&store, &options).unwrap());
                    assert_eq!(found.len() + remaining, expected.len());
                    // Counted every other time, taken from the page before in between.
                    rest = rest.is_none().then_some(remaining);
                    if remaining == 0 {
                        break;
                    }
                }
                assert_eq!(found, expected);
            }
            Op::Compact { back } => {
                let to = revision.saturating_sub(back);
                store.compact(to);
                model.compacted = model.compacted.max(to);
                assert_eq!(store.compacted(), model.compacted);
            }
            Op::Reopen => {
                store.close().await;
                store = open();
                model.compacted = revision;
                assert_eq!(store.revision(), revision);
            }
        }
        let (revision, state) = model.now();
        assert_eq!(store.revision(), revision);
        assert_eq!(list(&store, &ListOptions::default()).unwrap(), state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(ops));
    }
}
