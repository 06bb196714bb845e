//! Watches: a stream of events from the store's history, as bytes that were encoded when the object was written.
//!
//! The stream is pulled by the connection. A client that reads slowly is not waited for by anyone: its cursor falls behind,
//! and when the history has moved past it the watch ends with 410.

mod encode;
mod pace;
mod shared;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use kubetask_store::{Entry, Event, EventKind, ListOptions as StoreList, Store, WatchError, Watcher};
use serde_json::Value;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::{Call, list, select};
use crate::print::table::IncludeObject;
use crate::registry::Resource;
use crate::request::options::ListOptions;
use crate::request::{Format, Shape, Target};
use crate::selectors::Selection;
use crate::status::{Failure, Result};
use crate::tls::FromNetwork;

use encode::Encoder;
pub(crate) use pace::Watchers;
use shared::{Frame, Member};

/// Bytes put together into one frame at most.
const FRAME: usize = 128 * 1024;
/// A bookmark is sent this long before the server ends a watch, so that the client can go on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

pub(crate) fn handle(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, true)?;
    let options = ListOptions::parse(&call.query, true)?;
    let mut selection = select::parse(&call.query, resource)?;
    if !target.name.is_empty() {
        let only = format!("metadata.name={}", target.name);
        selection.fields = crate::selectors::field::Selector::parse(&only).map_err(Failure::bad_request)?;
    }
    let from = match options.resource_version.as_str() {
        "" => None,
        text => Some(text.parse::<u64>().map_err(|_| list::bad_version_plain(text))?),
    };
    let include = match output.shape {
        Shape::Table => IncludeObject::parse(call.query.get("includeObject"))?,
        _ => IncludeObject::Metadata,
    };
    let encoder = Encoder { resource: resource.clone(), output, include, columns_sent: false };
    let prefix = list::prefix(resource, target, &selection);
    // In a box: it is moved with each frame.
    let state = Box::new(start(call, &options, from, &prefix, selection, encoder));
    let stream = futures::stream::unfold(state, |mut state| async move {
        let frame = state.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), state))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers: &mut HeaderMap = response.headers_mut();
    let content_type = match output.format {
        Format::Json => "application/json",
        Format::Yaml => "application/yaml",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

fn start(
    call: &Call,
    options: &ListOptions,
    from: Option<u64>,
    prefix: &str,
    selection: Selection,
    encoder: Encoder,
) -> Stream {
    let server = &call.server;
    let limit = options
        .timeout_seconds
        .map_or_else(|| server.limits.watch_timeout.mul_f64(1.0 + rand::random::<f64>()), Duration::from_secs);
    let shared = call.parts.version == http::Version::HTTP_2;
    let connection = call.parts.extensions.get::<FromNetwork>().map_or(0, |network| network.connection);
    let now = Instant::now();
    let deadline = now + limit;
    // Very short watches get their bookmark early, long ones now and then and once before the end.
    let interval = server.limits.bookmark_interval;
    let before_end = limit.checked_sub(LAST_BOOKMARK).unwrap_or(limit / 2);
    let custom = encoder.resource.is_custom();
    let gone = custom.then(|| server.registry.end_of(&encoder.resource.gr().to_string()));
    let member = server.watchers.groups.join(&encoder.resource, prefix, &selection, encoder.output);
    let mut stream = Stream {
        store: server.store.clone(),
        watcher: None,
        queue: VecDeque::new(),
        initial_end: None,
        selection,
        member,
        encoder,
        bookmarks: options.bookmarks,
        interval,
        next_bookmark: now + interval.min(before_end),
        deadline,
        sleep: Box::pin(tokio::time::sleep_until(deadline)),
        stop: server.watches.clone(),
        gone,
        ended: false,
        full: false,
        pace: server.watchers.enter(now, connection, shared),
    };
    let initial = match (options.send_initial_events, from) {
        (Some(wanted), _) => wanted,
        (None, None | Some(0)) => true,
        (None, Some(_)) => false,
    };
    stream.open(initial, options, from, prefix);
    stream
}

struct Stream {
    store: Store,
    watcher: Option<Watcher>,
    /// Initial state that has not been sent yet.
    queue: VecDeque<Arc<Entry>>,
    /// The revision at which the initial state ends with an annotated bookmark.
    initial_end: Option<u64>,
    selection: Selection,
    /// Dropped before the encoder, whose resource its group is named by.
    member: Option<Member>,
    encoder: Encoder,
    bookmarks: bool,
    interval: Duration,
    next_bookmark: Instant,
    deadline: Instant,
    sleep: std::pin::Pin<Box<Sleep>>,
    stop: CancellationToken,
    /// Cancelled when the definition of a custom resource is gone.
    gone: Option<CancellationToken>,
    ended: bool,
    /// The last frame was full: there is probably more.
    full: bool,
    pace: pace::Pace,
}

impl Stream {
    fn open(&mut self, initial: bool, options: &ListOptions, from: Option<u64>, prefix: &str) {
        let bucket = self.encoder.resource.bucket.clone();
        let after = if initial {
            match self.store.list(&bucket, &StoreList { prefix, ..StoreList::default() }) {
                Ok(snapshot) => {
                    self.queue = snapshot.entries.into();
                    let marked = options.bookmarks && (options.send_initial_events == Some(true) || from == Some(0));
                    self.initial_end = marked.then_some(snapshot.revision);
                    snapshot.revision
                }
                Err(_) => self.store.revision(),
            }
        } else {
            match from {
                None | Some(0) => self.store.revision(),
                Some(revision) => revision,
            }
        };
        self.watcher = self.store.watch(&bucket, prefix, after).ok();
        if self.watcher.is_none() {
            self.queue.clear();
            self.initial_end = None;
        }
    }

    /// The next frame; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if self.watcher.is_none() {
            self.ended = true;
            let mut out = Vec::new();
            self.encoder.error(&mut out, &too_old(&self.store));
            return Some(out.into());
        }
        loop {
            if !self.behind()
                && let Some(until) = self.pace.gather_until(Instant::now())
            {
                tokio::time::sleep_until(until).await;
            }
            // What happened up to the end is told.
            let now = Instant::now();
            let over = now >= self.deadline
                || self.stop.is_cancelled()
                || self.gone.as_ref().is_some_and(CancellationToken::is_cancelled);
            if !over && let Some(bookmark) = self.bookmark(now) {
                return Some(bookmark);
            }
            let frame = self.drain();
            self.full = frame.len() >= FRAME;
            self.ended |= over && !self.full;
            if !frame.is_empty() {
                self.pace.sent(now);
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.wait().await;
        }
    }

    /// Whether there is more to send that does not have to be gathered.
    fn behind(&self) -> bool {
        let position = self.watcher.as_ref().map(Watcher::position);
        self.full
            || self.initial_end.is_some()
            || self.member.as_ref().zip(position).is_some_and(|(member, at)| member.frames().after(at).is_some())
    }

    /// A bookmark, where one is due.
    fn bookmark(&mut self, now: Instant) -> Option<Bytes> {
        let watcher = self.watcher.as_ref()?;
        if !self.bookmarks || now < self.next_bookmark || !self.queue.is_empty() || self.initial_end.is_some() {
            return None;
        }
        let mut out = Vec::new();
        self.encoder.bookmark(&mut out, watcher.progress(), false);
        self.next_bookmark = next_bookmark(now, self.interval, self.deadline);
        Some(out.into())
    }

    /// What is there already, up to a frame; as another watch has encoded it, or encoded now.
    fn drain(&mut self) -> Bytes {
        let mut out = Vec::new();
        while out.len() < FRAME {
            if let Some(entry) = self.queue.pop_front() {
                if select::matches(&self.encoder.resource, &self.selection, &entry) {
                    self.encoder.entry(&mut out, "ADDED", &entry);
                }
            } else if let Some(revision) = self.initial_end.take() {
                self.encoder.bookmark(&mut out, revision, true);
            } else {
                break;
            }
        }
        let Some(mut watcher) = self.watcher.take() else { return out.into() };
        let member = self.member.take();
        let (mut bytes, failed) = match &member {
            // Nobody else has to be told what this one did not know at its beginning.
            Some(member) if out.is_empty() => self.shared(member, &mut watcher),
            _ => {
                let failed = self.encode(&mut watcher, &mut out);
                (out.into(), failed)
            }
        };
        (self.member, self.watcher) = (member, Some(watcher));
        if let Some(error) = failed {
            let mut out = bytes.to_vec();
            self.fail(&mut out, error);
            bytes = out.into();
        }
        bytes
    }

    /// What happened, as another watch has encoded it, or encoded for all.
    fn shared(&mut self, member: &Member, watcher: &mut Watcher) -> (Bytes, Option<WatchError>) {
        loop {
            let from = watcher.position();
            let mut frames = member.frames();
            if let Some(frame) = frames.after(from).cloned() {
                drop(frames);
                let failed = watcher.skip_to(frame.to).err();
                if frame.bytes.is_empty() && failed.is_none() {
                    // Nothing of it is selected, but more may have happened.
                    continue;
                }
                return (frame.bytes, failed);
            }
            let mut out = Vec::new();
            let failed = self.encode(watcher, &mut out);
            let bytes = Bytes::from(out);
            if !member.alone() {
                frames.keep(Frame { from, to: watcher.position(), bytes: bytes.clone() });
            }
            return (bytes, failed);
        }
    }

    /// Encodes what happened, up to a frame. The error that ends it.
    fn encode(&mut self, watcher: &mut Watcher, out: &mut Vec<u8>) -> Option<WatchError> {
        while out.len() < FRAME {
            match watcher.try_next() {
                Ok(Some(event)) => self.event(out, &event),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Waits for an event, a timer or the end.
    async fn wait(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let timer = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
        self.sleep.as_mut().reset(timer);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = watcher.changed() => {}
            () = cancelled(self.gone.as_ref()) => {}
            () = self.sleep.as_mut() => {}
        }
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: WatchError) {
        self.ended = true;
        if error == WatchError::Lagged {
            self.encoder.error(out, &too_old(&self.store));
        }
    }

    fn event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let resource = &self.encoder.resource;
        let matches = |entry: &Entry| select::matches(resource, &self.selection, entry);
        let before = event.prev.as_ref().is_some_and(|prev| matches(prev));
        match event.kind {
            EventKind::Delete => {
                if before || (event.prev.is_none() && matches(&event.entry)) {
                    self.encoder.entry(out, "DELETED", &event.entry);
                }
            }
            EventKind::Put => match (before, matches(&event.entry)) {
                (true, true) => self.encoder.entry(out, "MODIFIED", &event.entry),
                (false, true) => self.encoder.entry(out, "ADDED", &event.entry),
                (true, false) => {
                    // It left the selection: what the client knew, at the revision of the change.
                    if let Some(prev) = &event.prev {
                        self.encoder.left(out, prev, event.revision);
                    }
                }
                (false, false) => {}
            },
        }
    }
}

/// Waits for the end of what may have none.
async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The next bookmark: after the interval, or shortly before the end, whichever comes first.
fn next_bookmark(now: Instant, interval: Duration, deadline: Instant) -> Instant {
    let next = now + interval;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if now < last => next.min(last),
        _ => next,
    }
}

fn too_old(store: &Store) -> Value {
    let (compacted, current) = (store.compacted(), store.revision());
    let failure = Failure::expired(format!("too old resource version: {compacted} ({current})"));
    failure.to_body().unwrap_or_default()
}
