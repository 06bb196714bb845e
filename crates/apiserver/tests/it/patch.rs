use anyhow::Result;
use serde_json::json;

use crate::server::{CONFIG_MAPS, TestServer, config_map};

#[tokio::test]
async fn the_four_ways() -> Result<()> {
    let server = TestServer::start().await?;
    let path = format!("{CONFIG_MAPS}/a");
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let operations =
        json!([{"op": "add", "path": "/data/j", "value": "1"}, {"op": "test", "path": "/data/k", "value": "v"}]);
    assert_eq!(server.patch(&path, "json", &operations).await?.expect(200).at("/data/j"), "1");
    let merge = json!({"data": {"j": null, "m": "1"}});
    assert!(server.patch(&path, "merge", &merge).await?.expect(200).at("/data/j").is_null());
    let strategic = json!({"data": {"s": "1"}});
    let answer = server.patch(&path, "strategic-merge-patch", &strategic).await?.expect(200);
    assert_eq!(answer.at("/data"), &json!({"k": "v", "m": "1", "s": "1"}));
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "other"}});
    let conflict = server.patch(&format!("{path}?fieldManager=app"), "apply", &apply).await?.expect(409);
    assert_eq!(conflict.at("/details/causes/0/reason"), "FieldManagerConflict");
    let forced = server.patch(&format!("{path}?fieldManager=app&force=true"), "apply", &apply).await?.expect(200);
    assert_eq!(forced.at("/data/k"), "other");
    let again = server.patch(&format!("{path}?fieldManager=app"), "apply", &apply).await?.expect(200);
    assert_eq!(again.version(), forced.version(), "an apply that changes nothing is no write");
    Ok(())
}

#[tokio::test]
async fn refusals() -> Result<()> {
    let server = TestServer::start().await?;
    let path = format!("{CONFIG_MAPS}/a");
    let created = server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    server.patch(&path, "json", &json!([{"op": "remove", "path": "/data/none"}])).await?.expect(422);
    server.patch(&path, "json", &json!({"op": "remove"})).await?.expect(400);
    server.patch(&path, "merge", &json!({"metadata": {"name": "b"}})).await?.expect(400);
    server.patch(&path, "merge", &json!({"data": {"k": 5}})).await?.expect(422);
    server.patch(&path, "apply", &json!({})).await?.expect(422);
    server.patch(&path, "unknown", &json!({})).await?.expect(415);
    server.patch(&format!("{CONFIG_MAPS}/none"), "merge", &json!({})).await?.expect(404);
    let stale = json!({"metadata": {"resourceVersion": (created.version() - 1).to_string()}, "data": {"k": "x"}});
    server.patch(&path, "merge", &stale).await?.expect(409);
    Ok(())
}

#[tokio::test]
async fn an_apply_creates() -> Result<()> {
    let server = TestServer::start().await?;
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"k": "v"}});
    let path = format!("{CONFIG_MAPS}/new?fieldManager=app");
    let created = server.patch(&path, "apply", &apply).await?.expect(201);
    assert_eq!(created.at("/metadata/managedFields/0/operation"), "Apply");
    server.patch(&path, "apply", &apply).await?.expect(200);
    Ok(())
}
