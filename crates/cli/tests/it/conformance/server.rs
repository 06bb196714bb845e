//! Plain requests to the server under test.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::{Map, Value, json};

/// Headers that clients act upon.
const HEADERS: [&str; 6] = ["content-type", "warning", "retry-after", "www-authenticate", "allow", "location"];
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    known: kube::Client,
    anonymous: kube::Client,
}

pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a Value,
    pub(super) body: Option<Sent>,
    pub(super) anonymous: bool,
}

#[derive(Clone)]
pub(super) enum Sent {
    Json(Value),
    Raw(String),
}

impl Server {
    pub(super) async fn of(kubeconfig: &Path) -> Self {
        let config = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let mut nobody = config.clone();
        nobody.auth_info = AuthInfo::default();
        Self { url, known: kube::Client::try_from(config).unwrap(), anonymous: kube::Client::try_from(nobody).unwrap() }
    }

    pub(super) async fn open(&self, asked: &Asked<'_>) -> Result<http::Response<Body>, kube::Error> {
        let mut request = http::Request::builder().method(asked.method).uri(asked.path);
        let mut headers = vec![("user-agent".to_owned(), "conformance/1.0".to_owned())];
        headers.push(("accept".to_owned(), "application/json".to_owned()));
        for (name, value) in asked.headers.as_object().into_iter().flatten() {
            let name = name.to_lowercase();
            headers.retain(|(known, _)| *known != name);
            match value {
                Value::Null => {}
                Value::String(text) => headers.push((name, text.clone())),
                other => headers.push((name, other.to_string())),
            }
        }
        let bytes = match &asked.body {
            None => Vec::new(),
            Some(Sent::Raw(text)) => text.clone().into_bytes(),
            Some(Sent::Json(value)) => {
                if !headers.iter().any(|(name, _)| name == "content-type") {
                    headers.push(("content-type".to_owned(), "application/json".to_owned()));
                }
                super::normal::dumps(value).into_bytes()
            }
        };
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let client = if asked.anonymous { &self.anonymous } else { &self.known };
        client.send(request.body(Body::from(bytes)).expect("a request")).await
    }

    /// Status, headers, and the body as JSON or text.
    pub(super) async fn ask(&self, asked: &Asked<'_>) -> Value {
        let answer = async {
            let response = self.open(asked).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(pack(&parts, &bytes))
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok(packed)) => packed,
            Ok(Err(error)) => json!({"status": 0, "headers": {}, "text": format!("no answer: {error}")}),
            Err(_) => json!({"status": 0, "headers": {}, "text": "no answer in time"}),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ask(&Asked { method: "GET", path, headers: &Value::Null, body: None, anonymous: false }).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let headers = match method {
            "PATCH" => json!({"content-type": "application/merge-patch+json"}),
            _ => Value::Null,
        };
        let body = body.map(Sent::Json);
        self.ask(&Asked { method, path, headers: &headers, body, anonymous: false }).await
    }
}

pub(super) fn head(parts: &http::response::Parts) -> Value {
    let mut headers = Map::new();
    for name in HEADERS {
        let values: Vec<Value> =
            parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
        match (name, values.first()) {
            (_, None) => {}
            ("warning", _) => drop(headers.insert(name.to_owned(), Value::Array(values))),
            (_, Some(first)) => drop(headers.insert(name.to_owned(), first.clone())),
        }
    }
    json!({"status": parts.status.as_u16(), "headers": headers})
}

pub(super) fn pack(parts: &http::response::Parts, body: &[u8]) -> Value {
    let mut packed = head(parts);
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() || value.is_array() => packed["json"] = value,
        _ => packed["text"] = String::from_utf8_lossy(body).into(),
    }
    packed
}
