use anyhow::Result;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::server::{CRDS, TestServer, widgets};

#[tokio::test]
async fn both_forms_know_custom_resources() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let legacy = server.get("/apis/example.test/v1").await?.expect(200);
    let names: Vec<&str> =
        legacy.at("/resources").as_array().into_iter().flatten().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["widgets", "widgets/status", "widgets/scale"]);
    let group = server.get("/apis/example.test").await?.expect(200);
    assert_eq!(group.at("/preferredVersion/version"), "v1");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let aggregated =
        server.send(Request::get("/apis").header("accept", accept).body(Body::empty())?).await?.expect(200);
    assert_eq!(aggregated.body["kind"], "APIGroupDiscoveryList");
    assert!(aggregated.text.contains("\"resource\":\"widgets\""));
    server.get("/apis/example.test/v9").await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn openapi_is_addressed_by_content() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let index = server.get("/openapi/v3").await?.expect(200);
    let url = index.body["paths"]["apis/example.test/v1"]["serverRelativeURL"].as_str().unwrap_or_default().to_owned();
    let document = server.get(&url).await?.expect(200);
    assert_eq!(document.at("/components/schemas/test.example.v1.Widget/type"), &json!("object"));
    assert_eq!(document.headers.get("cache-control").map(|v| v.as_bytes()), Some(&b"public, immutable"[..]));
    let moved = server.get("/openapi/v3/apis/example.test/v1?hash=OLD").await?.expect(301);
    assert_eq!(moved.headers.get("location").map(|v| v.as_bytes()), Some(url.as_bytes()));
    let operations =
        json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "changed"}]);
    server.patch(&format!("{CRDS}/widgets.example.test"), "json", &operations).await?.expect(200);
    server.get(&url).await?.expect(301);
    Ok(())
}

#[tokio::test]
async fn health_version_and_metrics() -> Result<()> {
    let server = TestServer::start().await?;
    assert_eq!(server.get("/readyz").await?.expect(200).text, "ok");
    assert!(server.get("/livez?verbose").await?.text.contains("[+]ping ok"));
    assert_eq!(server.get("/version").await?.body["minor"], "36");
    assert!(server.get("/metrics").await?.text.contains("apiserver_request_total{verb=\"GET\""));
    Ok(())
}

#[tokio::test]
async fn one_old_document_knows_all_kinds() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let document = server.get("/openapi/v2").await?.expect(200);
    assert_eq!(document.body["swagger"], "2.0");
    for (name, kind) in [("io.k8s.api.batch.v1.Job", "Job"), ("test.example.v1.Widget", "Widget")] {
        let gvk = &document.body["definitions"][name]["x-kubernetes-group-version-kind"];
        assert_eq!(gvk[0]["kind"], kind, "{name}");
    }
    assert!(document.body["paths"]["/apis/example.test/v1/namespaces/{namespace}/widgets"]["post"].is_object());
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = http::Request::get("/openapi/v2").header("accept", accept).body(axum::body::Body::empty())?;
    let bytes = server.send(request).await?.expect(200);
    assert!(bytes.headers["content-type"].to_str()?.ends_with("+protobuf"));
    assert!(bytes.text.contains("io.k8s.api.batch.v1.Job"), "{} bytes", bytes.text.len());
    Ok(())
}
