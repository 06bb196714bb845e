//! [`Events`]: what `kubectl describe` shows. Written beside the work, never in its way: if the queue is full, or the
//! server refuses, an event is lost. Repetitions raise a count instead of adding an object.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Context;
use crate::requests;

/// Events that wait to be written.
const QUEUE: usize = 4096;
/// Events whose repetitions are counted.
const REMEMBERED: usize = 1024;

/// Something worth telling people about an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Note {
    pub(crate) about: About,
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The object an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct About {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Where notes are sent.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<Note>,
}

impl Events {
    /// Starts the writer; `component` is the source the events name.
    pub(crate) fn start(context: &Context, component: &'static str) -> Events {
        let (sender, mut notes) = mpsc::channel::<Note>(QUEUE);
        let client = context.client.clone();
        context.spawn(async move {
            let mut written: HashMap<Note, (String, i32)> = HashMap::new();
            while let Some(note) = notes.recv().await {
                let api: Api<Event> = Api::namespaced(client.clone(), &note.about.namespace);
                let now = Timestamp::now();
                let result = match written.get_mut(&note) {
                    Some((name, count)) => {
                        *count += 1;
                        let body = json!({ "count": *count, "lastTimestamp": Time(now) });
                        api.patch(name, &requests::patch(), &Patch::Merge(body)).await.map(drop)
                    }
                    None => {
                        let event = event(&note, component, now);
                        let name = event.metadata.name.clone().unwrap_or_default();
                        let result = api.create(&requests::post(), &event).await.map(drop);
                        if written.len() >= REMEMBERED {
                            written.clear();
                        }
                        written.insert(note.clone(), (name, 1));
                        result
                    }
                };
                if let Err(error) = result {
                    written.remove(&note);
                    tracing::debug!(%error, reason = %note.reason, "event not written");
                }
            }
        });
        Events { sender }
    }

    pub(crate) fn send(&self, note: Note) {
        // Losing an event is better than waiting for one.
        let _ = self.sender.try_send(note);
    }
}

fn event(note: &Note, component: &'static str, now: Timestamp) -> Event {
    let About { api_version, kind, namespace, name, uid } = note.about.clone();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
