//! Request bodies: read within a limit and a time, decoded from JSON or YAML into one value.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::status::{Failure, Result};

/// Media types of request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// A decoded body.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Paths of members that stand twice in one object; the last one won.
    pub(crate) duplicates: Vec<String>,
    pub(crate) raw: Bytes,
}

/// Reads a body of at most `limit` bytes, giving up when it takes longer than `patience`.
pub(crate) async fn read(body: Body, limit: usize, patience: Duration) -> Result<Bytes> {
    use http_body::Body as _;
    if body.size_hint().lower() > limit as u64 {
        drain(body, limit, patience).await;
        return Err(Failure::too_large(limit));
    }
    match tokio::time::timeout(patience, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::timeout("Timeout: request did not complete within the allotted timeout")),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad_request(format!("unable to read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total > limit {
            drain(body, limit, DRAIN_TIME).await;
            return Err(Failure::too_large(limit));
        }
        match first.take() {
            // The usual case: the whole body in one frame, not copied.
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(head) => {
                rest.extend_from_slice(&head);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// How long the rest of a refused body is listened to.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Throws a refused body away, within reason: a client that is still sending would not see the answer otherwise.
async fn drain(mut body: Body, limit: usize, patience: Duration) {
    let read = async {
        let mut left = limit.saturating_mul(4);
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                return;
            }
            left -= length;
        }
    };
    // Whatever comes of it, the body is refused.
    let _ = tokio::time::timeout(patience.min(DRAIN_TIME), read).await;
}

/// The media type of an object in a body. A missing type is JSON.
pub(crate) fn media(headers: &HeaderMap) -> Result<Media> {
    match content_type(headers) {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Failure::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            false,
        )),
    }
}

/// The `Content-Type` without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Decodes a document.
pub(crate) fn decode(raw: Bytes, media: Media) -> std::result::Result<Document, String> {
    match media {
        Media::Json => {
            let parsed = kubetask_kinds::json::parse(&raw).map_err(|error| json_message(&raw, &error))?;
            Ok(Document { value: parsed.value, duplicates: parsed.duplicates, raw })
        }
        Media::Protobuf => {
            let value = super::protobuf::decode(&raw)?;
            Ok(Document { value, duplicates: Vec::new(), raw: Bytes::new() })
        }
        Media::Yaml => {
            let text = std::str::from_utf8(&raw).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
            let limits = kubetask_yaml::Limits::default();
            let document = kubetask_yaml::read_one(text, limits)
                .map_err(|error| format!("error converting YAML to JSON: yaml: line {}: {}", error.line, error.kind))?;
            let duplicates = document.duplicates.into_iter().map(|(path, _)| path).collect();
            Ok(Document { value: document.value, duplicates, raw })
        }
    }
}

/// Go's words for a syntax error; ours for what Go would accept (nesting that is too deep).
fn json_message(raw: &[u8], error: &serde_json::Error) -> String {
    kubetask_kinds::go_json::syntax_error(raw).unwrap_or_else(|| format!("json parse error: {error}"))
}

/// The path of every member in the order of the text; only made to sort several complaints as Go's decoder does.
pub(crate) fn member_order(raw: &[u8]) -> Vec<String> {
    #[derive(Default)]
    struct Frame {
        path: String,
        list: bool,
        index: usize,
        key: Option<String>,
    }
    let mut out = Vec::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut at = 0;
    let child = |frame: &Frame| match (&frame.key, frame.list) {
        (_, true) => format!("{}[{}]", frame.path, frame.index),
        (Some(key), _) if frame.path.is_empty() => key.clone(),
        (Some(key), _) => format!("{}.{key}", frame.path),
        (None, _) => frame.path.clone(),
    };
    while at < raw.len() {
        match raw[at] {
            open @ (b'{' | b'[') => {
                let path = stack.last().map(child).unwrap_or_default();
                stack.push(Frame { path, list: open == b'[', ..Frame::default() });
            }
            b'}' | b']' => {
                stack.pop();
            }
            b',' => {
                if let Some(frame) = stack.last_mut() {
                    frame.index += 1;
                    frame.key = None;
                }
            }
            b'"' => {
                let start = at;
                at += 1;
                while at < raw.len() && raw[at] != b'"' {
                    at += 1 + usize::from(raw[at] == b'\\');
                }
                if let Some(frame) = stack.last_mut()
                    && !frame.list
                    && frame.key.is_none()
                {
                    let text = raw.get(start..=at).and_then(|t| serde_json::from_slice::<String>(t).ok());
                    frame.key = Some(text.unwrap_or_default());
                    out.push(child(frame));
                }
            }
            _ => {}
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_yaml_1_1() {
        let text = "size: 010\nextra: {a: on, c: 1_0, h: 2001-01-01}\n";
        let decoded = decode(Bytes::from_static(text.as_bytes()), Media::Yaml).unwrap_or_default();
        assert_eq!(decoded.value, json!({"size": 8, "extra": {"a": true, "c": 10, "h": "2001-01-01"}}));
    }

    #[test]
    fn members_in_order_of_the_text() {
        let text = br#"{"metadata":{"name":"x","foo":[{"a\"b":1},{"c":"y"}]},"data":{"a":"1"}}"#;
        let want = [
            "metadata",
            "metadata.name",
            "metadata.foo",
            "metadata.foo[0].a\"b",
            "metadata.foo[1].c",
            "data",
            "data.a",
        ];
        assert_eq!(member_order(text), want);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let body = Body::from(vec![b'x'; 11]);
        let failure = read(body, 10, Duration::from_secs(1)).await.err();
        assert_eq!(failure.map(|f| f.code()), Some(413));
        let body = Body::from("hello");
        assert_eq!(read(body, 10, Duration::from_secs(1)).await.ok(), Some(Bytes::from("hello")));
    }

    proptest::proptest! {
        #[test]
        fn order_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = member_order(&bytes);
        }
    }
}
