//! What is told of the download of a Task's image: events of its pods. Nothing depends on it; where they cannot be read, it is
//! silent.

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Event;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};

/// The messages, as they come.
pub(super) struct Pulls {
    client: kube::Client,
    namespace: String,
    job: Option<String>,
    messages: Option<BoxStream<'static, String>>,
}

impl Pulls {
    pub(super) fn new(client: kube::Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), job: None, messages: None }
    }

    /// Listens to the events of the pods of a Job.
    pub(super) fn open(&mut self, job: &str) {
        if self.job.as_deref() == Some(job) {
            return;
        }
        self.job = Some(job.to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let wanted = watcher::Config::default().fields("involvedObject.kind=Pod,reason=Pulling");
        let pods = format!("{job}-");
        let messages = watcher(events, wanted)
            .default_backoff()
            .applied_objects()
            // Who may not read events need not know.
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(move |event| {
                let of_job = |event: &Event| event.involved_object.name.as_ref().is_some_and(|n| n.starts_with(&pods));
                std::future::ready(event.ok().filter(of_job).and_then(|event| event.message))
            });
        self.messages = Some(messages.boxed());
    }

    /// Whether there is something to listen to.
    pub(super) fn is_open(&self) -> bool {
        self.messages.is_some()
    }

    /// Listens no longer: the program runs.
    pub(super) fn close(&mut self) {
        self.messages = None;
    }

    /// The next message; none when there will be no more.
    pub(super) async fn next(&mut self) -> Option<String> {
        let message = match &mut self.messages {
            Some(messages) => messages.next().await,
            None => None,
        };
        if message.is_none() {
            self.messages = None;
        }
        message
    }
}
