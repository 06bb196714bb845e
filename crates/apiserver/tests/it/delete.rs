use anyhow::Result;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::server::{CONFIG_MAPS, TestServer, config_map, with_body};

#[tokio::test]
async fn finalizers_hold_an_object() -> Result<()> {
    let server = TestServer::start().await?;
    let path = format!("{CONFIG_MAPS}/a");
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.test/hold"]);
    server.post(CONFIG_MAPS, &held).await?.expect(201);
    let marked = server.delete(&path).await?.expect(200);
    assert!(marked.at("/metadata/deletionTimestamp").is_string());
    let again = server.post(CONFIG_MAPS, &config_map("a")).await?.expect(409);
    assert_eq!(again.body["message"], "object is being deleted: configmaps \"a\" already exists");
    server.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await?.expect(200);
    server.get(&path).await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn preconditions_and_policies() -> Result<()> {
    let server = TestServer::start().await?;
    let path = format!("{CONFIG_MAPS}/a");
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let other = json!({"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}});
    server.send(with_body("DELETE", &path, "application/json", &other)?).await?.expect(409);
    let sideways = Request::delete(format!("{path}?propagationPolicy=Sideways")).body(Body::empty())?;
    server.send(sideways).await?.expect(422);
    let foreground = server.delete(&format!("{path}?propagationPolicy=Foreground")).await?.expect(200);
    assert_eq!(foreground.at("/metadata/finalizers"), &json!(["foregroundDeletion"]));
    Ok(())
}

#[tokio::test]
async fn collections_go_by_selector() -> Result<()> {
    let server = TestServer::start().await?;
    for name in ["a", "b", "c"] {
        server.post(CONFIG_MAPS, &config_map(name)).await?.expect(201);
    }
    let gone = server.delete(&format!("{CONFIG_MAPS}?labelSelector=app%20in%20(a,b)")).await?.expect(200);
    assert_eq!(gone.names(), ["a", "b"]);
    assert_eq!(server.get(CONFIG_MAPS).await?.names(), ["c"]);
    Ok(())
}

#[tokio::test]
async fn namespaces_end_with_their_content() -> Result<()> {
    let server = TestServer::start().await?;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await?.expect(201);
    let marked = server.delete("/api/v1/namespaces/n").await?.expect(200);
    assert_eq!(marked.at("/status/phase"), "Terminating");
    let refused = server.post("/api/v1/namespaces/n/configmaps", &config_map("a")).await?.expect(403);
    assert_eq!(refused.at("/details/causes/0/reason"), "NamespaceTerminating");
    let mut namespace = server.get("/api/v1/namespaces/n").await?.body;
    namespace["spec"]["finalizers"] = json!([]);
    server.put("/api/v1/namespaces/n/finalize", &namespace).await?.expect(200);
    server.get("/api/v1/namespaces/n").await?.expect(404);
    server.delete("/api/v1/namespaces/default").await?.expect(403);
    Ok(())
}
