//! Requests that no honest client sends.

use anyhow::Result;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::server::{CONFIG_MAPS, CRDS, TestServer, WIDGETS, widgets, with_body};

async fn raw(server: &TestServer, content_type: &str, body: impl Into<Body>) -> Result<u16> {
    let request = Request::post(CONFIG_MAPS).header("content-type", content_type).body(body.into())?;
    Ok(server.send(request).await?.status.as_u16())
}

#[tokio::test]
async fn bodies() -> Result<()> {
    let server = TestServer::start().await?;
    assert_eq!(raw(&server, "application/json", "x".repeat(4 << 20)).await?, 413);
    assert_eq!(raw(&server, "application/json", "[".repeat(1 << 20)).await?, 400);
    assert_eq!(raw(&server, "application/json", vec![0xff, 0xfe]).await?, 400);
    assert_eq!(raw(&server, "application/vnd.kubernetes.protobuf", vec![1, 2, 3]).await?, 400);
    assert_eq!(raw(&server, "text/plain", "x").await?, 415);
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert_eq!(raw(&server, "application/yaml", bomb).await?, 400);
    Ok(())
}

#[tokio::test]
async fn paths_and_queries() -> Result<()> {
    let server = TestServer::start().await?;
    for path in [
        "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets",
        "/api/v1/namespaces/%00/configmaps/a",
        "/api/v1/namespaces/default/configmaps/%ff",
        "/apis//v1/x",
        "/api/v1/watch",
        "/api/v1/namespaces/default/pods/x/log/extra",
        "/openapi/v3/apis/%2e%2e/v1",
    ] {
        let code = server.get(path).await?.status.as_u16();
        assert!((400..500).contains(&code), "{path}: {code}");
    }
    for query in [
        "limit=99999999999999999999",
        "continue=%00",
        "labelSelector=%ff%fe(",
        "fieldSelector=\\",
        "watch=1&timeoutSeconds=x",
    ] {
        let code = server.get(&format!("{CONFIG_MAPS}?{query}")).await?.status.as_u16();
        assert!((400..500).contains(&code), "{query}: {code}");
    }
    Ok(())
}

#[tokio::test]
async fn objects_of_wrong_shapes() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    for metadata in
        [json!(1), json!([]), json!({"labels": []}), json!({"name": {}}), json!({"finalizers": {}, "name": "a"})]
    {
        for (path, kind, version) in [(CONFIG_MAPS, "ConfigMap", "v1"), (WIDGETS, "Widget", "example.test/v1")] {
            let body = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
            let code = server.send(with_body("POST", path, "application/json", &body)?).await?.status.as_u16();
            assert!(code == 400 || code == 422, "{body}: {code}");
        }
    }
    Ok(())
}
