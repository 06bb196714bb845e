use anyhow::{Context, Result};
use axum::body::Body;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::server::{CONFIG_MAPS, TestServer, config_map};

/// Events of a watch until `count` came.
async fn events(server: &TestServer, query: &str, count: usize) -> Result<Vec<Value>> {
    let request = Request::get(format!("{CONFIG_MAPS}?watch=1&{query}"))
        .header("authorization", "Bearer secret")
        .body(Body::empty())?;
    let mut body = server.api.router().oneshot(request).await?.into_body();
    let mut text = String::new();
    while text.lines().count() < count {
        let Some(frame) = body.frame().await else { break };
        text.push_str(&String::from_utf8_lossy(&frame?.into_data().unwrap_or_default()));
    }
    text.lines().map(|line| serde_json::from_str(line).context("an event is JSON")).collect()
}

fn types(events: &[Value]) -> Vec<String> {
    let name = |e: &Value| e["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
    events.iter().map(|e| format!("{} {}", e["type"].as_str().unwrap_or_default(), name(e))).collect()
}

#[tokio::test]
async fn history_is_delivered_in_order() -> Result<()> {
    let server = TestServer::start().await?;
    let from = server.revision().await?;
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    server.patch(&format!("{CONFIG_MAPS}/a"), "merge", &json!({"data": {"k": "2"}})).await?.expect(200);
    server.post(CONFIG_MAPS, &config_map("b")).await?.expect(201);
    server.delete(&format!("{CONFIG_MAPS}/a")).await?.expect(200);
    let events = events(&server, &format!("resourceVersion={from}"), 4).await?;
    assert_eq!(types(&events), ["ADDED a", "MODIFIED a", "ADDED b", "DELETED a"]);
    let versions: Vec<u64> =
        events.iter().filter_map(|e| e["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok()).collect();
    assert!(versions.is_sorted() && versions.len() == 4, "{versions:?}");
    Ok(())
}

#[tokio::test]
async fn objects_that_leave_the_selection_are_deleted_for_it() -> Result<()> {
    let server = TestServer::start().await?;
    let from = server.revision().await?;
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let relabel = json!({"metadata": {"labels": {"app": "x"}}});
    let changed = server.patch(&format!("{CONFIG_MAPS}/a"), "merge", &relabel).await?.expect(200);
    let events = events(&server, &format!("resourceVersion={from}&labelSelector=app%3Da"), 2).await?;
    assert_eq!(types(&events), ["ADDED a", "DELETED a"]);
    assert_eq!(events[1]["object"]["metadata"]["labels"]["app"], "a");
    assert_eq!(events[1]["object"]["metadata"]["resourceVersion"], changed.version().to_string());
    Ok(())
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let events = events(&server, query, 2).await?;
    assert_eq!(types(&events), ["ADDED a", "BOOKMARK -"]);
    assert_eq!(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    Ok(())
}

#[tokio::test]
async fn too_old_is_an_event_and_shutdown_ends_the_stream() -> Result<()> {
    let server = TestServer::start().await?;
    let gone = events(&server, "resourceVersion=1", 1).await?;
    assert_eq!((&gone[0]["type"], &gone[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
    server.api.end_watches();
    assert!(events(&server, "", 1).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_kube_watcher_sees_everything() -> Result<()> {
    let server = TestServer::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut stream = std::pin::pin!(watcher(maps, watcher::Config::default().streaming_lists()).applied_objects());
    let writer = async {
        for index in 0..20 {
            server.post(CONFIG_MAPS, &config_map(&format!("m{index}"))).await?.expect(201);
        }
        anyhow::Ok(())
    };
    let reader = async {
        // Those that were there before the watch began come by name, the others as they are made.
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 20 {
            let map = stream.next().await.context("the stream goes on")??;
            seen.extend(map.metadata.name);
        }
        anyhow::Ok(seen)
    };
    let (written, seen) = tokio::join!(writer, reader);
    written?;
    assert_eq!(seen?, (0..20).map(|i| format!("m{i}")).collect());
    Ok(())
}
