//! Kubernetes Events, written by a task of their own so that no reconciliation waits for them.
//!
//! Plans carry an event only together with a new status, so nothing is told twice and nothing has to be counted here.
//! When events come faster than the server takes them, the newest are dropped: the status has the same words.

use k8s_openapi::api::core::v1::{EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use kubetask_core::names::{NAME_MAX, shorten};
use kubetask_core::task::EventNote;
use tokio::sync::mpsc;

type CoreEvent = k8s_openapi::api::core::v1::Event;

/// How many events may wait to be written.
const BACKLOG: usize = 4096;

/// Takes events to be written.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<CoreEvent>,
}

impl Recorder {
    /// Tells of an object.
    pub fn publish<K>(&self, object: &K, note: &EventNote)
    where
        K: Resource<DynamicType = ()>,
    {
        let regarding = object.object_ref(&());
        if self.sender.try_send(event(regarding, note, Timestamp::now())).is_err() {
            tracing::debug!(reason = note.reason, "event dropped: too many are waiting");
        }
    }
}

/// A recorder, and the future that writes what it takes; it ends when the last clone of the recorder is gone.
pub fn recorder(client: Client) -> (Recorder, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (Recorder { sender }, write(client, receiver))
}

async fn write(client: Client, mut events: mpsc::Receiver<CoreEvent>) {
    while let Some(event) = events.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let params = PostParams { field_manager: Some(crate::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if let Err(error) = Api::<CoreEvent>::namespaced(client.clone(), &namespace).create(&params, &event).await {
            // The namespace may be going, or the server be away: an event is not worth a retry.
            tracing::debug!(%error, "event not written");
        }
    }
}

fn event(regarding: ObjectReference, note: &EventNote, now: Timestamp) -> CoreEvent {
    let name = regarding.name.clone().unwrap_or_default();
    CoreEvent {
        metadata: ObjectMeta {
            // The form in which client-go names events; unique because time does not stand still for one object.
            name: Some(event_name(&name, now)),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        count: Some(1),
        event_time: Some(MicroTime(now)),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        involved_object: regarding,
        message: Some(truncate(&note.message, 1024)),
        reason: Some(note.reason.to_owned()),
        reporting_component: Some("kubetask.io/operator".to_owned()),
        reporting_instance: Some("kubetask".to_owned()),
        source: Some(EventSource { component: Some("kubetask".to_owned()), host: None }),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        related: None,
        series: None,
    }
}

/// An object's name may be as long as an event's, and the time comes on top.
fn event_name(name: &str, now: Timestamp) -> String {
    let suffix = format!(".{:x}", now.as_nanosecond());
    format!("{}{suffix}", shorten(name, NAME_MAX - suffix.len()))
}

/// The API takes at most 1024 bytes.
fn truncate(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(event_name("t", now), "t.18fae27693b40000");
        let long = event_name(&"x".repeat(253), now);
        assert!(long.len() == 253 && long.ends_with(".18fae27693b40000"), "{long}");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(truncate("short", 1024), "short");
        let cut = truncate(&"ü".repeat(1000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'), "{}", cut.len());
    }
}
