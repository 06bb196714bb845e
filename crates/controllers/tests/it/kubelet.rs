//! Runs Pods as their annotation `test/script` says: `exit N`, `run` (until it is deleted), or nothing at all.

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

pub(crate) async fn run(client: Client) {
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff().applied_objects();
    pin_mut!(pods);
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let client = client.clone();
        tokio::spawn(async move { handle(&client, &pod).await });
    }
}

async fn handle(client: &Client, pod: &Pod) -> Option<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace()?);
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    let script = pod.annotations().get("test/script").map_or("run", String::as_str);
    let ended = matches!(phase, "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() {
        if !ended {
            write(&api, pod, status("Failed", Some(137))).await;
        }
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let _ = api.delete(&pod.name_any(), &now).await;
    } else if phase == "Pending" && script != "nothing" {
        bind(&api, pod).await;
        match script.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
            Some(0) => write(&api, pod, status("Succeeded", Some(0))).await,
            Some(code) => write(&api, pod, status("Failed", Some(code))).await,
            None => write(&api, pod, status("Running", None)).await,
        }
    }
    Some(())
}

/// A Pod without a node is deleted at once; ours have one, as real ones do.
async fn bind(api: &Api<Pod>, pod: &Pod) {
    let body = json!({ "target": { "kind": "Node", "name": "test" }, "metadata": { "name": pod.name_any() } });
    // A second event of the same Pod finds it bound.
    let _: Result<Value, _> = api.create_subresource("binding", &pod.name_any(), &Default::default(), &body).await;
}

async fn write(api: &Api<Pod>, pod: &Pod, status: Value) {
    let body = Patch::Strategic(json!({ "metadata": { "uid": pod.uid() }, "status": status }));
    // The Pod may be gone by now.
    let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &body).await;
}

fn status(phase: &str, code: Option<i32>) -> Value {
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ready = if code.is_none() { "True" } else { "False" };
    let state = match code {
        None => json!({ "running": { "startedAt": now } }),
        Some(code) => {
            json!({ "terminated": { "exitCode": code, "reason": "Error", "startedAt": now, "finishedAt": now } })
        }
    };
    json!({
        "phase": phase,
        "conditions": [{ "type": "Ready", "status": ready, "lastTransitionTime": now }],
        "containerStatuses": [
            { "name": "main", "image": "i", "imageID": "", "ready": code.is_none(), "restartCount": 0, "state": state },
        ],
    })
}
