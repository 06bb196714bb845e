//! Events for people, recorded off every hot path: [`Recorder::emit`] never waits and never fails.
//!
//! Equal events are counted in one object. When more happen than can be written, the newest are dropped and the log
//! says how many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events waiting to be written.
const QUEUE: usize = 4096;
/// Events that a repetition is recognised of.
const REMEMBERED: usize = 2048;
/// Longest text of an event that the API server takes.
const LONGEST_MESSAGE: usize = 1024;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Note {
    object: ObjectKey,
    warning: bool,
    reason: &'static str,
    message: String,
    component: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ObjectKey {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field: Option<String>,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<(Timestamp, Note)>,
    dropped: Arc<AtomicU64>,
}

/// The component that an event is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// What runs pods.
    Kubelet,
    /// What gives pods their node.
    Scheduler,
}

impl Recorder {
    /// A recorder, and what writes its events until `stop`, and then those that wait already.
    pub(crate) fn new(
        client: Client,
        host: String,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let writer = Writer { client, host, known: HashMap::new(), order: VecDeque::new() };
        (Self { queue, dropped: Arc::clone(&dropped) }, writer.run(receiver, dropped, stop))
    }

    /// Records an event of `pod`; `field` is the part of it that the event is about.
    pub(crate) fn emit(
        &self,
        from: From,
        pod: &Pod,
        field: Option<String>,
        warning: bool,
        reason: &'static str,
        message: &str,
    ) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let object = ObjectKey {
            kind: "Pod",
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
            field,
        };
        let component = match from {
            From::Kubelet => "kubelet",
            From::Scheduler => "default-scheduler",
        };
        let mut message = message.to_owned();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        }
        let note = Note { object, warning, reason, message, component };
        if self.queue.try_send((Timestamp::now(), note)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    client: Client,
    host: String,
    known: HashMap<Note, (String, i32)>,
    order: VecDeque<Note>,
}

impl Writer {
    async fn run(
        mut self,
        mut receiver: mpsc::Receiver<(Timestamp, Note)>,
        dropped: Arc<AtomicU64>,
        stop: CancellationToken,
    ) {
        loop {
            let next = tokio::select! {
                next = receiver.recv() => next,
                () = stop.cancelled(), if !receiver.is_closed() => {
                    receiver.close();
                    continue;
                }
            };
            let Some((at, note)) = next else { return };
            if let Err(error) = self.write(at, note).await {
                // A namespace that is going away takes no events: nothing to worry about.
                tracing::debug!(%error, "event not recorded");
            }
            let lost = dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(lost, "events dropped: more than can be written");
            }
        }
    }

    async fn write(&mut self, at: Timestamp, note: Note) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &note.object.namespace);
        if let Some((name, count)) = self.known.get_mut(&note) {
            *count = count.saturating_add(1);
            let patch = json!({"count": *count, "lastTimestamp": Time(at)});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(at, &note);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        if self.known.insert(note.clone(), (name, 1)).is_none() {
            self.order.push_back(note);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        Ok(())
    }

    fn event(&self, at: Timestamp, note: &Note) -> Event {
        let Note { object, warning, reason, message, component } = note;
        let nanos = at.as_nanosecond();
        let kubelet = *component == "kubelet";
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{nanos:x}", object.name)),
                namespace: Some(object.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some(object.kind.to_owned()),
                namespace: Some(object.namespace.clone()),
                name: Some(object.name.clone()),
                uid: Some(object.uid.clone()),
                field_path: object.field.clone(),
                ..ObjectReference::default()
            },
            type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            source: Some(EventSource {
                component: Some((*component).to_owned()),
                host: kubelet.then(|| self.host.clone()),
            }),
            reporting_component: Some((*component).to_owned()),
            reporting_instance: kubelet.then(|| self.host.clone()),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            count: Some(1),
            ..Event::default()
        }
    }
}
