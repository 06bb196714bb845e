//! Brings a container's output from the daemon's log into the caller's, and goes on there after any interruption: the time
//! that the daemon gave the last entry says how far it came.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::sync::watch;

use super::frames::Decoder;
use super::http::{Api, Failure, encode, full};
use super::state::Inspected;
use crate::log::{LogWriter, Stream};
use crate::resume;
use crate::runtime::nanos;
use crate::spec::LogSpec;

/// Waits between attempts while the daemon is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How much of a log's end is looked at for its last entry.
const TAIL: u64 = 256 * 1024;

/// Length of the parts in which the daemon keeps a long line.
const PART: usize = 16 * 1024;

/// How far the log came: the time of the last entry, and how many there are with this time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    time: i128,
    entries: u32,
}

/// Follows a container from where its log ends. The answer turns true once everything was copied.
pub(super) fn spawn(api: Arc<Api>, name: String, spec: LogSpec, tty: bool) -> watch::Receiver<bool> {
    let (done, finished) = watch::channel(false);
    tokio::spawn(async move {
        if let Err(error) = run(&api, &name, spec, tty).await {
            tracing::warn!(container = name, %error, "log not followed");
        }
        let _ = done.send(true);
    });
    finished
}

async fn run(api: &Api, name: &str, spec: LogSpec, tty: bool) -> std::io::Result<()> {
    let path = spec.path.clone();
    let mut mark = tokio::task::spawn_blocking(move || resume(&path)).await.map_err(std::io::Error::other)??;
    let mut writer = LogWriter::open(spec)?;
    let mut wait = RETRY.0;
    // Whether it was seen to have ended before the current reading began: then that was all.
    let mut ended = false;
    loop {
        let before = mark;
        let outcome = copy(api, name, !ended, tty, &mut mark, &mut writer).await;
        match outcome {
            Ok(()) if ended => break,
            Err(failure) if failure.not_found() => break,
            outcome => {
                match api.call(Method::GET, &format!("/containers/{}/json", encode(name)), None).await {
                    Ok(container) => ended = !Inspected(container).running(),
                    Err(failure) if failure.not_found() => break,
                    Err(_) => {}
                }
                if before != mark {
                    wait = RETRY.0;
                }
                if !ended || outcome.is_err() {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }
    writer.sync();
    Ok(())
}

/// Copies what comes after `mark`.
async fn copy(
    api: &Api,
    name: &str,
    follow: bool,
    tty: bool,
    mark: &mut Mark,
    writer: &mut LogWriter,
) -> Result<(), Failure> {
    let since = match mark.time {
        0 => String::new(),
        time => format!("&since={}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
    };
    let path = format!("/containers/{}/logs?stdout=1&stderr=1&timestamps=1&follow={follow}{since}", encode(name));
    let response = api.stream(Method::GET, &path, full(bytes::Bytes::new()), &[("content-type", "text/plain")]).await?;
    let mut body = response.into_body();
    let mut decoder = Decoder::new(tty);
    let mut lines = Vec::new();
    let mut place = Place { from: *mark, seen: 0, open: [None, None] };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Gone(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        decoder.push(data);
        while let Some((stream, data)) = decoder.next() {
            if !tty {
                place.take(stream, &data, mark, writer);
                continue;
            }
            lines.extend_from_slice(&data);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                place.take(stream, &line, mark, writer);
            }
        }
    }
    if !lines.is_empty() {
        place.take(Stream::Stdout, &lines, mark, writer);
    }
    Ok(())
}

/// Where a reading began, and how many entries with that time it met.
struct Place {
    from: Mark,
    seen: u32,
    /// Time of the last part of each stream's line, where the line had not ended.
    open: [Option<i128>; 2],
}

impl Place {
    /// Takes an entry `<time> <text>` unless it was taken before.
    fn take(&mut self, stream: Stream, entry: &[u8], mark: &mut Mark, writer: &mut LogWriter) {
        let (time, text) = match entry.iter().position(|byte| *byte == b' ') {
            Some(end) => (std::str::from_utf8(&entry[..end]).ok().and_then(nanos), &entry[end + 1..]),
            None => (None, entry),
        };
        let Some(time) = time else { return writer.write(stream, entry, mark.time) };
        if time < self.from.time {
            return;
        }
        if time == self.from.time {
            self.seen += 1;
            if self.seen <= self.from.entries {
                return;
            }
        }
        let open = &mut self.open[stream as usize];
        // Some daemons lose the line break after the last part of a long line. All parts of a line have one time.
        if open.is_some_and(|open| open != time) {
            writer.write(stream, b"\n", time);
        }
        let last_part = *open == Some(time) && text.len() < PART;
        writer.write(stream, text, time);
        *open = None;
        match text.ends_with(b"\n") {
            true => {}
            false if last_part => writer.write(stream, b"\n", time),
            false => {
                writer.flush_partial(time);
                *open = (text.len() >= PART).then_some(time);
            }
        }
        *mark = Mark { time, entries: if time == mark.time { mark.entries + 1 } else { 1 } };
    }
}

/// How far the log at `path` came. A line that was not written to its end is cut off.
fn resume(path: &Path) -> std::io::Result<Mark> {
    resume::resume(path, TAIL, |tail| {
        let whole = resume::whole_lines(tail);
        let mut times = tail[..whole].split(|byte| *byte == b'\n').rev().skip(1).map(|line| {
            let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            std::str::from_utf8(&line[..end]).ok().and_then(nanos)
        });
        let mark = times.next().flatten().map(|time| {
            let same = times.take_while(|other| *other == Some(time)).count();
            Mark { time, entries: u32::try_from(same).unwrap_or(u32::MAX).saturating_add(1) }
        });
        (whole, mark)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: &str = "2026-01-01T00:00:00.000000001Z";
    const T3: &str = "2026-01-01T00:00:00.000000003Z";
    const T2: &str = "2026-01-01T00:00:00.000000002Z";

    #[test]
    fn long_lines_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::open(LogSpec { path: path.clone(), max_bytes: 1 << 20, max_files: 2 }).unwrap();
        let mut place = Place { from: Mark::default(), seen: 0, open: [None, None] };
        let part = "x".repeat(PART);
        for entry in [
            format!("{T1} {part}"),
            format!("{T1} rest"),
            format!("{T2} {part}"),
            format!("{T3} a\n"),
            format!("{T3} end"),
        ] {
            place.take(Stream::Stdout, entry.as_bytes(), &mut Mark::default(), &mut writer);
        }
        let text = std::fs::read_to_string(&path).unwrap().replace(&part, "X");
        let expect = format!(
            "{T1} stdout P X\n{T1} stdout F rest\n{T2} stdout P X\n{T3} stdout F \n{T3} stdout F a\n{T3} stdout P end\n"
        );
        assert_eq!(text, expect);
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(resume(&path).unwrap(), Mark::default());
        std::fs::write(&path, format!("{T1} stdout F a\n{T2} stdout P b\n{T2} stderr F c\n{T2} stdo")).unwrap();
        let mark = resume(&path).unwrap();
        assert_eq!(mark, Mark { time: nanos(T2).unwrap(), entries: 2 });
        let spec = LogSpec { path: path.clone(), max_bytes: 1 << 20, max_files: 2 };
        let mut writer = LogWriter::open(spec).unwrap();
        let (mut now, mut place) = (mark, Place { from: mark, seen: 0, open: [None, None] });
        for entry in [format!("{T1} a\n"), format!("{T2} b"), format!("{T2} c\n"), format!("{T2} d\n")] {
            place.take(Stream::Stdout, entry.as_bytes(), &mut now, &mut writer);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expect = format!("{T1} stdout F a\n{T2} stdout P b\n{T2} stderr F c\n{T2} stdout F d\n");
        assert_eq!(text, expect);
        assert_eq!(now.entries, 3);
        // Just rotated: the end is in the file before.
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        assert_eq!(resume(&path).unwrap(), now);
    }
}
