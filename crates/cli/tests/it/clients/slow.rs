//! Watchers that do not read: they cost the server next to nothing, and nobody else notices.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::machine::Machine;

const STALLED: usize = 20;
const WRITES: usize = 300;
const SIZE: usize = 200 << 10;
/// What the server may grow by: its history of 32 MiB, what each connection has in its buffers, and the heap's slack.
/// A queue for each watcher would be more than a gigabyte.
const GROWTH_MIB: u64 = 160;

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_watchers_cost_nothing() {
    let machine = Machine::up();
    let client = async || {
        let kubeconfig = kube::config::Kubeconfig::read_from(machine.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        Client::try_from(config).unwrap()
    };
    let maps: Api<ConfigMap> = Api::default_namespaced(client().await);
    let map = |text: String| json!({"metadata": {"name": "big"}, "data": {"text": text}});
    maps.create(&PostParams::default(), &serde_json::from_value(map(String::new())).unwrap()).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let request = http::Request::get("/api/v1/namespaces/default/configmaps?watch=1");
        // A connection of its own, whose answer nobody reads.
        let client = client().await;
        let answer = client.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap();
        stalled.push((client, answer));
    }
    let mut quick = std::pin::pin!(watcher::watch_object(maps.clone(), "big"));
    let first = quick.next().await.unwrap().unwrap();
    assert!(first.is_some());

    let before = resident_mib(machine.server_pid());
    for n in 0..WRITES {
        let patch = Patch::Merge(map(format!("{n} {}", "x".repeat(SIZE))));
        let written = maps.patch("big", &PatchParams::default(), &patch).await.unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(30), quick.next()).await.expect("the quick one goes on");
        assert_eq!(seen.unwrap().unwrap().unwrap().resource_version(), written.resource_version());
    }
    let growth = resident_mib(machine.server_pid()).saturating_sub(before);
    assert!(growth < GROWTH_MIB, "the server grew by {growth} MiB");

    // Who reads again is told that it missed something, and has to list.
    let (_client, answer) = stalled.pop().unwrap();
    let mut body = answer.into_body();
    let mut last = Vec::new();
    let read = async {
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            last.extend_from_slice(frame.unwrap().data_ref().unwrap());
            if let Some(end) = last.iter().rposition(|b| *b == b'\n')
                && let Some(start) = last[..end].iter().rposition(|b| *b == b'\n')
            {
                last.drain(..=start);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the watch ends");
    let event: serde_json::Value = serde_json::from_slice(&last).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");
}
