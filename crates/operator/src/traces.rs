//! Traces: Tasks that ended, exported over OTLP/HTTP as JSON.
//!
//! Written here rather than taken from a library: four spans a Task are a hundred lines, and the libraries bring a protocol
//! compiler's output and an HTTP client of their own. A collector that does not answer costs spans, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kubetask_api::{Task, TaskStatus};
use kubetask_core::task::trace::{Span, TraceContext, spans};
use kubetask_core::task::{JobSeen, Seen};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::http::Http;
use crate::metrics::Metrics;

/// How many Tasks may wait to be exported; further ones are dropped.
const BACKLOG: usize = 1024;
/// How many Tasks are exported in one request.
const TOGETHER: usize = 128;
/// How long Tasks are gathered before they are exported.
const GATHER: Duration = Duration::from_millis(500);
/// How often a request is tried.
const TRIES: u32 = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where traces are exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// The URL for traces.
    pub url: String,
    /// Further headers, such as an authorization.
    pub headers: Vec<(String, String)>,
    /// The name of the service.
    pub service: String,
}

impl TraceConfig {
    /// What the variables of OpenTelemetry say; `None` when no endpoint is set.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let base = || set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|url| format!("{}/v1/traces", url.trim_end_matches('/')));
        let url = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(base)?;
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let headers = set("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| set("OTEL_EXPORTER_OTLP_HEADERS"));
        let headers = headers.unwrap_or_default();
        let pair =
            |pair: &str| pair.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Some(Self {
            url,
            headers: headers.split(',').filter_map(pair).collect(),
            service: set("OTEL_SERVICE_NAME").unwrap_or_else(|| "kubetask".to_owned()),
        })
    }
}

/// What was seen of a Task's Job and Pods.
pub(crate) struct Told {
    job: Option<Arc<Job>>,
    pods: Vec<Arc<Pod>>,
}

impl Told {
    pub(crate) fn of(seen: &Seen) -> Self {
        let job = if let JobSeen::Found(job) = &seen.job { Some(job.clone()) } else { None };
        Self { job, pods: seen.pods.clone() }
    }
}

/// The spans of one Task.
struct Ended {
    trace: String,
    spans: Vec<Span>,
}

/// Takes Tasks that ended.
#[derive(Clone)]
pub struct Spans {
    sender: Option<mpsc::Sender<Ended>>,
    metrics: Metrics,
}

impl Spans {
    /// A Task has ended.
    pub(crate) fn ended(&self, task: &Task, status: &TaskStatus, told: &Told) {
        let Some(sender) = &self.sender else { return };
        let spans = spans(task, status, told.job.as_deref(), &told.pods);
        let count = spans.len();
        if sender.try_send(Ended { trace: TraceContext::of(task).trace, spans }).is_err() {
            self.metrics.spans("dropped", count);
        }
    }
}

/// Takes Tasks that ended, and the future that exports them; it ends when the last clone is gone.
pub(crate) fn exporter(
    config: Option<TraceConfig>,
    metrics: Metrics,
) -> (Spans, Option<impl Future<Output = ()> + Send>) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let spans = Spans { sender: config.is_some().then_some(sender), metrics: metrics.clone() };
    (spans, config.map(|config| export(config, receiver, metrics)))
}

async fn export(config: TraceConfig, mut receiver: mpsc::Receiver<Ended>, metrics: Metrics) {
    let http = Http::default();
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, TOGETHER).await > 0 {
        let mut last = false;
        if batch.len() < TOGETHER {
            tokio::time::sleep(GATHER).await;
            while batch.len() < TOGETHER {
                match receiver.try_recv() {
                    Ok(ended) => batch.push(ended),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        last = true;
                        break;
                    }
                }
            }
        }
        let count = batch.iter().map(|ended| ended.spans.len()).sum();
        let body = request(&config.service, &batch).to_string().into_bytes();
        // An operator that ends does not wait for a collector that does not answer.
        let tries = if last { 1 } else { TRIES };
        match send(&http, &config, body, tries).await {
            Ok(()) => metrics.spans("ok", count),
            Err(why) => {
                tracing::warn!(why, count, "spans were not exported");
                metrics.spans("dropped", count);
            }
        }
        batch.clear();
    }
}

async fn send(http: &Http, config: &TraceConfig, body: Vec<u8>, tries: u32) -> Result<(), String> {
    let mut why = String::new();
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(500 << attempt)).await;
        }
        let mut request = Request::post(&config.url).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &config.headers {
            request = request.header(name, value);
        }
        match http.post(request, body.clone(), ANSWER_WITHIN).await {
            Ok((status, _)) if status.is_success() => return Ok(()),
            Ok((status, said)) => {
                why = format!("{status}: {}", said.chars().take(200).collect::<String>());
                // It does not want them, now or later.
                if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) {
                    break;
                }
            }
            Err(error) => why = crate::causes::chain(error.as_ref()),
        }
    }
    Err(why)
}

/// An `ExportTraceServiceRequest`.
fn request(service: &str, batch: &[Ended]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let nanos = |at: Timestamp| at.as_nanosecond().to_string();
    let span = |trace: &str, span: &Span| {
        let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| text(key, value)).collect();
        let status = match &span.error {
            Some(message) => json!({"code": 2, "message": message}),
            None => json!({"code": 1}),
        };
        json!({
            "traceId": trace, "spanId": span.id, "parentSpanId": span.parent.as_deref().unwrap_or_default(),
            "name": span.name, "kind": 1, "startTimeUnixNano": nanos(span.start), "endTimeUnixNano": nanos(span.end),
            "attributes": attributes, "status": status,
        })
    };
    let all = batch.iter().flat_map(|ended| ended.spans.iter().map(move |one| span(&ended.trace, one)));
    let resource = [text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "kubetask"}, "spans": all.collect::<Vec<_>>()}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_opentelemetry_count() {
        let config = |pairs: &[(&str, &str)]| {
            TraceConfig::from_env(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(config(&[]), None);
        assert_eq!(config(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        let set = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x, a=b"),
        ];
        let found = config(&set).unwrap();
        assert_eq!((found.url.as_str(), found.service.as_str()), ("http://c:4318/v1/traces", "kubetask"));
        assert_eq!(found.headers[0], ("authorization".to_owned(), "Bearer x".to_owned()));
        assert_eq!(found.headers.len(), 2);
        assert_eq!(config(&[set[0], ("OTEL_SDK_DISABLED", "true")]), None);
    }
}
