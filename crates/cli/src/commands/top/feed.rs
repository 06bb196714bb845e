//! News from the server: tasks as they change, and the log of the one that is looked at.

use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kubetask_api::Task;
use kubetask_core::task::AGENT_CONTAINER;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::state::LogRef;
use crate::error::chain;

/// What is told.
pub(super) enum News {
    /// A task came, changed or went.
    Tasks(Box<Event<Task>>),
    /// Lines of a log.
    Log {
        /// Whose.
        of: LogRef,
        /// The lines, as they came.
        lines: Vec<Vec<u8>>,
    },
    /// Something for people.
    Trouble(String),
}

/// The streams that run.
pub(super) struct Feed {
    client: Client,
    namespace: String,
    sender: mpsc::Sender<News>,
    tasks: Option<AbortOnDropHandle<()>>,
    log: Option<(LogRef, AbortOnDropHandle<()>)>,
}

/// How much of a log is shown at first.
const TAIL: i64 = 500;
/// Longest line that is kept.
const LINE_MAX: usize = 4 << 10;

impl Feed {
    pub(super) fn new(client: Client, namespace: &str, sender: mpsc::Sender<News>) -> Self {
        Self { client, namespace: namespace.to_owned(), sender, tasks: None, log: None }
    }

    /// Watches tasks, in place of those that were watched.
    pub(super) fn tasks(&mut self, all_namespaces: bool) {
        let api: Api<Task> = if all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let sender = self.sender.clone();
        self.tasks = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                let news = match event {
                    Ok(event) => News::Tasks(Box::new(event)),
                    Err(error) => News::Trouble(chain(&error)),
                };
                if sender.send(news).await.is_err() {
                    return;
                }
            }
        })));
    }

    /// Follows a log, in place of the one that was followed; the same one goes on.
    pub(super) fn log(&mut self, wanted: Option<LogRef>) {
        if self.log.as_ref().map(|(of, _)| of) == wanted.as_ref() {
            return;
        }
        self.log = wanted.map(|of| {
            let work = follow(self.client.clone(), of.clone(), self.sender.clone());
            (of, AbortOnDropHandle::new(tokio::spawn(work)))
        });
    }
}

async fn follow(client: Client, of: LogRef, sender: mpsc::Sender<News>) {
    let pods: Api<Pod> = Api::namespaced(client, &of.namespace);
    let params = LogParams {
        container: Some(AGENT_CONTAINER.to_owned()),
        follow: true,
        tail_lines: Some(TAIL),
        ..LogParams::default()
    };
    loop {
        let Ok(stream) = pods.log_stream(&of.pod, &params).await else {
            // Not started yet, or between two servers. Whoever looks at another task ends this.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        let mut line = Vec::new();
        loop {
            let (used, complete) = match stream.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(buffer) => {
                    let end = buffer.iter().position(|b| *b == b'\n');
                    let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
                    let room = LINE_MAX.saturating_sub(line.len()).min(part.len());
                    line.extend_from_slice(part.get(..room).unwrap_or_default());
                    (end.map_or(buffer.len(), |end| end + 1), end.is_some())
                }
            };
            stream.as_mut().consume(used);
            if complete {
                let lines = vec![std::mem::take(&mut line)];
                if sender.send(News::Log { of: of.clone(), lines }).await.is_err() {
                    return;
                }
            }
        }
        if !line.is_empty() {
            let _ = sender.send(News::Log { of: of.clone(), lines: vec![line] }).await;
        }
        // The agent has ended, and its log with it.
        return;
    }
}
