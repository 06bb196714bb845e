//! A server over a store in memory, and requests to it.

use anyhow::{Context, Result};
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use kubetask_apiserver::{ApiServer, AuthConfig, Config, LocalService, User};
use kubetask_store::{Options, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A bootstrapped server.
pub(crate) struct TestServer {
    pub(crate) api: ApiServer,
    service: LocalService,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl TestServer {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// One with limits of its own for the history.
    pub(crate) async fn start_with(options: Options) -> Result<Self> {
        let store = Store::in_memory(options)?;
        let auth = AuthConfig { tokens: vec![("secret".into(), User::admin("admin"))], service_account_key: None };
        let api = ApiServer::new(Config { auth, ..Config::new(store) })?;
        api.bootstrap().await?;
        let service = api.service_as(User::admin("tester"), "tests/1.0");
        Ok(Self { api, service })
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.service.clone(), "default")
    }

    /// A request as an administrator.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Answer> {
        let response = self.service.clone().oneshot(request).await?;
        read(response).await
    }

    /// A request without an identity of its own, as if it came over the network.
    pub(crate) async fn send_anonymously(&self, request: Request<Body>) -> Result<Answer> {
        read(self.api.router().oneshot(request).await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Request::get(path).body(Body::empty())?).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Request::delete(path).body(Body::empty())?).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(with_body("POST", path, "application/json", body)?).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(with_body("PUT", path, "application/json", body)?).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Result<Answer> {
        let content_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            "json" => "application/json-patch+json".to_owned(),
            "merge" => "application/merge-patch+json".to_owned(),
            other => format!("application/{other}+json"),
        };
        self.send(with_body("PATCH", path, &content_type, body)?).await
    }

    /// The store's view of the latest revision, as a list tells it.
    pub(crate) async fn revision(&self) -> Result<u64> {
        let list = self.get("/api/v1/configmaps").await?;
        Ok(list.body["metadata"]["resourceVersion"].as_str().context("a list has a resourceVersion")?.parse()?)
    }
}

pub(crate) fn with_body(method: &str, path: &str, content_type: &str, body: &Value) -> Result<Request<Body>> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Body::from(body.to_string()))?)
}

pub(crate) async fn read(response: http::Response<Body>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status: parts.status, headers: parts.headers, text, body })
}

impl Answer {
    /// Fails unless the answer has this code; the answer itself for chaining.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Self {
        assert_eq!(self.status.as_u16(), code, "{}", self.text);
        self
    }

    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub(crate) fn version(&self) -> u64 {
        self.at("/metadata/resourceVersion").as_str().and_then(|v| v.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let items = self.at("/items").as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|i| i["metadata"]["name"].as_str()).map(str::to_owned).collect()
    }
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}})
}

/// A definition of `widgets.example.test` with two versions, a status, a scale and columns.
pub(crate) fn widgets() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red"},
            "replicas": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.test"},
        "spec": {"group": "example.test", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.test/v1/namespaces/default/widgets";

pub(crate) fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 3}})
}
