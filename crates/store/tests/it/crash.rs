//! `kill -9` at random moments: what was acknowledged is there, transactions are whole, revisions grow.
//!
//! The child is this test binary again. It writes from several tasks and prints a line for each acknowledged
//! transaction; the parent kills it, opens the store and compares.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kubetask_store::{Expect, ListOptions, Options, Revision, Store, Write};

const DIR: &str = "KUBETASK_STORE_CRASH_DIR";
const ROUNDS: usize = 12;
const WRITERS: usize = 6;

#[test]
fn nothing_acknowledged_is_lost() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let mut newest: Revision = 0;
    for round in 0..ROUNDS {
        // The last round of a pair is killed while opening after a crash, too.
        let lifetime = Duration::from_millis([40, 3, 90, 150, 15, 60][round % 6]);
        let acknowledged = run_and_kill(temp.path(), lifetime)?;
        newest = check(temp.path(), &acknowledged, newest)?;
    }
    assert!(newest > 100, "the children got something done: {newest}");
    Ok(())
}

/// Runs the child for a while; returns the last acknowledged number and revision of each writer.
fn run_and_kill(dir: &Path, lifetime: Duration) -> anyhow::Result<HashMap<usize, (u64, Revision)>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no stdout"))?;
    let reader = std::thread::spawn(move || {
        let mut acknowledged = HashMap::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The last line may be cut off by the kill; only whole ones end with a dot.
            let Some(line) = line.strip_prefix("ack ").and_then(|l| l.strip_suffix(" .")) else { continue };
            let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            acknowledged.insert(numbers[0] as usize, (numbers[1], numbers[2]));
        }
        acknowledged
    });
    std::thread::sleep(lifetime);
    child.kill()?;
    child.wait()?;
    Ok(reader.join().unwrap())
}

fn check(dir: &Path, acknowledged: &HashMap<usize, (u64, Revision)>, before: Revision) -> anyhow::Result<Revision> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(dir, Options::default())?;
        for writer in 0..WRITERS {
            let value = |half: &str| {
                let entry = store.get("pairs", &format!("{writer}/{half}"));
                entry.map(|e| (number(&e.bytes), e.revision))
            };
            let (left, right) = (value("left"), value("right"));
            assert_eq!(left.map(|l| l.0), right.map(|r| r.0), "writer {writer}: half of a transaction");
            if let Some((number, revision)) = acknowledged.get(&writer) {
                let found = left.unwrap_or_else(|| panic!("writer {writer} was told that {number} is durable"));
                assert!(found.0 >= *number && found.1 >= *revision, "writer {writer}: {found:?} < {number}@{revision}");
            }
            let kept = store.list("log", &ListOptions { prefix: &format!("{writer}/"), ..ListOptions::default() })?;
            // Each transaction adds one entry and deletes the one ten before it.
            let numbers: Vec<_> = kept.entries.iter().map(|e| number(&e.bytes)).collect();
            if let Some((last, _)) = left {
                let expected: Vec<_> = (last.saturating_sub(9).max(1)..=last).collect();
                assert_eq!(numbers, expected, "writer {writer}");
            }
        }
        assert!(store.revision() >= before, "{} < {before}", store.revision());
        let next = crate::put(&store, "probe", "p", Expect::Any, "").await?.revision;
        assert!(next > before);
        store.close().await;
        Ok(next)
    })
}

fn number(bytes: &Bytes) -> u64 {
    std::str::from_utf8(&bytes[..20]).unwrap().parse().unwrap()
}

/// Not a test: what the test above kills.
#[test]
#[ignore = "the child process of the crash test"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir, Options::default()).unwrap();
        let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write_for_ever(store.clone(), n))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write_for_ever(store: Store, writer: usize) {
    let last = store.get("pairs", &format!("{writer}/left")).map_or(0, |e| number(&e.bytes));
    for n in last + 1.. {
        let text = move |_| Bytes::from(format!("{n:020}{}", "x".repeat(n as usize * 37 % 3000)));
        let mut writes = vec![
            Write::put("pairs", format!("{writer}/left"), Expect::Any, text),
            Write::put("log", format!("{writer}/{n:020}"), Expect::Absent, text),
            Write::put("pairs", format!("{writer}/right"), Expect::Any, text),
        ];
        if n > 10 {
            writes.push(Write::delete("log", format!("{writer}/{:020}", n - 10), Expect::Present, |_| Bytes::new()));
        }
        let written = store.transact(writes).await.unwrap();
        let revision = written[0].revision;
        // One write call, so that lines of several tasks do not mix.
        std::io::stdout().write_all(format!("ack {writer} {n} {revision} .\n").as_bytes()).unwrap();
    }
}
