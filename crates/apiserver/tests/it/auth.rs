use anyhow::{Context, Result};
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::server::{Answer, CONFIG_MAPS, TestServer, config_map};

async fn get(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send_anonymously(request.body(Body::empty())?).await
}

#[tokio::test]
async fn who_may_do_what() -> Result<()> {
    let server = TestServer::start().await?;
    let nobody = get(&server, CONFIG_MAPS, &[]).await?.expect(403);
    let message = "configmaps is forbidden: User \"system:anonymous\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!(nobody.body["message"], message);
    get(&server, "/healthz", &[]).await?.expect(200);
    get(&server, "/api", &[]).await?.expect(403);
    get(&server, CONFIG_MAPS, &[("authorization", "Bearer wrong")]).await?.expect(401);
    get(&server, CONFIG_MAPS, &[("authorization", "Bearer secret")]).await?.expect(200);
    Ok(())
}

/// Sends a write as another user.
async fn write_as(
    server: &TestServer,
    user: &str,
    method: &str,
    path: &str,
    body: &serde_json::Value,
) -> Result<Answer> {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", media);
    let request = request.header("authorization", "Bearer secret").header("impersonate-user", user);
    server.send_anonymously(request.body(Body::from(body.to_string()))?).await
}

#[tokio::test]
async fn nobody_gives_away_what_he_does_not_have() -> Result<()> {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    const LOCAL: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let server = TestServer::start().await?;
    server.api.bootstrap().await?;
    let group = "rbac.authorization.k8s.io";
    let role = |name: &str, rules: serde_json::Value| json!({"metadata": {"name": name}, "rules": rules});
    let own = json!([
        {"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": ["create", "get", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]);
    server.post(&format!("{LOCAL}/roles"), &role("own", own.clone())).await?.expect(201);
    let binding = |name: &str, kind: &str, role: &str, user: &str| {
        json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role}, "subjects": [{"apiGroup": group, "kind": "User", "name": user}]})
    };
    server.post(&format!("{LOCAL}/rolebindings"), &binding("own", "Role", "own", "joe")).await?.expect(201);
    let joe =
        async |method: &str, path: &str, body: &serde_json::Value| write_as(&server, "joe", method, path, body).await;

    let less = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]);
    joe("POST", &format!("{LOCAL}/roles"), &role("less", less)).await?.expect(201);
    let more = json!([{"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "list"]}]);
    let refused = joe("POST", &format!("{LOCAL}/roles"), &role("more", more.clone())).await?.expect(403);
    let message = concat!(
        r#"roles.rbac.authorization.k8s.io "more" is forbidden: user "joe" (groups=["system:authenticated"]) "#,
        "is attempting to grant RBAC permissions not currently held:\n",
        r#"{APIGroups:[""], Resources:["configmaps"], Verbs:["list"]}"#,
        "\n",
        r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
    );
    assert_eq!(refused.body["message"], message);
    joe("PATCH", &format!("{LOCAL}/roles/own"), &json!({"rules": more})).await?.expect(403);
    let finalizer = json!({"metadata": {"finalizers": ["a.test/b"]}});
    joe("PATCH", &format!("{LOCAL}/roles/less"), &finalizer).await?.expect(200);

    joe("POST", &format!("{LOCAL}/rolebindings"), &binding("b", "Role", "less", "ann")).await?.expect(201);
    let admin = binding("c", "ClusterRole", "cluster-admin", "joe");
    joe("POST", &format!("{LOCAL}/rolebindings"), &admin).await?.expect(403);
    let missing =
        joe("POST", &format!("{LOCAL}/rolebindings"), &binding("c", "Role", "none", "joe")).await?.expect(404);
    assert_eq!(missing.body["message"], "roles.rbac.authorization.k8s.io \"none\" not found");

    // Unless it is allowed expressly.
    let verbs = json!([{"apiGroups": [group], "resources": ["roles", "clusterroles"], "verbs": ["escalate", "bind"]}]);
    server.post(&format!("{RBAC}/clusterroles"), &role("trusted", verbs)).await?.expect(201);
    let trust = binding("trusted", "ClusterRole", "trusted", "joe");
    server.post(&format!("{RBAC}/clusterrolebindings"), &trust).await?.expect(201);
    joe("POST", &format!("{LOCAL}/rolebindings"), &admin).await?.expect(201);
    Ok(())
}

#[tokio::test]
async fn roles_give_service_accounts_what_they_say() -> Result<()> {
    let server = TestServer::start().await?;
    server.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "bot"}})).await?.expect(201);
    let token = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let issued = server.post(token, &json!({"spec": {"expirationSeconds": 600}})).await?.expect(201);
    let bearer = format!("Bearer {}", issued.at("/status/token").as_str().context("a token")?);
    let headers = [("authorization", bearer.as_str())];
    get(&server, CONFIG_MAPS, &headers).await?.expect(403);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]});
    server.post(&format!("{rbac}/roles"), &role).await?.expect(201);
    let binding = json!({"metadata": {"name": "reader"}, "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}});
    server.post(&format!("{rbac}/rolebindings"), &binding).await?.expect(201);
    get(&server, CONFIG_MAPS, &headers).await?.expect(200);
    get(&server, "/api/v1/namespaces/kube-system/configmaps", &headers).await?.expect(403);
    get(&server, &format!("{CONFIG_MAPS}/a"), &headers).await?.expect(403);
    // The token dies with its account.
    server.delete("/api/v1/namespaces/default/serviceaccounts/bot").await?.expect(200);
    get(&server, CONFIG_MAPS, &headers).await?.expect(401);
    Ok(())
}

#[tokio::test]
async fn impersonation_takes_rights_away() -> Result<()> {
    let server = TestServer::start().await?;
    server.post(CONFIG_MAPS, &config_map("a")).await?.expect(201);
    let as_viewer = [("authorization", "Bearer secret"), ("impersonate-user", "viewer")];
    get(&server, CONFIG_MAPS, &as_viewer).await?.expect(403);
    let binding = json!({"metadata": {"name": "v"}, "subjects": [{"kind": "User", "name": "viewer"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    server.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?.expect(201);
    get(&server, CONFIG_MAPS, &as_viewer).await?.expect(200);
    get(&server, "/api/v1/namespaces/default/secrets", &as_viewer).await?.expect(403);
    Ok(())
}

#[tokio::test]
async fn reviews_answer_for_the_caller() -> Result<()> {
    let server = TestServer::start().await?;
    let review =
        json!({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}});
    let answer = server.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?.expect(201);
    assert_eq!(answer.at("/status/allowed"), &json!(true));
    let who = server.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await?.expect(201);
    assert_eq!(who.at("/status/userInfo/username"), "tester");
    Ok(())
}

#[tokio::test]
async fn impersonation_carries_groups_and_extra() -> Result<()> {
    let server = TestServer::start().await?;
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("authorization", "Bearer secret")
        .header("content-type", "application/json")
        .header("impersonate-user", "ann")
        .header("impersonate-group", "crew")
        .header("impersonate-uid", "u-1")
        .header("impersonate-extra-scopes", "all")
        .body(Body::from("{}"))?;
    let who = server.send_anonymously(request).await?.expect(201);
    let info = who.at("/status/userInfo");
    let want = json!({"username": "ann", "uid": "u-1", "groups": ["crew", "system:authenticated"], "extra": {"scopes": ["all"]}});
    assert_eq!(info, &want);
    let nobody = [("authorization", "Bearer secret"), ("impersonate-group", "crew")];
    get(&server, CONFIG_MAPS, &nobody).await?.expect(500);
    Ok(())
}

#[tokio::test]
async fn tokens_are_for_an_audience_and_end_with_what_they_are_bound_to() -> Result<()> {
    let server = TestServer::start().await?;
    const NAMESPACE: &str = "/api/v1/namespaces/default";
    server.post(&format!("{NAMESPACE}/serviceaccounts"), &json!({"metadata": {"name": "bot"}})).await?.expect(201);
    server.post(&format!("{NAMESPACE}/secrets"), &json!({"metadata": {"name": "s"}})).await?.expect(201);
    let path = format!("{NAMESPACE}/serviceaccounts/bot/token");
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": "s"});
    let spec = json!({"audiences": ["vault"], "boundObjectRef": bound});
    let issued = server.post(&path, &json!({"spec": spec})).await?.expect(201);
    assert_eq!(issued.at("/spec/audiences"), &json!(["vault"]));
    let token = issued.at("/status/token").as_str().context("a token")?.to_owned();
    // Not for this server.
    get(&server, CONFIG_MAPS, &[("authorization", &format!("Bearer {token}"))]).await?.expect(401);
    let review = async |audiences: serde_json::Value| -> Result<serde_json::Value> {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        let answer = server.post("/apis/authentication.k8s.io/v1/tokenreviews", &body).await?.expect(201);
        Ok(answer.at("/status").clone())
    };
    let known = review(json!(["vault", "other"])).await?;
    assert_eq!(known["authenticated"], true);
    assert_eq!(known["audiences"], json!(["vault"]));
    assert_eq!(known["user"]["username"], "system:serviceaccount:default:bot");
    assert!(review(json!(["other"])).await?["error"].is_string());
    server.delete(&format!("{NAMESPACE}/secrets/s")).await?.expect(200);
    assert!(review(json!(["vault"])).await?["error"].as_str().is_some_and(|e| e.contains("invalidated")));
    let wrong = json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}}});
    let refused = server.post(&path, &wrong).await?.expect(400);
    let message = "cannot bind token for serviceaccount \"bot\" to object type /v1, Kind=ConfigMap";
    assert_eq!(refused.body["message"], message);
    Ok(())
}
