//! What ownership costs on each write, and the two patch types that need a schema.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kubetask_patch::apply::{self, Applier};
use kubetask_patch::managed::{self, Updater};
use kubetask_patch::strategic;
use kubetask_schema::field::Path;
use kubetask_schema::model::Schema;
use kubetask_schema::parse;
use serde_json::{Value, json};

const NOW: &str = "2026-01-02T00:00:00Z";

fn schema(kind: &str) -> Schema {
    let all: Value = serde_json::from_str(include_str!("../tests/fixtures/schemas.json")).unwrap();
    parse::read(&all[kind], &Path::root(), &mut Vec::new())
}

/// 1 KiB in `keys` keys.
fn config_map(keys: usize) -> Value {
    let data: serde_json::Map<String, Value> =
        (0..keys).map(|i| (format!("key-{i}"), json!("x".repeat(1024 / keys)))).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "a", "namespace": "default", "labels": {"app": "bench"}},
    })
}

fn pod_template(containers: usize) -> Value {
    let containers: Vec<Value> = (0..containers)
        .map(|i| {
            json!({
                "name": format!("c{i}"), "image": "registry.example/app:1.2.3", "command": ["sh", "-c", "true"],
                "env": (0..10).map(|n| json!({"name": format!("E{n}"), "value": "x"})).collect::<Vec<_>>(),
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"},
        "template": {"spec": {"containers": containers, "restartPolicy": "Never"}},
    })
}

fn track_update(c: &mut Criterion) {
    let schema = schema("ConfigMap");
    let by = Updater { manager: "bench", api_version: "v1", now: NOW, ..Updater::default() };
    for keys in [1, 10] {
        c.bench_function(&format!("track_update/create 1 KiB ConfigMap, {keys} keys"), |b| {
            b.iter_batched_ref(
                || config_map(keys),
                |new| managed::track_update(None, black_box(new), &schema, &by),
                BatchSize::SmallInput,
            );
        });
        let mut live = config_map(keys);
        managed::track_update(None, &mut live, &schema, &by);
        let mut changed = live.clone();
        changed["data"]["key-0"] = json!("changed");
        c.bench_function(&format!("track_update/update 1 KiB ConfigMap, {keys} keys"), |b| {
            b.iter_batched_ref(
                || changed.clone(),
                |new| managed::track_update(Some(&live), black_box(new), &schema, &by),
                BatchSize::SmallInput,
            );
        });
    }
}

fn server_side_apply(c: &mut Criterion) {
    let by = Applier { manager: "bench", api_version: "v1", now: NOW, ..Applier::default() };
    for (name, kind, config) in
        [("1 KiB ConfigMap", "ConfigMap", config_map(10)), ("two containers", "PodTemplate", pod_template(2))]
    {
        let schema = schema(kind);
        let live = apply::apply(None, &config, &schema, &by).unwrap().object;
        c.bench_function(&format!("apply/create, {name}"), |b| {
            b.iter(|| apply::apply(None, black_box(&config), &schema, &by).unwrap());
        });
        c.bench_function(&format!("apply/nothing changes, {name}"), |b| {
            b.iter(|| apply::apply(Some(black_box(&live)), black_box(&config), &schema, &by).unwrap());
        });
    }
}

fn strategic_merge(c: &mut Criterion) {
    let schema = schema("PodTemplate");
    let live = pod_template(2);
    let patch = json!({"template": {"spec": {
        "$setElementOrder/containers": [{"name": "c1"}, {"name": "c0"}],
        "containers": [{"name": "c0", "image": "new", "env": [{"name": "E3", "value": "y"}]}],
    }}});
    c.bench_function("strategic/one of two containers", |b| {
        b.iter_batched(
            || live.clone(),
            |live| strategic::apply(live, black_box(&patch), &schema).unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, track_update, server_side_apply, strategic_merge);
criterion_main!(benches);
