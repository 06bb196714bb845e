use anyhow::Result;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::server::{CONFIG_MAPS, TestServer, config_map};

async fn with_maps(count: usize) -> Result<TestServer> {
    let server = TestServer::start().await?;
    for index in 0..count {
        server.post(CONFIG_MAPS, &config_map(&format!("m{index}"))).await?.expect(201);
    }
    Ok(server)
}

#[tokio::test]
async fn pages_are_one_snapshot() -> Result<()> {
    let server = with_maps(5).await?;
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await?.expect(200);
    assert_eq!(first.names(), ["m0", "m1"]);
    assert_eq!(first.at("/metadata/remainingItemCount"), &json!(3));
    // What happens in between is not seen by the following pages.
    server.delete(&format!("{CONFIG_MAPS}/m3")).await?.expect(200);
    let token = first.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
    let second = server.get(&format!("{CONFIG_MAPS}?limit=5&continue={token}")).await?.expect(200);
    assert_eq!(second.names(), ["m2", "m3", "m4"]);
    assert_eq!(second.version(), first.version());
    Ok(())
}

#[tokio::test]
async fn tokens_that_nobody_issued() -> Result<()> {
    let server = with_maps(1).await?;
    let cases = [
        ("!", "illegal base64 data at input byte 0"),
        ("e30x", "invalid character '1' after top-level value"),
        ("e30", "server does not recognize this encoded version "),
        ("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6M30", "encoded start key empty (version meta.k8s.io/v1)"),
    ];
    for (token, why) in cases {
        let refused = server.get(&format!("{CONFIG_MAPS}?continue={token}")).await?.expect(400);
        let message = format!("invalid continue token: continue key is not valid: {why}");
        assert_eq!(refused.body["message"], message);
    }
    Ok(())
}

#[tokio::test]
async fn selectors() -> Result<()> {
    let server = with_maps(3).await?;
    let check = async |query: &str, want: &[&str]| -> Result<()> {
        let list = server.get(&format!("{CONFIG_MAPS}?{query}")).await?.expect(200);
        assert_eq!(list.names(), want, "{query}");
        Ok(())
    };
    check("labelSelector=app%3Dm1", &["m1"]).await?;
    check("labelSelector=app%20in%20(m0,m2)", &["m0", "m2"]).await?;
    check("fieldSelector=metadata.name%3Dm2", &["m2"]).await?;
    check("fieldSelector=metadata.name!%3Dm2&labelSelector=app", &["m0", "m1"]).await?;
    server.get(&format!("{CONFIG_MAPS}?labelSelector=a%20b")).await?.expect(400);
    Ok(())
}

#[tokio::test]
async fn versions_asked_for() -> Result<()> {
    let server = with_maps(2).await?;
    let list = server.get(CONFIG_MAPS).await?;
    let exact = |version: u64| format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(server.get(&exact(list.version() - 1)).await?.expect(200).names(), ["m0"]);
    server.get(&exact(1)).await?.expect(410);
    server.get(&format!("{CONFIG_MAPS}?resourceVersion=abc")).await?.expect(400);
    Ok(())
}

#[tokio::test]
async fn tables_and_metadata_only() -> Result<()> {
    let server = with_maps(1).await?;
    let get =
        async |accept: &str| server.send(Request::get(CONFIG_MAPS).header("accept", accept).body(Body::empty())?).await;
    let table = get("application/json;as=Table;v=v1;g=meta.k8s.io").await?.expect(200);
    assert_eq!(table.body["kind"], "Table");
    assert_eq!(table.at("/rows/0/cells/0"), &json!("m0"));
    assert_eq!(table.at("/rows/0/object/kind"), &json!("PartialObjectMetadata"));
    let partial = get("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await?.expect(200);
    assert_eq!(partial.at("/items/0/metadata/name"), &json!("m0"));
    assert!(partial.at("/items/0/data").is_null());
    let yaml = get("application/yaml").await?.expect(200);
    assert!(yaml.text.starts_with("apiVersion: v1\nitems:\n- data:\n"), "{}", yaml.text);
    get("text/html").await?.expect(406);
    Ok(())
}

#[tokio::test]
async fn an_expired_token_can_be_gone_on_with() -> Result<()> {
    let server = with_maps(3).await?;
    let first = server.get(&format!("{CONFIG_MAPS}?limit=1")).await?.expect(200);
    let old = serde_json::json!({"v": "meta.k8s.io/v1", "rv": 1, "start": "default/m0"}).to_string();
    let token = base64(&old);
    let gone = server.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await?.expect(410);
    assert_eq!(gone.body["reason"], "Expired");
    let next = gone.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
    assert!(!next.is_empty(), "{}", gone.text);
    // The rest, as it is now.
    server.post(CONFIG_MAPS, &config_map("m4")).await?.expect(201);
    let rest = server.get(&format!("{CONFIG_MAPS}?continue={next}")).await?.expect(200);
    assert_eq!(rest.names(), ["m1", "m2", "m4"]);
    assert!(rest.version() > first.version());
    Ok(())
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn requests_have_a_time_limit() -> Result<()> {
    let server = with_maps(1).await?;
    server.get(&format!("{CONFIG_MAPS}?timeout=0s")).await?.expect(200);
    server.get(&format!("{CONFIG_MAPS}?timeout=2h")).await?.expect(200);
    let bad = server.get(&format!("{CONFIG_MAPS}?timeout=soon")).await?.expect(400);
    let message = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
    assert_eq!(bad.body["message"], message);
    let far = server.revision().await? + 1000;
    let late = server.get(&format!("{CONFIG_MAPS}?timeout=10ms&resourceVersion={far}")).await?.expect(504);
    assert_eq!(late.body["reason"], "Timeout");
    assert_eq!(late.body["message"], "Timeout: request did not complete within the allotted timeout");
    Ok(())
}
