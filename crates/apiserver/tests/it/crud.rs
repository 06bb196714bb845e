use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::server::{CONFIG_MAPS, TestServer, config_map};

#[tokio::test]
async fn the_kube_client_creates_reads_and_deletes() -> Result<()> {
    let server = TestServer::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let map: ConfigMap = serde_json::from_value(config_map("a"))?;
    let created = maps.create(&PostParams::default(), &map).await?;
    assert_eq!(created.metadata.managed_fields.map(|m| m[0].manager.clone()), Some(Some("tests".into())));
    assert_eq!(maps.get("a").await?.data, map.data);
    assert_eq!(maps.list(&ListParams::default()).await?.items.len(), 1);
    maps.delete("a", &DeleteParams::default()).await?;
    assert!(maps.get_opt("a").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_put_that_changes_nothing_keeps_the_version() -> Result<()> {
    let server = TestServer::start().await?;
    let path = format!("{CONFIG_MAPS}/a");
    let created = server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let same = server.put(&path, &config_map("a")).await?.expect(200);
    assert_eq!(created.version(), same.version());
    let mut other = config_map("a");
    other["data"]["k"] = "w".into();
    let changed = server.put(&path, &other).await?.expect(200);
    assert!(changed.version() > created.version());
    other["metadata"]["resourceVersion"] = created.version().to_string().into();
    let conflict = server.put(&path, &other).await?.expect(409);
    assert_eq!(conflict.body["reason"], "Conflict");
    Ok(())
}

#[tokio::test]
async fn dry_runs_leave_no_trace() -> Result<()> {
    let server = TestServer::start().await?;
    let before = server.revision().await?;
    let created = server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a")).await?.expect(201);
    assert!(created.at("/metadata/uid").is_string());
    assert!(created.at("/metadata/resourceVersion").is_null());
    server.get(&format!("{CONFIG_MAPS}/a")).await?.expect(404);
    assert_eq!(server.revision().await?, before);
    Ok(())
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() -> Result<()> {
    let server = TestServer::start().await?;
    for (mode, code, warnings) in [("Strict", 400, 0), ("Warn", 201, 1), ("Ignore", 201, 0)] {
        let mut object = config_map(&mode.to_lowercase());
        object["junk"] = 1.into();
        let answer = server.post(&format!("{CONFIG_MAPS}?fieldValidation={mode}"), &object).await?.expect(code);
        assert_eq!(answer.headers.get_all("warning").iter().count(), warnings, "{mode}");
        assert!(answer.body["junk"].is_null());
    }
    Ok(())
}

#[tokio::test]
async fn writers_without_a_version_all_get_through() -> Result<()> {
    let server = std::sync::Arc::new(TestServer::start().await?);
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let tasks: Vec<_> = (0..8)
        .map(|writer| {
            let server = server.clone();
            tokio::spawn(async move {
                let path = format!("{CONFIG_MAPS}/a");
                server.patch(&path, "merge", &json!({"data": {format!("w{writer}"): "1"}})).await
            })
        })
        .collect();
    for task in tasks {
        task.await??.expect(200);
    }
    let map = server.get(&format!("{CONFIG_MAPS}/a")).await?;
    assert_eq!(map.at("/data").as_object().map(serde_json::Map::len), Some(9));
    Ok(())
}

#[tokio::test]
async fn generated_names_and_missing_namespaces() -> Result<()> {
    let server = TestServer::start().await?;
    let generated = json!({"metadata": {"generateName": "gen-"}});
    let answer = server.post(CONFIG_MAPS, &generated).await?.expect(201);
    assert_eq!(answer.at("/metadata/name").as_str().map(str::len), Some(9));
    let missing = server.post("/api/v1/namespaces/nowhere/configmaps", &config_map("a")).await?.expect(404);
    assert_eq!(missing.body["message"], "namespaces \"nowhere\" not found");
    Ok(())
}
