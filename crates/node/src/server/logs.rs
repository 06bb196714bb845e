//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::{Query, error, flag, parameter};
use crate::logs::notify::Interest;
use crate::logs::read::{LogOptions, Reader, Step, Stream};
use crate::shared::Shared;
use crate::view::{ContainerView, PodView};

/// Output collected before it is passed on.
const BATCH: usize = 256 * 1024;

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    query: Query,
) -> Response {
    let options = match options(&query, Timestamp::now()) {
        Ok(options) => options,
        Err(text) => return error(StatusCode::BAD_REQUEST, text),
    };
    let Some(handle) = shared.find(&namespace, &pod) else {
        return error(StatusCode::NOT_FOUND, format!("pod {pod:?} not found\n"));
    };
    let view = handle.view;
    let attempt = {
        let pod = view.borrow();
        let Some(view) = pod.container(&container) else {
            return error(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {:?}\n", pod.name));
        };
        match attempt(view, &pod.name, flag(&query, &["previous"])) {
            Ok(attempt) => attempt,
            Err(text) => return error(StatusCode::BAD_REQUEST, text),
        }
    };
    let path = {
        let pod = view.borrow();
        shared.layout.log(&pod.namespace, &pod.name, &pod.uid, &container, attempt)
    };
    let directory = path.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
    let opened = tokio::task::spawn_blocking(move || Reader::open(&path, options)).await;
    let reader = match opened {
        Ok(Ok(reader)) => reader,
        Ok(Err(problem)) => {
            let text = format!("failed to try resolving symlinks in path: {problem}");
            return error(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    };
    let interest = flag(&query, &["follow"]).then(|| shared.notifier.watch(&directory));
    let (sender, receiver) = mpsc::channel(4);
    let follow = Follow { view, container, attempt, interest };
    let stop = shared.stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(pump(reader, sender, follow)).await });
    let stream =
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let headers = [(header::CONTENT_TYPE, "text/plain")];
    (headers, Body::from_stream(stream)).into_response()
}

/// Which run's log is meant, or the kubelet's words for there being none.
fn attempt(container: &ContainerView, pod: &str, previous: bool) -> Result<u32, String> {
    let name = &container.name;
    if previous {
        return container
            .previous
            .ok_or_else(|| format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    container.log.ok_or_else(|| {
        let reason = match container.waiting.as_deref() {
            Some("ErrImagePull") => "image can't be pulled",
            Some("ImagePullBackOff") => "trying and failing to pull image",
            Some(reason) => reason,
            None => "ContainerCreating",
        };
        format!("container {name:?} in pod {pod:?} is waiting to start: {reason}")
    })
}

fn options(query: &[(String, String)], now: Timestamp) -> Result<LogOptions, String> {
    let number = |name: &str| match parameter(query, name).filter(|text| !text.is_empty()) {
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("invalid value for {name}: {text:?}")),
        None => Ok(None),
    };
    let since = match (number("sinceSeconds")?, parameter(query, "sinceTime").filter(|text| !text.is_empty())) {
        (Some(seconds), _) => now.checked_sub(Duration::from_secs(seconds)).ok(),
        (None, Some(text)) => Some(text.parse().map_err(|_| format!("invalid value for sinceTime: {text:?}"))?),
        (None, None) => None,
    };
    let stream = match parameter(query, "stream") {
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        None | Some("" | "All") => None,
        Some(other) => return Err(format!("invalid value for stream: {other:?}")),
    };
    Ok(LogOptions {
        tail_lines: number("tailLines")?,
        since,
        timestamps: flag(query, &["timestamps"]),
        limit_bytes: number("limitBytes")?,
        stream,
    })
}

struct Follow {
    view: watch::Receiver<PodView>,
    container: String,
    attempt: u32,
    interest: Option<Interest>,
}

impl Follow {
    /// Whether the run may still write.
    fn going_on(&mut self) -> bool {
        let pod = self.view.borrow_and_update();
        pod.container(&self.container).is_some_and(|container| container.running == Some(self.attempt))
    }
}

/// Passes the log on until its end, or, following, until the run is over.
async fn pump(mut reader: Reader, sender: mpsc::Sender<Result<Bytes, std::io::Error>>, mut follow: Follow) {
    loop {
        // Both before reading: what is written or ends meanwhile is noticed afterwards.
        let going_on = follow.interest.is_some() && follow.going_on();
        let news = follow.interest.as_ref().map(Interest::changed);
        let mut step = Step::More;
        while step == Step::More {
            let read = tokio::task::spawn_blocking(move || {
                let mut out = Vec::new();
                let mut step = Ok(Step::More);
                while matches!(step, Ok(Step::More)) && out.len() < BATCH {
                    step = reader.step(&mut out);
                }
                (reader, out, step)
            });
            let Ok((back, out, result)) = read.await else { return };
            reader = back;
            if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() {
                return;
            }
            step = match result {
                Ok(step) => step,
                Err(problem) => return drop(sender.send(Err(problem)).await),
            };
        }
        let Some(news) = news.filter(|_| going_on && step == Step::End) else { return };
        tokio::select! {
            () = news => {}
            changed = follow.view.changed() => {
                // The pod is gone: one last look, since nothing is said to be running any more.
                if changed.is_err() {
                    follow.interest = None;
                }
            }
            () = sender.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(log: Option<u32>, previous: Option<u32>, waiting: Option<&str>) -> ContainerView {
        let waiting = waiting.map(str::to_owned);
        ContainerView { name: "main".into(), image: String::new(), log, previous, running: None, tty: false, waiting }
    }

    #[test]
    fn which_run_is_meant() {
        let check = |view: ContainerView, previous: bool, expect: Result<u32, &str>| {
            assert_eq!(attempt(&view, "p", previous), expect.map_err(str::to_owned));
        };
        check(view(Some(2), Some(1), None), false, Ok(2));
        check(view(Some(2), Some(1), None), true, Ok(1));
        check(view(Some(0), None, None), true, Err("previous terminated container \"main\" in pod \"p\" not found"));
        let waiting = |reason| view(None, None, Some(reason));
        check(
            waiting("PodInitializing"),
            false,
            Err("container \"main\" in pod \"p\" is waiting to start: PodInitializing"),
        );
        check(
            waiting("ErrImagePull"),
            false,
            Err("container \"main\" in pod \"p\" is waiting to start: image can't be pulled"),
        );
    }

    #[test]
    fn options_are_read() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let read = |pairs: &[(&str, &str)]| {
            let query: Vec<(String, String)> =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            options(&query, now)
        };
        let all = read(&[
            ("tailLines", "5"),
            ("sinceSeconds", "60"),
            ("timestamps", "true"),
            ("limitBytes", "9"),
            ("stream", "Stderr"),
        ])
        .unwrap();
        assert_eq!(
            (all.tail_lines, all.limit_bytes, all.timestamps, all.stream),
            (Some(5), Some(9), true, Some(Stream::Stderr))
        );
        assert_eq!(all.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(
            read(&[("sinceTime", "2020-01-01T00:00:00Z")]).unwrap().since,
            Some("2020-01-01T00:00:00Z".parse().unwrap())
        );
        for bad in [("tailLines", "-1"), ("limitBytes", "x"), ("sinceTime", "yesterday"), ("stream", "Stdin")] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }
}
