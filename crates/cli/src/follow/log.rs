//! A Task's log as a stream that survives interruptions, and the place it is printed to.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use futures::io::AsyncReadExt;
use kube::api::{Api, LogParams};
use tokio::sync::mpsc;

use kubetask_core::task::AGENT_CONTAINER;

use crate::output::{Output, TerminalFilter};

/// Prints log bytes: prefixed, made harmless for terminals, each byte once.
pub struct LogSink {
    output: Output,
    to_stderr: bool,
    prefix: Option<String>,
    filter: Option<TerminalFilter>,
    at_line_start: bool,
    /// Bytes of the current pod's log that were printed.
    printed: u64,
    pod: Option<String>,
}

impl LogSink {
    /// A sink for one Task.
    #[must_use]
    pub fn new(output: Output, to_stderr: bool, prefix: Option<String>) -> Self {
        let terminal = if to_stderr { output.progress } else { output.stdout_is_terminal };
        Self {
            output,
            to_stderr,
            prefix,
            filter: terminal.then(TerminalFilter::default),
            at_line_start: true,
            printed: 0,
            pod: None,
        }
    }

    /// Prints what follows after what was printed before.
    pub(super) fn write(&mut self, chunk: &Chunk) {
        if self.pod.as_deref() != Some(&chunk.pod) {
            // Another attempt has a log of its own.
            self.finish();
            self.pod = Some(chunk.pod.clone());
            self.printed = 0;
        }
        let end = chunk.offset + chunk.bytes.len() as u64;
        if end <= self.printed {
            return;
        }
        let skip = usize::try_from(self.printed.saturating_sub(chunk.offset)).unwrap_or(0);
        self.printed = end;
        let bytes = chunk.bytes.get(skip..).unwrap_or_default();
        let safe = match &mut self.filter {
            Some(filter) => filter.filter(bytes),
            None => bytes.to_vec(),
        };
        self.print(&safe);
    }

    /// Ends an unfinished last line on a terminal, so that what follows starts on its own.
    pub fn finish(&mut self) {
        if !self.at_line_start && (self.filter.is_some() || self.prefix.is_some()) {
            self.emit(b"\n");
            self.at_line_start = true;
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        let Some(prefix) = self.prefix.clone() else {
            if let Some(last) = bytes.last() {
                self.at_line_start = *last == b'\n';
                self.emit(bytes);
            }
            return;
        };
        let mut out = Vec::with_capacity(bytes.len() + prefix.len());
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if self.at_line_start {
                out.extend_from_slice(prefix.as_bytes());
            }
            out.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
        }
        self.emit(&out);
    }

    fn emit(&self, bytes: &[u8]) {
        if self.to_stderr {
            // Nobody to talk to is no reason to fail.
            let _ = std::io::stderr().lock().write_all(bytes);
        } else {
            self.output.raw(bytes);
        }
    }
}

/// A piece of a pod's log.
pub(super) struct Chunk {
    pod: String,
    offset: u64,
    bytes: Vec<u8>,
}

/// The log of a Task's current pod.
pub(super) struct LogStream {
    client: kube::Client,
    namespace: String,
    pod: Option<String>,
    chunks: Option<mpsc::Receiver<Chunk>>,
    /// Logs of further attempts, until the current one is read to its end.
    waiting: VecDeque<String>,
}

impl LogStream {
    pub(super) fn new(client: kube::Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), pod: None, chunks: None, waiting: VecDeque::new() }
    }

    /// Whether there is a stream to read from.
    pub(super) fn is_open(&self) -> bool {
        self.chunks.is_some()
    }

    /// Reads the log of this pod, after those of the pods before it.
    pub(super) fn open(&mut self, pod: &str) {
        if self.pod.as_deref() == Some(pod) || self.waiting.iter().any(|waiting| waiting == pod) {
            return;
        }
        if self.chunks.is_some() {
            self.waiting.push_back(pod.to_owned());
            return;
        }
        self.start(pod.to_owned());
    }

    fn start(&mut self, pod: String) {
        let (sender, receiver) = mpsc::channel(16);
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        tokio::spawn(read(pods, pod.clone(), sender));
        self.pod = Some(pod);
        self.chunks = Some(receiver);
    }

    /// The next piece; `None` once at the end of a pod's log.
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.as_mut()?.recv().await;
        if chunk.is_none() {
            self.chunks = None;
            if let Some(pod) = self.waiting.pop_front() {
                self.start(pod);
            }
        }
        chunk
    }

    /// Prints everything up to the end of the log.
    pub(super) async fn drain(&mut self, sink: &mut LogSink) {
        while self.is_open() {
            if let Some(chunk) = self.next().await {
                sink.write(&chunk);
            }
        }
    }
}

/// How often a broken log stream is taken up again before it counts as ended.
const ATTEMPTS: u32 = 20;

async fn read(pods: Api<k8s_openapi::api::core::v1::Pod>, pod: String, sender: mpsc::Sender<Chunk>) {
    let params = LogParams { follow: true, container: Some(AGENT_CONTAINER.to_owned()), ..LogParams::default() };
    for attempt in 0..ATTEMPTS {
        let mut offset = 0;
        match pods.log_stream(&pod, &params).await {
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                let mut buffer = vec![0; 16 << 10];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => return,
                        Ok(n) => {
                            let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                            if sender.send(Chunk { pod: pod.clone(), offset, bytes }).await.is_err() {
                                return;
                            }
                            offset += n as u64;
                        }
                        Err(error) => {
                            tracing::debug!(%error, %pod, "the log stream broke");
                            break;
                        }
                    }
                }
            }
            // The container has no log yet, or never will have one: a pod that could not start.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 204) && attempt > 2 => return,
            Err(error) => tracing::debug!(%error, %pod, "no log yet"),
        }
        tokio::time::sleep(Duration::from_millis(50 << attempt.min(5))).await;
    }
}
