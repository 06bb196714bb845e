//! Webhooks are told what happened to Tasks.
//!
//! What is to be told stands in the Task's status (`pendingNotifications`), written together with what happened; what was
//! told is taken out of it. So it survives restarts, and is told at least once; the delivery's identity tells repetitions
//! apart. An endpoint that does not answer is left alone for a while and holds up neither others nor reconciliations; after
//! an hour it is not told any more.

pub mod payload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, header};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use kubetask_api::config::{NotificationEvent, Notifications};
use kubetask_api::{Task, reasons};
use kubetask_core::retention::NOTIFY_WITHIN;
use kubetask_core::task::EventNote;
use kubetask_core::task::notify::wanted;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::FIELD_MANAGER;
use crate::backlog::{Attempt, Backlog, Pace, backlog};
use crate::events::Recorder;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::world::{TaskKey, World};

const PACE: Pace = Pace { together: 16, first: Duration::from_millis(500), most: Duration::from_secs(60) };
/// How long an endpoint may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Tells webhooks.
#[derive(Clone)]
struct Notifier {
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    http: Http,
    /// For namespaces that say nothing.
    usual: Option<Notifications>,
    /// Endpoints that do not answer: how often in a row, and until when they are left alone.
    down: Arc<Mutex<HashMap<String, (u32, Instant)>>>,
}

/// Where to tell, and how to sign.
struct Endpoint {
    url: String,
    key: Option<Vec<u8>>,
}

/// Takes Tasks of which something is to be told, and the future that tells it.
pub(crate) fn notifier(
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    http: Http,
    usual: Option<Notifications>,
) -> (Backlog, BoxFuture<'static, ()>) {
    let counted = metrics.clone();
    let notifier = Notifier { client, world, recorder, metrics, http, usual, down: Arc::default() };
    let attempt = move |key| -> BoxFuture<'static, Attempt> {
        let notifier = notifier.clone();
        Box::pin(async move {
            match notifier.attempt(&key).await {
                Ok(attempt) => attempt,
                Err(error) => {
                    tracing::debug!(namespace = &*key.namespace, task = &*key.name, %error, "not told yet");
                    Attempt::Failed
                }
            }
        })
    };
    backlog(PACE, move |count| counted.set_notification_pending(count), attempt)
}

impl Notifier {
    async fn attempt(&self, key: &TaskKey) -> Result<Attempt, kube::Error> {
        let tasks: Api<Task> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(task) = tasks.get_opt(&key.name).await? else { return Ok(Attempt::Done) };
        let pending = task.status.as_ref().map(|status| status.pending_notifications.clone()).unwrap_or_default();
        if pending.is_empty() {
            return Ok(Attempt::Done);
        }
        let config = self.world.lock().configs.get(&*key.namespace).cloned();
        let Some(notifications) = wanted(config.as_deref(), self.usual.as_ref()) else {
            // Nobody wants to be told any more.
            return self.keep(&tasks, &task, &[]).await;
        };
        let mut left = pending.clone();
        let mut failure = None;
        match self.endpoint(&key.namespace, notifications).await {
            Ok(endpoint) => {
                for event in &pending {
                    match self.tell(&endpoint, &task, *event).await {
                        Ok(()) => left.retain(|other| other != event),
                        Err(why) => {
                            failure = Some(why);
                            break;
                        }
                    }
                }
            }
            Err(why) => failure = Some(why),
        }
        if let Some(why) = failure {
            if is_too_late(&task) {
                left.iter().for_each(|_| self.metrics.notified("dropped"));
                let words: Vec<&str> = left.iter().map(|event| event.as_str()).collect();
                let message = format!("the webhook was not told of {}: {why}", words.join(", "));
                tracing::warn!(namespace = &*key.namespace, task = &*key.name, "{message}");
                let note = EventNote { warning: true, reason: reasons::NOTIFICATION_DROPPED, message };
                self.recorder.publish(&task, &note);
                left.clear();
            } else {
                tracing::info!(namespace = &*key.namespace, task = &*key.name, why, "the webhook is told later");
            }
        }
        if left == pending { Ok(Attempt::Failed) } else { self.keep(&tasks, &task, &left).await }
    }

    async fn endpoint(&self, namespace: &str, wanted: &Notifications) -> Result<Endpoint, String> {
        let Some(named) = &wanted.secret_ref else {
            return Ok(Endpoint { url: wanted.webhook_url.clone().unwrap_or_default(), key: None });
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get_opt(&named.name).await.map_err(|error| error.to_string())?;
        let missing = || format!("Secret \"{}\" of notifications.secretRef does not exist", named.name);
        let mut data = secret.ok_or_else(missing)?.data.unwrap_or_default();
        let url = data.remove("url").and_then(|url| String::from_utf8(url.0).ok());
        let url = url.ok_or_else(|| format!("Secret \"{}\" of notifications.secretRef has no key url", named.name))?;
        Ok(Endpoint { url: url.trim().to_owned(), key: data.remove("signingKey").map(|key| key.0) })
    }

    /// Calls the webhook; only an answer of success counts.
    async fn tell(&self, endpoint: &Endpoint, task: &Task, event: NotificationEvent) -> Result<(), String> {
        let is_down = self.down().get(&endpoint.url).is_some_and(|(_, until)| *until > Instant::now());
        if is_down {
            return Err("the endpoint has just failed".to_owned());
        }
        let called = self.call(endpoint, task, event).await;
        let mut down = self.down();
        match &called {
            Ok(()) => {
                down.remove(&endpoint.url);
                self.metrics.notified("ok");
            }
            Err(_) => {
                let failed = down.get(&endpoint.url).map_or(0, |(failed, _)| *failed).saturating_add(1);
                let pause = Duration::from_millis(200 << failed.min(8));
                down.insert(endpoint.url.clone(), (failed, Instant::now() + pause));
                self.metrics.notified("error");
            }
        }
        called
    }

    async fn call(&self, endpoint: &Endpoint, task: &Task, event: NotificationEvent) -> Result<(), String> {
        let body = payload::body(task, event).to_string().into_bytes();
        let time = Timestamp::now().as_second();
        let mut request = Request::post(&endpoint.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("kubetask/", env!("CARGO_PKG_VERSION")))
            .header(payload::EVENT, event.as_str())
            .header(payload::DELIVERY, payload::delivery(task, event))
            .header(payload::TIMESTAMP, time);
        if let Some(key) = &endpoint.key {
            request = request.header(payload::SIGNATURE, payload::signature(key, time, &body));
        }
        // The URL may hold a secret: it is not part of what is said.
        let answered = self.http.post(request, body, ANSWER_WITHIN).await;
        let (status, said) = answered.map_err(|error| crate::causes::chain(error.as_ref()))?;
        if status.is_success() {
            return Ok(());
        }
        let said: String = said.chars().take(200).collect();
        Err(format!("the endpoint answered {status}: {said}"))
    }

    /// Writes what is still to be told.
    async fn keep(&self, tasks: &Api<Task>, task: &Task, left: &[NotificationEvent]) -> Result<Attempt, kube::Error> {
        let left_over = if left.is_empty() { Value::Null } else { json!(left) };
        let patch = json!({
            "metadata": {"resourceVersion": task.metadata.resource_version, "uid": task.metadata.uid},
            "status": {"pendingNotifications": left_over},
        });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        tasks.patch_status(&task.name_any(), &params, &Patch::Merge(&patch)).await?;
        Ok(if left.is_empty() { Attempt::Done } else { Attempt::Failed })
    }

    fn down(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u32, Instant)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what happened is so long ago that nobody needs to be told.
fn is_too_late(task: &Task) -> bool {
    let status = task.status.as_ref();
    let ended = status.and_then(|s| s.completion_time.as_ref());
    // As long as it runs there may be somebody who wants to know.
    ended.is_some_and(|at| Timestamp::now().duration_since(at.0) > NOTIFY_WITHIN)
}
