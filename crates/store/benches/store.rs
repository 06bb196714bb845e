//! What the store costs: durable writes with one and with 32 writers, gets, a list of 28,000 objects, opening 100,000.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kubetask_store::{Expect, ListOptions, Options, Store, Write};
use tokio::runtime::Runtime;

const KIB: usize = 1024;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; KIB])
}

/// `total` creates spread over `writers` tasks.
async fn fill(store: &Store, writers: u64, total: u64, round: u64) {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..total / writers {
                    let key = format!("default/{round}-{writer}-{n}");
                    store.write(Write::put("configmaps", key, Expect::Absent, |_| value())).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn writes(c: &mut Criterion) {
    let runtime = runtime();
    let temp = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("durable 1 KiB creates");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    let mut round = 0;
    for (writers, total) in [(1, 200), (32, 6400), (128, 12800)] {
        let store = Store::open(temp.path().join(writers.to_string()), Options::default()).unwrap();
        group.throughput(Throughput::Elements(total));
        group.bench_function(format!("{writers} writers"), |b| {
            b.iter(|| {
                round += 1;
                runtime.block_on(fill(&store, writers, total, round));
            })
        });
        runtime.block_on(store.close());
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let runtime = runtime();
    let store = Store::in_memory(Options::default()).unwrap();
    runtime.block_on(fill(&store, 32, 28_000, 0));
    c.bench_function("get", |b| b.iter(|| black_box(store.get("configmaps", "default/0-7-77"))));
    c.bench_function("list 28,000", |b| {
        b.iter(|| black_box(store.list("configmaps", &ListOptions::default())).unwrap())
    });
    let page = ListOptions { limit: 500, start_after: Some("default/0-17"), ..ListOptions::default() };
    c.bench_function("list a page of 500", |b| b.iter(|| black_box(store.list("configmaps", &page)).unwrap()));
}

fn watches(c: &mut Criterion) {
    let runtime = runtime();
    let store = Store::in_memory(Options::default()).unwrap();
    for watcher in 0..1000 {
        let mut watcher = store.watch("configmaps", &format!("default/{watcher}/"), 0).unwrap();
        runtime.spawn(async move { while watcher.next().await.is_ok() {} });
    }
    let mut n = 0;
    c.bench_function("write beside 1,000 watchers of other objects", |b| {
        b.iter(|| {
            n += 1;
            runtime.block_on(store.write(Write::put("configmaps", "other/1", Expect::Any, |_| value()))).unwrap();
        })
    });
}

fn opening(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let store = Store::open(temp.path(), Options::default()).unwrap();
        fill(&store, 100, 100_000, 0).await;
        store.close().await;
    });
    let open = |dir: &Path| {
        let started = Instant::now();
        let store = Store::open(dir, Options::default()).unwrap();
        let took = started.elapsed();
        assert_eq!(store.count("configmaps"), 100_000);
        runtime.block_on(store.close());
        took
    };
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    group.bench_function("100,000 objects", |b| b.iter_custom(|times| (0..times).map(|_| open(temp.path())).sum()));
    group.finish();
}

criterion_group!(benches, writes, reads, watches, opening);
criterion_main!(benches);
