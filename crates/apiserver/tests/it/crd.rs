use anyhow::Result;
use serde_json::json;

use crate::server::{CONFIG_MAPS, CRDS, TestServer, WIDGETS, config_map, widget, widgets};

#[tokio::test]
async fn a_definition_is_served_when_its_create_returns() -> Result<()> {
    let server = TestServer::start().await?;
    server.get(WIDGETS).await?.expect(404);
    server.post(CRDS, &widgets()).await?.expect(201);
    let list = server.get(WIDGETS).await?.expect(200);
    assert_eq!(list.body["kind"], "WidgetList");
    let created = server.post(WIDGETS, &widget("a")).await?.expect(201);
    assert_eq!(created.at("/spec/color"), "red");
    assert_eq!(created.at("/metadata/generation"), &json!(1));
    let invalid = server
        .post(
            WIDGETS,
            &json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "b"}, "spec": {"size": 0}}),
        )
        .await?;
    assert_eq!(invalid.expect(422).at("/details/causes/0/field"), "spec.size");
    let chosen = server.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await?.expect(200);
    assert_eq!(chosen.names(), ["a"]);
    Ok(())
}

#[tokio::test]
async fn every_version_shows_the_same_object() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    server.post(WIDGETS, &widget("a")).await?.expect(201);
    let beta = server.get(&format!("{}/a", WIDGETS.replace("v1", "v1beta1"))).await?.expect(200);
    assert_eq!(beta.body["apiVersion"], "example.test/v1beta1");
    let list = server.get(&WIDGETS.replace("v1", "v1beta1")).await?.expect(200);
    assert_eq!(list.at("/items/0/apiVersion"), "example.test/v1beta1");
    let same = server.get(&format!("{WIDGETS}/a")).await?.expect(200);
    assert_eq!(same.version(), beta.version());
    Ok(())
}

#[tokio::test]
async fn status_and_scale_are_written_apart() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    server.post(WIDGETS, &widget("a")).await?.expect(201);
    let path = format!("{WIDGETS}/a");
    let both = json!({"spec": {"size": 9}, "status": {"phase": "Up"}});
    let status = server.patch(&format!("{path}/status"), "merge", &both).await?.expect(200);
    assert_eq!((status.at("/spec/size"), status.at("/status/phase")), (&json!(3), &json!("Up")));
    let main =
        server.patch(&path, "merge", &json!({"spec": {"size": 4}, "status": {"phase": "Down"}})).await?.expect(200);
    assert_eq!((main.at("/spec/size"), main.at("/status/phase")), (&json!(4), &json!("Up")));
    assert_eq!(main.at("/metadata/generation"), &json!(2));
    let scaled = server.patch(&format!("{path}/scale"), "merge", &json!({"spec": {"replicas": 5}})).await?.expect(200);
    assert_eq!((scaled.body["kind"].as_str(), scaled.at("/spec/replicas")), (Some("Scale"), &json!(5)));
    assert_eq!(server.get(&path).await?.at("/spec/replicas"), &json!(5));
    Ok(())
}

#[tokio::test]
async fn a_new_default_shows_on_old_objects() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    server.post(WIDGETS, &widget("a")).await?.expect(201);
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mode";
    let operations = json!([{"op": "add", "path": path, "value": {"type": "string", "default": "fast"}}]);
    server.patch(&format!("{CRDS}/widgets.example.test"), "json", &operations).await?.expect(200);
    assert_eq!(server.get(&format!("{WIDGETS}/a")).await?.at("/spec/mode"), "fast");
    assert_eq!(server.get(WIDGETS).await?.at("/items/0/spec/mode"), "fast");
    Ok(())
}

#[tokio::test]
async fn invalid_definitions_are_refused() -> Result<()> {
    let server = TestServer::start().await?;
    let mut no_storage = widgets();
    no_storage["spec"]["versions"][0]["storage"] = false.into();
    server.post(CRDS, &no_storage).await?.expect(422);
    let mut wrong_name = widgets();
    wrong_name["metadata"]["name"] = "gadgets.example.test".into();
    server.post(CRDS, &wrong_name).await?.expect(422);
    Ok(())
}

#[tokio::test]
async fn watches_end_with_their_definition() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let made = server
        .post(
            WIDGETS,
            &json!({"apiVersion": "example.test/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {"size": 1}}),
        )
        .await?
        .expect(201);
    let path = format!("{WIDGETS}?watch=1&resourceVersion={}", made.version());
    let watching = server.get(&path);
    let removing = async {
        server.delete(&format!("{WIDGETS}/w")).await?.expect(200);
        server.delete(&format!("{CRDS}/widgets.example.test")).await?.expect(200);
        // What the controller does when all objects are gone.
        let name = format!("{CRDS}/widgets.example.test");
        server.patch(&name, "merge", &json!({"metadata": {"finalizers": null}})).await?.expect(200);
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(watching, removing) };
    let (watched, ()) = tokio::time::timeout(std::time::Duration::from_secs(30), both).await??;
    assert!(watched.text.contains("\"DELETED\""), "{}", watched.text);
    Ok(())
}

#[tokio::test]
async fn a_rule_that_is_forgiven_is_warned_of() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    server.post(WIDGETS, &widget("a")).await?.expect(201);
    let mut stricter = widgets();
    for version in stricter["spec"]["versions"].as_array_mut().into_iter().flatten() {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
            json!([{"rule": "self.size < 3", "message": "too big"}]);
    }
    let spec = json!({"spec": {"versions": stricter["spec"]["versions"]}});
    server.patch(&format!("{CRDS}/widgets.example.test"), "merge", &spec).await?.expect(200);
    let path = format!("{WIDGETS}/a");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = server.patch(&path, "merge", &label).await?.expect(200);
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert_eq!(warnings, [r#"299 - "spec: Invalid value: too big""#]);
    let refused = server.patch(&path, "merge", &json!({"spec": {"size": 4}})).await?.expect(422);
    assert_eq!(refused.headers.get_all("warning").iter().count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_apply_that_creates_names_its_object() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let mut nameless = widget("a");
    nameless["metadata"] = json!({});
    let path = format!("{WIDGETS}/a?fieldManager=m");
    let refused = server.patch(&path, "apply", &nameless).await?.expect(400);
    let why = "the name of the object (a based on URL) was undeterminable: name must be provided";
    assert_eq!(refused.body["message"], why);
    server.patch(&path, "apply", &widget("a")).await?.expect(201);
    nameless["spec"]["size"] = json!(4);
    assert_eq!(server.patch(&path, "apply", &nameless).await?.expect(200).at("/spec/size"), &json!(4));
    Ok(())
}

#[tokio::test]
async fn times_in_metadata_are_times_and_nobody_writes_a_deletion() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CRDS, &widgets()).await?.expect(201);
    let mut odd = widget("a");
    odd["metadata"]["creationTimestamp"] = json!("soon");
    let refused = server.post(WIDGETS, &odd).await?.expect(400);
    let why = r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#;
    assert_eq!(refused.body["message"], format!("Widget in version \"v1\" cannot be handled as a Widget: {why}"));
    for (collection, mut object) in [(WIDGETS, widget("a")), (CONFIG_MAPS, config_map("a"))] {
        let created = server.post(collection, &object).await?.expect(201);
        object["metadata"]["resourceVersion"] = created.at("/metadata/resourceVersion").clone();
        object["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        let refused = server.put(&format!("{collection}/a"), &object).await?.expect(422);
        assert_eq!(refused.at("/details/causes/0/field"), "metadata.deletionTimestamp");
        assert!(server.get(&format!("{collection}/a")).await?.at("/metadata/deletionTimestamp").is_null());
    }
    Ok(())
}
